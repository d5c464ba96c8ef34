"""Where projects may be: configured globs, the members of uv's workspace, or the usual folders at any depth.

Knows the root's configuration, and directories. Does not know what a project's own file says.
"""

import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from buildlib.errors import BuildlibError
from buildlib.workspace.config import LIBS, SERVICES, RootConfig, read_root
from buildlib.workspace.tree import Tree

OF_SERVICES = ("services", "apps", "stack")
"""Folders of the root below which a project is a service, where no services are configured."""

FOLDERS = (*OF_SERVICES, "libs", "packages")
"""Folders of the root below which every project counts, where nothing says where they are."""

_NEVER = frozenset({"__pycache__", "__pypackages__", "node_modules", "site-packages"})
_MADE = frozenset({"dist", "build"})  # by a build of the project that they lie in


@dataclass(frozen=True)
class Rules:
    """What the root's `pyproject.toml` says of where projects are.

    Attributes:
        members, exclude: globs of `[tool.uv.workspace]`; None where uv manages no workspace.
        has_project: whether it has a `[project]` table (of a root that is one, uv's rule makes a member).
    """

    config: RootConfig
    members: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    has_project: bool = False

    @property
    def configured(self) -> bool:
        """Return whether globs of ours say it all."""
        return self.config.libs is not None or self.config.services is not None

    @property
    def searched(self) -> bool:
        """Return whether nothing says where projects are, so that the usual folders are searched."""
        return not self.configured and self.members is None


@dataclass(frozen=True)
class Place:
    """A directory that may hold a project ("" is the root), as it was found: links in it are not followed.

    Attributes:
        kind: `library` or `service`; empty where its place or a Dockerfile decides.
        named: whether a glob names it: then a `pyproject.toml` without a project in it is an error.
    """

    directory: str
    kind: str
    named: bool


def read_rules(raw: Mapping[str, Any], place: str) -> Rules:
    """Return what a root's parsed `pyproject.toml` says. Raises `BuildlibError` with the key that is wrong."""
    tool = _table(raw, "tool", place, "tool")
    # A root that is itself a project may keep a project's keys in the same table.
    own = {k: v for k, v in _table(tool, "buildlib", place, "tool.buildlib").items() if k not in ("inputs", "test")}
    workspace = _table(_table(tool, "uv", place, "tool.uv"), "workspace", place, "tool.uv.workspace")
    uvs = isinstance(tool.get("uv"), Mapping) and "workspace" in tool["uv"]
    return Rules(
        read_root(own, place),
        _globs(workspace, "members", place) if uvs else None,
        _globs(workspace, "exclude", place),
        "project" in raw,
    )


def _table(raw: Mapping[str, Any], key: str, place: str, where: str) -> Mapping[str, Any]:
    value = raw.get(key, {})
    if not isinstance(value, Mapping):
        raise BuildlibError(place, f"{where} is not a table", f"write it as [{where}]")
    return value


def _globs(workspace: Mapping[str, Any], key: str, place: str) -> tuple[str, ...]:
    value = workspace.get(key, [])
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        cause = f"tool.uv.workspace.{key} has the wrong type"
        raise BuildlibError(place, cause, 'write a list of strings, such as ["libs/*"]')
    return tuple(map(posixpath.normpath, value))


def places(tree: Tree, rules: Rules, real: Callable[[str], str], looked: set[str]) -> Iterator[Place]:
    """Yield every directory that may hold a project; services before the libraries that a wider glob may name.

    Args:
        real: says where a directory is, links followed.
        looked: takes every path at which a new project would show.
    """
    if rules.configured:
        config = rules.config
        services = SERVICES if config.services is None else config.services
        libs = LIBS if config.libs is None else config.libs
        yield from _matching(tree, services, "service", real, looked)
        yield from _matching(tree, libs, "" if config.services is None else "library", real, looked)
    elif rules.members is not None:
        for place in _matching(tree, rules.members, "", real, looked):
            # As uv has it, `*` stands for `/` too here.
            if not any(fnmatchcase(place.directory, pattern) for pattern in rules.exclude):
                yield place
        if rules.has_project:
            yield Place("", "", named=True)
    else:
        yield from _below(tree, real, looked)


def _matching(
    tree: Tree, globs: tuple[str, ...], kind: str, real: Callable[[str], str], looked: set[str]
) -> Iterator[Place]:
    for pattern in map(posixpath.normpath, globs):
        for directory in _looked_at(tree, pattern):  # a link and what it leads to may both change
            looked |= {directory, real(directory) or "."}
        for directory in tree.directories(pattern):
            yield Place("" if directory == "." else directory, kind, named=True)


def _looked_at(tree: Tree, pattern: str) -> set[str]:
    """Return the directories in which a new match of `pattern` would appear: at any depth where it has a wildcard."""
    found = set()
    while pattern:
        pattern = posixpath.dirname(pattern)
        found |= set(tree.directories(pattern)) if any(c in pattern for c in "*?[") else {pattern or "."}
    return found


def _below(tree: Tree, real: Callable[[str], str], looked: set[str]) -> Iterator[Place]:
    """Yield each directory below the usual folders that has a `pyproject.toml`; each once, links followed."""
    looked |= set(FOLDERS)
    seen: set[str] = set()
    todo = [(folder, "service" if folder in OF_SERVICES else "") for folder in reversed(FOLDERS)]
    while todo:
        directory, kind = todo.pop()
        place = real(directory)
        # What a link leads to counts as what it is where it lies, if that is searched too.
        if place != directory and place.partition("/")[0] in FOLDERS:
            looked.add(directory)
            continue
        if place in seen or place.startswith(("..", "/")) or not tree.is_directory(place or "."):
            continue
        seen.add(place)
        looked.add(place or ".")
        path = posixpath.join(place, "pyproject.toml")
        # A directory of that name is none, but somebody meant one: reading it says so.
        if is_project := tree.entry(path) is not None or tree.is_directory(path):
            yield Place(directory, kind, named=False)
        todo += [(child, kind) for child in reversed([*children(tree, place, is_project)]) if child not in seen]


def children(tree: Tree, directory: str, is_project: bool) -> Iterator[str]:
    """Yield the directories right in `directory` that may hold projects: none hidden, made by tools, or a venv."""
    from glob import escape

    for child in tree.directories(f"{escape(directory)}/*" if directory else "*"):
        name = posixpath.basename(child)
        if name in _NEVER or (is_project and name in _MADE) or name.endswith(".egg-info"):
            continue
        if tree.entry(f"{child}/pyvenv.cfg") is None:
            yield child


def is_hidden(name: str) -> bool:
    """Return whether a directory of this name holds no projects, whatever a glob says."""
    return name.startswith(".") or name in ("__pycache__", "node_modules")
