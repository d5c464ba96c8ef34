"""A tree read into a `Workspace`: configuration, discovery, metadata.

One bad project does not hide the others: what is wrong with it is kept as a `Problem`. Knows where projects are looked
for. Does not know how anything is built.
"""

import hashlib
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from buildlib.errors import BuildlibError
from buildlib.workspace.config import RootConfig, read_root
from buildlib.workspace.metadata import likely_name, parse_toml, read_metadata
from buildlib.workspace.model import Problem, Project, Workspace
from buildlib.workspace.tree import Tree, parents

Memo = dict[tuple[str, str, str, str], Project]
"""Projects read before, by directory, kind, digest of their pyproject and of the root's configuration."""


def read_workspace(tree: Tree, memo: Memo | None = None) -> Workspace:
    """Return what is in `tree`.

    Args:
        tree: the files.
        memo: projects read before; holds exactly those of this tree afterwards.

    Raises:
        BuildlibError: the root's own configuration is wrong.
    """
    config, stamp = _read_config(tree)
    memo = {} if memo is None else memo
    reader = _Reader(tree, config, stamp, dict(memo))
    looked = {"pyproject.toml", ".python-version", "buildlib.lock", "dodo.py"}
    for kind, globs in (("service", config.services), ("library", config.libs)):
        for pattern in map(posixpath.normpath, globs):
            for directory in _looked_at(tree, pattern):  # a link and what it leads to may both change
                looked |= {directory, reader.real(directory) or "."}
            for directory in tree.directories(pattern):
                reader.add("" if directory == "." else directory, kind)
    reader.follow_paths()
    memo.clear()
    memo.update(reader.used)
    looked |= reader.empty
    return Workspace(config, _unique(reader.found.values()), tuple(sorted(looked)), tuple(reader.problems))


def _read_config(tree: Tree) -> tuple[RootConfig, str]:
    entry = tree.entry("pyproject.toml")
    if entry is None:
        return RootConfig(), ""
    table: Any = parse_toml("pyproject.toml", tree.read("pyproject.toml"))
    for key in ("tool", "buildlib"):
        table = table.get(key, {})
        if not isinstance(table, Mapping):
            raise BuildlibError("pyproject.toml", f"{key} is not a table", "write it as [tool.buildlib]")
    # A root that is itself a project may keep a project's keys in the same table.
    config = read_root({k: v for k, v in table.items() if k not in ("inputs", "test")}, "pyproject.toml")
    for key, globs in (("libs", config.libs), ("services", config.services)):
        for pattern in globs:
            if posixpath.normpath(pattern).startswith(("/", "..")) or not pattern:
                cause = f"tool.buildlib.{key} names {pattern!r}, which is no place in the workspace"
                raise BuildlibError("pyproject.toml", cause, "write globs of directories below the root")
    return config, repr(config)


def _looked_at(tree: Tree, pattern: str) -> set[str]:
    """Return the directories in which a new match of `pattern` would appear: at any depth where it has a wildcard."""
    found = set()
    while pattern:
        pattern = posixpath.dirname(pattern)
        found |= set(tree.directories(pattern)) if any(c in pattern for c in "*?[") else {pattern or "."}
    return found


class _Reader:
    """Collects projects by directory; a directory is read once, in the first kind that claims it."""

    def __init__(self, tree: Tree, config: RootConfig, stamp: str, memo: Memo) -> None:
        self.tree, self.config, self.stamp, self.memo = tree, config, stamp, memo
        self.found: dict[str, Project] = {}
        self.used: Memo = {}
        self.empty: set[str] = set()
        self.problems: list[Problem] = []

    def add(self, directory: str, kind: str) -> None:
        """Read the project in `directory`, if there is one."""
        directory = self.real(directory)
        if directory in self.found or directory.startswith(("..", "/")) or any(map(_is_hidden, directory.split("/"))):
            return
        path = f"{directory}/pyproject.toml" if directory else "pyproject.toml"
        try:
            self._add(directory, kind, path)
        except BuildlibError as error:  # it is there, and cannot be opened
            broken = Project(name=likely_name(directory, b""), path=directory, kind=kind, problem=Problem.of(error))
            self.found[directory] = broken

    def real(self, directory: str) -> str:
        """Return where `directory` is, links followed: git lists files there, and a project has one place."""
        for place in (directory, *parents(directory)):
            entry = self.tree.entry(place) if place else None
            if entry is not None and entry.target is not None and self.tree.is_directory(place):
                above = posixpath.join(posixpath.dirname(place), entry.target)
                real = posixpath.normpath(posixpath.join(above, posixpath.relpath(directory, place)))
                return self.real("" if real == "." else real)
        return directory

    def _add(self, directory: str, kind: str, path: str) -> None:
        entry = self.tree.entry(path)
        if entry is None:
            self.empty.add(directory or ".")
            return
        # Of a link the entry knows only where it points.
        digest = entry.sha256 or hashlib.sha256(self.tree.read(path)).hexdigest()
        key = (directory, kind, digest, self.stamp)
        self.found[directory] = self.used[key] = self.memo.get(key) or self._read(directory, kind, path)

    def _read(self, directory: str, kind: str, path: str) -> Project:
        data = self.tree.read(path)
        try:
            return read_metadata(directory, data, kind, self.config)
        except BuildlibError as error:
            return Project(name=likely_name(directory, data), path=directory, kind=kind, problem=Problem.of(error))

    def follow_paths(self) -> None:
        """Add the projects that only a path dependency reaches, as libraries."""
        todo = list(self.found.values())
        for project in todo:
            for directory in project.declared_paths.values():
                if directory not in self.found and self.tree.is_directory(directory or "."):
                    self.add(directory, "library")
                    todo += [self.found[directory]] if directory in self.found else []


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__pycache__", "node_modules")


def _unique(projects: Iterable[Project]) -> dict[str, Project]:
    """Return the projects by name; of two with one name the first stands, with the problem."""
    by_name: dict[str, Project] = {}
    # One that cannot be read comes after one that can, and what is wrong with it is said first: its name is a guess.
    for project in sorted(projects, key=lambda p: (p.name, p.problem is not None, p.path)):
        other = by_name.setdefault(project.name, project)
        if other is not project and other.problem is None:
            cause = f"{other.pyproject} has the same name, {project.name}"
            clash = project.problem or Problem(project.pyproject, cause, "rename one of the two")
            by_name[project.name] = replace(other, problem=clash)
    return by_name


def enclosing(workspace: Workspace, directory: str) -> Project | None:
    """Return the innermost project that holds `directory` (relative to the root), or None."""
    by_path = {p.path: p for p in workspace.projects.values()}
    return next((by_path[d] for d in (directory, *parents(directory)) if d in by_path), None)
