"""The globs that say where the projects of a workspace are: the fewest that catch exactly those.

Knows discovery's rules. Reads directories only; does not know how configuration is written.
"""

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from buildlib.workspace.config import LIBS, SERVICES
from buildlib.workspace.discover import FOLDERS, Rules
from buildlib.workspace.model import Project, Workspace
from buildlib.workspace.tree import Tree


@dataclass(frozen=True)
class Globs:
    """`libs` and `services` of `[tool.buildlib]`."""

    libs: tuple[str, ...]
    services: tuple[str, ...]


def globs_of(tree: Tree, rules: Rules, workspace: Workspace) -> Globs:
    """Return globs for the projects of `workspace`: what is configured as it is, uv's members where they say the same.

    A new project beside others is caught by the glob that catches those; whether all of it is true is for the caller
    to see, by reading the workspace with them.
    """
    kinds = {p.path: p.kind for p in workspace.projects.values()} | _clashing(tree, workspace)
    services = sorted(path for path, kind in kinds.items() if kind == "service")
    libs = sorted(path for path, kind in kinds.items() if kind == "library")
    if rules.members is not None and not rules.configured:
        return _of_members(tree, rules, kinds)
    return Globs(
        rules.config.libs or _short(tree, libs, kinds.keys()) or LIBS,
        rules.config.services or _short(tree, services, services) or SERVICES,
    )


def exact(workspace: Workspace) -> Globs:
    """Return the directories of all projects, each named: no glob is shorter than the truth."""
    of: Mapping[str, list[str]] = {"library": [], "service": []}
    for project in sorted(workspace.projects.values(), key=lambda p: p.path):
        of[project.kind].append(_named(project.path))
    return Globs(tuple(of["library"]), tuple(of["service"]))


def _clashing(tree: Tree, workspace: Workspace) -> dict[str, str]:
    """Return the directories that a clash of names hides, with their kind: they stay part of the workspace."""
    found, known = {}, workspace.paths
    for project in workspace.projects.values():
        place = posixpath.dirname(project.problem.place) if project.problem else project.path
        if place not in known and tree.entry(posixpath.join(place, "pyproject.toml")) is not None:
            found[place] = project.kind
    return found


def _of_members(tree: Tree, rules: Rules, kinds: Mapping[str, str]) -> Globs:
    """Return uv's own globs, each for the kind of what it catches, and every other project by name."""
    found: dict[str, list[str]] = {"library": [], "service": []}
    named: set[str] = set()
    for pattern in dict.fromkeys(rules.members or ()):
        caught = [d for d in tree.directories(pattern) if _has_project(tree, d)]
        if all(d in kinds for d in caught):  # else uv excludes one of them
            only = {kinds[d] for d in caught} == {"service"}
            found["service" if only else "library"].append(pattern)
            named |= {d for d in caught if only or kinds[d] == "library"}
    for path in sorted(kinds.keys() - named):
        found[kinds[path]].insert(0, _named(path)) if not path else found[kinds[path]].append(_named(path))
    return Globs(tuple(found["library"]), tuple(found["service"]))


def _short(tree: Tree, wanted: Iterable[str], allowed: Iterable[str]) -> tuple[str, ...]:
    """Return globs that catch `wanted`, and of what else there is only what is `allowed`."""
    allowed, folders = set(allowed), dict[str, list[str]]()
    for path in wanted:
        folders.setdefault(posixpath.dirname(path), []).append(path)
    found: list[str] = []
    for folder, paths in folders.items():
        glob = f"{_escaped(folder)}/*"
        several = folder in FOLDERS or len(paths) > 1
        fits = several and all(d in allowed for d in tree.directories(glob) if _has_project(tree, d))
        found += [glob] if folder and fits else map(_named, paths)
    return tuple(found)


def _has_project(tree: Tree, directory: str) -> bool:
    return tree.entry(f"{directory}/pyproject.toml") is not None


def _named(path: str) -> str:
    return _escaped(path) if path else "."


def _escaped(path: str) -> str:
    from glob import escape

    return escape(path)


def same_projects(one: Workspace, other: Workspace) -> bool:
    """Return whether two workspaces have the same projects, of the same kinds."""

    def told(projects: Mapping[str, Project]) -> set[tuple[str, str, str]]:
        return {(p.name, p.path, p.kind) for p in projects.values()}

    return told(one.projects) == told(other.projects)
