"""A tree read into a `Workspace`: configuration, discovery, metadata.

One bad project does not hide the others: what is wrong with it is kept as a `Problem`. Knows what a directory with a
`pyproject.toml` in it is. Does not know how anything is built.
"""

import hashlib
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from buildlib.errors import BuildlibError
from buildlib.workspace.config import RootConfig
from buildlib.workspace.discover import OF_SERVICES, Rules, is_hidden, places, read_rules
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
    rules = root_rules(tree)
    memo = {} if memo is None else memo
    reader = _Reader(tree, rules.config, dict(memo))
    reader.looked |= {"pyproject.toml", ".python-version", "buildlib.lock", "dodo.py"}
    for place in places(tree, rules, reader.real, reader.looked):
        reader.add(place.directory, place.kind, place.named)
    reader.follow_paths([*reader.found.values(), *(reader.searched_root() if rules.searched else ())])
    memo.clear()
    memo.update(reader.used)
    looked, skipped = tuple(sorted(reader.looked)), tuple(reader.skipped)
    return Workspace(rules.config, _unique(reader.found.values()), looked, skipped, rules.members is not None)


def root_rules(tree: Tree) -> Rules:
    """Return what the root says of where projects are. Raises `BuildlibError`: that is wrong."""
    if tree.entry("pyproject.toml") is None:
        return Rules(RootConfig())
    return read_rules(parse_toml("pyproject.toml", tree.read("pyproject.toml")), "pyproject.toml")


class _Reader:
    """Collects projects by directory; a directory is read once, in the first kind that claims it.

    Attributes:
        found: projects by directory. used: the same, as `Memo` has them.
        looked: paths on which depends what is found. skipped: what looks like a project and is none.
    """

    def __init__(self, tree: Tree, config: RootConfig, memo: Memo) -> None:
        self.tree, self.config, self.stamp, self.memo = tree, config, repr(config), memo
        self.found: dict[str, Project] = {}
        self.used: Memo = {}
        self.looked: set[str] = set()
        self.skipped: list[Problem] = []
        self._seen: set[str] = set()

    def add(self, directory: str, kind: str = "", named: bool = True) -> None:
        """Read the project in `directory`, if there is one (see `Place`)."""
        place = self.real(directory)
        if place in self._seen or place.startswith(("..", "/")) or any(map(is_hidden, place.split("/"))):
            return
        self._seen.add(place)
        project = self._project(place, kind or self._kind(directory, place), named)
        if project is not None:
            self.found[place] = project

    def real(self, directory: str) -> str:
        """Return where `directory` is, links followed: git lists files there, and a project has one place."""
        for place in (directory, *parents(directory)):
            entry = self.tree.entry(place) if place else None
            if entry is not None and entry.target is not None and self.tree.is_directory(place):
                above = posixpath.join(posixpath.dirname(place), entry.target)
                real = posixpath.normpath(posixpath.join(above, posixpath.relpath(directory, place)))
                return self.real("" if real == "." else real)
        return directory

    def _kind(self, directory: str, place: str) -> str:
        """Return the kind of what no services glob names: where there are such globs, it is a library."""
        if self.config.services is not None:
            return "library"
        if directory.partition("/")[0] in OF_SERVICES:
            return "service"
        dockerfile = posixpath.join(place, "Dockerfile")
        self.looked.add(dockerfile)
        return "library" if self.tree.entry(dockerfile) is None else "service"

    def _project(self, place: str, kind: str, named: bool) -> Project | None:
        """Return the project in `place`, with what is wrong with it; None where there is none."""
        path = posixpath.join(place, "pyproject.toml")
        data: bytes | None = None
        try:
            entry = self.tree.entry(path)
            if entry is None and not self.tree.is_directory(path):
                self.looked.add(place or ".")
                return None
            # Of a link the entry knows only where it points; a directory is none, and reading it says so.
            sha256 = entry.sha256 if entry is not None else ""
            key = (place, kind, sha256 or hashlib.sha256(self.tree.read(path)).hexdigest(), self.stamp)
            if key not in self.memo:
                data = self.tree.read(path)
                self.memo[key] = read_metadata(place, data, kind, self.config)
            self.used[key] = self.memo[key]
        except BuildlibError as error:
            self.looked.add(path)
            if data is not None and (template := template_reason(data)):
                self.skipped.append(Problem(path, f"a template ({template})", "skipped"))
                return None
            if data is not None and not named and _is_no_project(data):
                return None
            return Project(name=likely_name(place, data or b""), path=place, kind=kind, problem=Problem.of(error))
        return self.memo[key] if place else self._root(self.memo[key])

    def _root(self, project: Project) -> Project:
        """Return the root; one of Poetry's without a module is no package (`poetry install --no-root`): it gathers."""
        if not project.package or not project.backend.startswith("poetry."):
            return project
        poetry = parse_toml(project.pyproject, self.tree.read(project.pyproject)).get("tool", {}).get("poetry", {})
        module = project.name.replace("-", "_")
        places = [folder + name for folder in ("", "src/") for name in (module, f"{module}.py")]
        self.looked |= {".", "src"}
        there = any(self.tree.entry(path) or self.tree.is_directory(path) for path in places)
        return project if there or "packages" in poetry else replace(project, package=False)

    def searched_root(self) -> Iterable[Project]:
        """Yield the root, if it is a project: what its path dependencies reach counts, those of its groups too.

        It is one of the workspace only if it needs what is here, or if it is all there is: many a root only names tools
        for the others.
        """
        root = self._project("", "library", named=False)
        if root is None or (root.problem is not None and self.found):
            return
        yield root
        alone = not self.found and not root.declared_paths
        if alone or any(d.name in root.declared_paths or d.name in root.members for d in root.dependencies):
            self.add("")

    def follow_paths(self, todo: list[Project]) -> None:
        """Add the projects that only a path dependency of `todo` reaches, and so on."""
        for project in todo:
            for directory in project.declared_paths.values():
                if self.real(directory) not in self._seen and self.tree.is_directory(directory or "."):
                    self.add(directory)
                    todo += [self.found[place]] if (place := self.real(directory)) in self.found else []


def template_reason(data: bytes) -> str:
    """Return why a `pyproject.toml` that is wrong is only the template of one; empty if it is none."""
    raw = _parsed(data)
    if raw is None:
        return "it holds {{ … }} or {% … %}" if re.search(rb"\{\{|\{%", data) else ""
    tables = [raw.get("project"), _tool(raw, "poetry")]
    names = [table["name"] for table in tables if isinstance(table, Mapping) and isinstance(table.get("name"), str)]
    return next((f"its name is {name!r}" for name in names if _PLACEHOLDER.search(name)), "")


_PLACEHOLDER = re.compile(r"[{}<>$%@]|^_.*_$")


def _is_no_project(data: bytes) -> bool:
    """Return whether a `pyproject.toml` has only tables of tools in it: Poetry's without a name is one of those."""
    raw = _parsed(data)
    if raw is None:
        return False
    poetry = _tool(raw, "poetry")
    named = isinstance(poetry, Mapping) and ("name" in poetry or "package-mode" in poetry)
    return "project" not in raw and "build-system" not in raw and not named


def _tool(raw: Mapping[str, Any], name: str) -> Any:
    tool = raw.get("tool", {})
    return tool.get(name) if isinstance(tool, Mapping) else None


def _parsed(data: bytes) -> Mapping[str, Any] | None:
    try:
        return parse_toml("pyproject.toml", data)
    except BuildlibError:
        return None


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
