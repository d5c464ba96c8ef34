"""The slice of a lock that is a service's own: third-party packages, exact and hashed, for the target of its image.

Knows which lock belongs to a project, which Python its image runs, and what a slice depends on. Does not know lock
formats (that is `workspace/locks/`).
"""

import hashlib
import posixpath
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache

from buildlib.errors import BuildlibError
from buildlib.workspace import graph
from buildlib.workspace.locks import Lock, Member, Pin, Target, included, lock_files, may_include, missing, parse
from buildlib.workspace.locks.base import marker_holds
from buildlib.workspace.metadata import parse_toml
from buildlib.workspace.model import Project, Workspace
from buildlib.workspace.tree import Tree, parents

Memo = dict[tuple[str, ...], tuple[Pin, ...]]
"""Slices worked out before: by project, and a digest of everything they depend on."""


class Slices:
    """Slices by service, each worked out once.

    Args:
        memo: slices of earlier runs; holds those of this run afterwards too.
    """

    def __init__(self, tree: Tree, workspace: Workspace, memo: Memo | None = None) -> None:
        self.tree, self.workspace = tree, workspace
        self.memo: Memo = {} if memo is None else memo
        self.used: Memo = {}
        self._locks: dict[str, Lock] = {}
        self._members: dict[str, Member] = {}
        self._fresh: set[tuple[str, str, Target]] = set()
        self._closures: dict[str, tuple[str, ...]] = {}
        self._digests: dict[str, str] = {}
        self._names = frozenset(workspace.projects)
        self._stamp = hashlib.sha256(" ".join(sorted(workspace.projects)).encode()).hexdigest()

    def files(self, project: Project) -> tuple[str, ...]:
        """Return the paths that the slice of `project` is read from, those where a nearer file would count included."""
        versions, locks = _version_files(project), lock_files(project.path)
        version = next((path for path in versions if self.tree.entry(path)), versions[-1])
        # A lock of a directory above may be for others, so only an own one ends the search.
        own = (path for path in locks if posixpath.dirname(path) == project.path and self.tree.entry(path))
        locks = locks[: locks.index(next(own, locks[-1])) + 1]
        return (project.pyproject, *versions[: versions.index(version) + 1], *locks, *self._included(locks))

    def _included(self, locks: Iterable[str]) -> list[str]:
        """Return the files that those of `locks` are read from that are there, besides themselves."""
        there = [path for path in locks if may_include(path) and self.tree.entry(path) is not None]
        return [further for path in there for further in included(path, self.tree.read(path), self._content)]

    def _content(self, path: str) -> bytes | None:
        return self.tree.read(path) if self.tree.entry(path) is not None else None

    def closure(self, name: str) -> tuple[str, ...]:
        """Return the local closure of project `name`, sorted; of a service, where its image runs (by markers)."""
        if name not in self._closures:
            self._closures[name] = graph.closure(self.workspace, name, self._holds(self.workspace.projects[name]))
        return self._closures[name]

    def of(self, project: Project) -> tuple[Pin, ...]:
        """Return the pins of `project`. Raises `BuildlibError`: no lock, a stale one, a Python that does not fit."""
        target = self.target(project)
        key = (project.name, self._key(project, target))
        if key not in self.memo:
            self.check_pythons(project)
            self.memo[key] = self._slice(project, target)
        self.used[key] = self.memo[key]
        return self.memo[key]

    def target(self, project: Project) -> Target:
        """Return the Python and platform of the image of `project`. Raises `BuildlibError` if one is none."""
        image = project.config.image
        python, key = self._python(project)
        if not re.fullmatch(r"\d+\.\d+(\.\d+)?", python):
            raise BuildlibError(key, f"{python!r} is no Python version", 'write "3.12" or "3.12.4"')
        return Target(python, image.platforms[0] if image.platforms else "linux/amd64")

    def lock_path(self, project: Project) -> str:
        """Return the path of the lock of `project`; empty where it has none."""
        lock = self._lock(project)
        return lock.path if lock is not None else ""

    def declared(self, project: Project) -> tuple[str, ...] | None:
        """Return what the lock of `project` says that it requires (PEP 508); None where no lock says it."""
        lock = self._lock(project)
        return None if lock is None else lock.requires(project.name)

    # -- what it depends on

    def _key(self, project: Project, target: Target) -> str:
        """Return a digest of all that the slice depends on: target, locks, names, every pyproject of the closure."""
        paths = [path for path in lock_files(project.path) if self.tree.entry(path) is not None]
        paths += self._included(paths)
        paths += [project.pyproject, *(self.workspace.projects[name].pyproject for name in self.closure(project.name))]
        lines = [self._python(project)[1], target.python, target.platform, self._stamp, *map(self._digest, paths)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _digest(self, path: str) -> str:
        if path not in self._digests:
            entry = self.tree.entry(path)
            content = entry.sha256 if entry else ""
            if entry is not None and entry.target is not None:
                content = hashlib.sha256(self.tree.read(path)).hexdigest()
            self._digests[path] = f"{path} {content}"
        return self._digests[path]

    def _python(self, project: Project) -> tuple[str, str]:
        """Return the Python of the image as somebody wrote it, and the place where."""
        if project.config.image.python:
            return project.config.image.python, "tool.buildlib.image.python"
        for path in _version_files(project):
            if self.tree.entry(path) is not None:
                return _first_version(self.tree.read(path)), path
        return f"{sys.version_info.major}.{sys.version_info.minor}", ""

    def _holds(self, project: Project) -> graph.Holds | None:
        try:
            target = self.target(project) if project.kind == "service" else None
        except BuildlibError:  # said by the step whose work it is
            return None
        return None if target is None else lambda marker, extra: _true(marker, extra, target)

    # -- working it out

    def _slice(self, project: Project, target: Target) -> tuple[Pin, ...]:
        member, lock = self._member(project), self._lock(project)
        if lock is None:
            if foreign := self._foreign(project):
                raise missing(replace(member, requires=tuple(sorted(foreign))))
            return ()
        self._check(lock, project, target)
        for name in self.closure(project.name):
            if lock.is_list or lock.knows(self._member(self.workspace.projects[name])):
                self._check(lock, self.workspace.projects[name], target)
        pins = lock.slice(member, target)
        for pin in pins:
            _refuse_file(pin, lock)
        return pins

    def _foreign(self, project: Project) -> set[str]:
        """Return the names of the third-party packages that `project` and its closure ask for."""
        return graph.reached(self.workspace, project.name, self._holds(project)) - self._names

    def _lock(self, project: Project) -> Lock | None:
        """Return the lock of `project`: its own, else the nearest one above that knows it."""
        for path in lock_files(project.path):
            if self.tree.entry(path) is None:
                continue
            lock = self._locks.get(path) or parse(path, self.tree.read(path), self._content)
            self._locks[path] = lock
            if posixpath.dirname(path) == project.path or lock.knows(self._member(project)):
                return lock
        return None

    def _check(self, lock: Lock, project: Project, target: Target) -> None:
        """Check once that `lock` is no older than what `project` says. Raises `BuildlibError`."""
        if (lock.path, project.name, target) not in self._fresh:
            lock.check(self._member(project), target)
            self._fresh.add((lock.path, project.name, target))

    def _member(self, project: Project) -> Member:
        if project.name not in self._members:
            raw = parse_toml(project.pyproject, self.tree.read(project.pyproject))
            needs = frozenset(self._foreign(project)) if project.kind == "service" else None
            self._members[project.name] = Member(project.name, project.path, project.requires, self._names, raw, needs)
        return self._members[project.name]

    def check_pythons(self, project: Project) -> None:
        """Raise `BuildlibError` if the image's Python is one that the service or a library of its closure excludes."""
        python, key = self._python(project)
        for name in (project.name, *self.closure(project.name)):
            each = self.workspace.projects[name]
            if not _allows(each.requires_python, python):
                tools = f"this tool's Python {python}, and no other is named"
                said = f"the image's Python {python} ({key})" if key else tools
                cure = f"change {key} or requires-python" if key else 'set python = "…" in [tool.buildlib.image]'
                cause = f"requires-python {each.requires_python!r} excludes {said}"
                raise BuildlibError(each.pyproject, cause, cure)


def _version_files(project: Project) -> tuple[str, ...]:
    """Return where a `.python-version` may be, nearest first."""
    return tuple(posixpath.join(directory, ".python-version") for directory in _upwards(project.path))


def _upwards(directory: str) -> Iterator[str]:
    yield directory
    yield from parents(directory)


def _first_version(data: bytes) -> str:
    """Return the version in a `.python-version`, as pyenv and uv write it: the first line that says something."""
    lines = (line.partition("#")[0].strip() for line in data.decode("utf-8", "replace").splitlines())
    return re.sub(r"^(c?python)?[-@]?(?=\d)", "", next((line for line in lines if line), ""))


@lru_cache(maxsize=1024)
def _allows(requires_python: str, python: str) -> bool:
    """Return whether a specifier (or one of its alternatives) admits a Python; `3.12` is any patch release of it."""
    from packaging.specifiers import SpecifierSet

    # `>=3.12.2` admits 3.12, and so does `<3.12.5`: an image of that line exists.
    patches = [python] if python.count(".") > 1 else [f"{python}.{patch}" for patch in range(100)]
    alternatives = [SpecifierSet(each) for each in requires_python.split("||")]
    return any(allowed.contains(patch, prereleases=True) for allowed in alternatives for patch in patches)


def _true(marker: str, extra: str, target: Target) -> bool:
    try:
        return marker_holds(marker, target, extra)
    except ValueError:  # what cannot be evaluated is said where it is declared
        return True


def _refuse_file(pin: Pin, lock: Lock) -> None:
    if pin.direct and pin.source.startswith("file:"):
        cause = f"{pin.name} is the file {pin.source.removeprefix('file:')}, which no stage holds"
        raise BuildlibError(
            lock.path, cause, "make it a project of the workspace, or depend on a release from an index"
        )
