"""A tree read into a `Workspace`: configuration, discovery, metadata.

One bad project does not hide the others: what is wrong with it is kept as a `Problem`. Knows where projects are looked for. Does not
know how anything is built.
"""

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import replace

from buildlib.errors import BuildlibError
from buildlib.workspace.config import RootConfig, read_root
from buildlib.workspace.metadata import parse_toml, read_metadata
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
        for pattern in globs:
            looked |= _looked_at(tree, pattern)
            for directory in tree.directories(pattern):
                reader.add(directory, kind)
    reader.follow_paths()
    memo.clear()
    memo.update(reader.used)
    looked |= {d for d in reader.empty}
    return Workspace(config, _unique(reader.found.values()), tuple(sorted(looked)), tuple(reader.problems))


def _read_config(tree: Tree) -> tuple[RootConfig, str]:
    entry = tree.entry("pyproject.toml")
    if entry is None:
        return RootConfig(), ""
    raw = parse_toml("pyproject.toml", tree.read("pyproject.toml"))
    table = raw.get("tool", {}).get("buildlib", {})
    if not isinstance(table, Mapping):
        raise BuildlibError("pyproject.toml", "tool.buildlib is not a table", "write it as [tool.buildlib]")
    # A root that is itself a project may keep a project's keys in the same table.
    config = read_root({k: v for k, v in table.items() if k not in ("inputs", "test")}, "pyproject.toml")
    return config, repr(config)


def _looked_at(tree: Tree, pattern: str) -> set[str]:
    """Return the directories in which a new match of `pattern` would appear."""
    above = posixpath.dirname(pattern)
    return {above or "."} | set(tree.directories(above) if any(c in above for c in "*?[") else ())


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
        if directory in self.found or directory.startswith("..") or any(n.startswith(".") for n in directory.split("/")):
            return
        path = f"{directory}/pyproject.toml" if directory else "pyproject.toml"
        entry = self.tree.entry(path)
        if entry is None:
            self.empty.add(directory)
            return
        key = (directory, kind, entry.sha256, self.stamp)
        project = self.memo.get(key) or self._read(directory, kind, path)
        if project is not None:
            self.found[directory] = self.used[key] = project

    def _read(self, directory: str, kind: str, path: str) -> Project | None:
        try:
            return read_metadata(directory, self.tree.read(path), kind, self.config)
        except BuildlibError as error:
            name = posixpath.basename(directory)
            return Project(name=name, path=directory, kind=kind, problem=Problem.of(error))

    def follow_paths(self) -> None:
        """Add the projects that only a path dependency reaches, as libraries."""
        todo = list(self.found.values())
        for project in todo:
            for directory in project.declared_paths.values():
                if directory not in self.found and self.tree.is_directory(directory):
                    self.add(directory, "library")
                    todo += [self.found[directory]] if directory in self.found else []


def _unique(projects: Iterable[Project]) -> dict[str, Project]:
    """Return the projects by name; of two with one name, both are problems (the second under its directory's name)."""
    by_name: dict[str, Project] = {}
    for project in sorted(projects, key=lambda p: (p.name, p.path)):
        other = by_name.get(project.name)
        if other is None:
            by_name[project.name] = project
            continue
        clash = Problem(project.pyproject, f"{other.pyproject} has the same name, {project.name}", "rename one of the two")
        by_name[project.name] = replace(other, problem=clash)
    return by_name


def enclosing(workspace: Workspace, directory: str) -> Project | None:
    """Return the innermost project that holds `directory` (relative to the root), or None."""
    by_path = {p.path: p for p in workspace.projects.values()}
    return next((by_path[d] for d in (directory, *parents(directory)) if d in by_path), None)
