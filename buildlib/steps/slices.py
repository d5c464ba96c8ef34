"""The slice of a lock that is a service's own: third-party packages, exact and hashed, for the image's Python and platform.

Knows which lock belongs to a project and which Python its image runs. Does not know lock formats (that is `workspace/locks/`).
"""

import sys
from buildlib.errors import BuildlibError
from buildlib.workspace.graph import closure
from buildlib.workspace.locks import Lock, Member, Pin, Target, lock_files, missing, parse
from buildlib.workspace.metadata import parse_toml
from buildlib.workspace.model import Dependency, Project, Workspace
from buildlib.workspace.tree import Tree

Memo = dict[tuple[str, ...], tuple[Pin, ...]]
"""Slices worked out before, by everything they depend on."""


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
        self._names = " ".join(sorted(workspace.projects))

    def lock_path(self, project: Project) -> str | None:
        """Return the lock of `project`: its own, else one of a directory above it."""
        return next((path for path in lock_files(project.path) if self.tree.entry(path) is not None), None)

    def files(self, project: Project) -> tuple[str, ...]:
        """Return the paths that the slice of `project` is read from."""
        path = self.lock_path(project)
        return (project.pyproject, ".python-version", *([path] if path else lock_files(project.path)))

    def of(self, project: Project) -> tuple[Pin, ...]:
        """Return the pins of `project`. Raises `BuildlibError`: no lock, a stale one, a Python that does not fit."""
        target, path = self.target(project), self.lock_path(project)
        if path is None:
            return self._without_lock(project)
        key = (project.name, *self._stamp(project.pyproject, path), target.python, target.platform, self._names)
        if key not in self.memo:
            self.memo[key] = self._slice(project, path, target)
        self.used[key] = self.memo[key]
        return self.memo[key]

    def target(self, project: Project) -> Target:
        """Return the Python and platform of the image of `project`. Raises `BuildlibError` if requires-python excludes it."""
        image = project.config.image
        python, key = image.python, "tool.buildlib.image.python"
        if not python and self.tree.entry(".python-version") is not None:
            python, key = self._python_version(), ".python-version"
        if python:
            _check_python(project, python, key)
        else:
            python = _tools_python(project)
        return Target(python, image.platforms[0] if image.platforms else "linux/amd64")

    def _slice(self, project: Project, path: str, target: Target) -> tuple[Pin, ...]:
        member = self._member(project)
        lock = self._locks.get(path) or parse(path, self.tree.read(path))
        self._locks[path] = lock
        lock.check(member)
        return lock.slice(member, target)

    def _without_lock(self, project: Project) -> tuple[Pin, ...]:
        """Return no pins where no third-party package is needed. Raises `BuildlibError` otherwise."""
        if all(dependency.name in self.workspace.projects for dependency in self._reached(project)):
            return ()
        raise missing(self._member(project))

    def _reached(self, project: Project) -> list[Dependency]:
        """Return all main dependencies of `project` and of its local closure."""
        names = (project.name, *closure(self.workspace, project.name))
        return [d for name in names for d in self.workspace.projects[name].dependencies]

    def _member(self, project: Project) -> Member:
        raw = parse_toml(project.pyproject, self.tree.read(project.pyproject))
        return Member(project.name, project.path, project.requires, frozenset(self.workspace.projects), raw)

    def _stamp(self, *paths: str) -> tuple[str, ...]:
        entries = (self.tree.entry(path) for path in paths)
        return tuple(f"{e.path} {e.sha256}" if e else "" for e in entries)

    def _python_version(self) -> str:
        text = self.tree.read(".python-version").decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines()]
        return next((line for line in lines if line and not line.startswith("#")), "")


def _check_python(project: Project, python: str, key: str) -> None:
    from packaging.version import InvalidVersion, Version

    try:
        Version(python)
    except InvalidVersion:
        raise BuildlibError(key, f"{python!r} is no Python version", 'write "3.12" or "3.12.4"') from None
    if not _allows(project, python):
        cause = f"requires-python {project.requires_python!r} excludes the image's Python {python} ({key})"
        raise BuildlibError(project.pyproject, cause, f"change {key} or requires-python")


def _allows(project: Project, python: str) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    full = python if python.count(".") > 1 else f"{python}.0"
    try:
        allowed = SpecifierSet(project.requires_python)
    except InvalidSpecifier:
        raise BuildlibError(project.pyproject, f"requires-python {project.requires_python!r} is no specifier", "see PEP 440") from None
    # `>=3.12.2` admits 3.12: the newest patch release is meant.
    return allowed.contains(full, prereleases=True) or (python.count(".") == 1 and allowed.contains(f"{python}.99", prereleases=True))


def _tools_python(project: Project) -> str:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    if _allows(project, own):
        return own
    cause = f"requires-python {project.requires_python!r} excludes this tool's Python {own}, and no other is named"
    raise BuildlibError(project.pyproject, cause, 'set python = "…" in [tool.buildlib.image]')
