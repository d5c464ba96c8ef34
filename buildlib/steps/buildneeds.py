"""What the build of a project runs with: local projects, which are built first, and the third-party rest (PEP 518).

A local project in `build-system.requires` comes with all that it needs at run time, as any installed requirement does.
Knows projects as values and PEP 508. Reads nothing, resolves nothing.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from buildlib.errors import BuildlibError
from buildlib.workspace.graph import required_name
from buildlib.workspace.model import Dependency, Project


@dataclass(frozen=True)
class BuildNeeds:
    """What a build runs with: names of local projects, sorted, and third-party requirements (PEP 508), sorted."""

    local: tuple[str, ...]
    third_party: tuple[str, ...]


def build_needs(requires: Iterable[str], projects: Mapping[str, Project]) -> BuildNeeds:
    """Return what `requires` (PEP 508 strings) comes to among `projects` (all of the workspace, by name)."""
    third_party = {text for text in requires if local_name(text, projects) is None}
    todo = [(name, text) for text in requires if (name := local_name(text, projects)) is not None]
    found: set[str] = set()
    seen: set[str] = set()
    while todo:
        name, text = todo.pop()
        if text in seen or not _holds(text):
            continue
        seen.add(text)
        found.add(name)
        for other in _run_time(projects[name], text):
            inner = local_name(other, projects)
            if inner is not None:
                todo.append((inner, other))
            elif _holds(other):
                third_party.add(other)
    return BuildNeeds(tuple(sorted(found)), tuple(sorted(third_party)))


def local_name(requirement: str, projects: Mapping[str, Project]) -> str | None:
    """Return the name of the local project that a requirement asks for; None if it asks for somebody else's."""
    name = required_name(requirement)
    return name if name in projects else None


def check_acyclic(
    project: Project, requires: Callable[[Project], Iterable[str]], projects: Mapping[str, Project]
) -> None:
    """Return if the build of `project` does not need that project itself.

    Args:
        requires: the build requirements of a project.

    Raises:
        BuildlibError: it does; the shortest way around is named.
    """
    before: dict[str, str] = {}
    todo = [project.name]
    for one in todo:
        needed = dict.fromkeys(_direct(requires(projects[one]), projects))
        if one != project.name:
            needed |= dict.fromkeys(_direct(_run_time(projects[one], one), projects))
        if project.name in needed:
            trail = [one]
            while trail[-1] != project.name:
                trail.append(before[trail[-1]])
            cause = f"its build requirements form a cycle: {' -> '.join([*trail[::-1], project.name])}"
            raise BuildlibError(project.pyproject, cause, "build one of them with nothing that needs it")
        fresh = [name for name in needed if name not in before]
        before.update(dict.fromkeys(fresh, one))
        todo += fresh


def _direct(requires: Iterable[str], projects: Mapping[str, Project]) -> Iterator[str]:
    for text in requires:
        name = local_name(text, projects)
        if name is not None and _holds(text):
            yield name


def _run_time(project: Project, requirement: str) -> Iterator[str]:
    """Yield what `requirement`, which asks for `project`, needs at run time: its main dependencies and its extras'."""
    yield from project.requires
    for extra in _extras(requirement):
        yield from map(_text, project.optional.get(extra, ()))


def _extras(requirement: str) -> list[str]:
    said = re.match(r"\s*[A-Za-z0-9._-]+\s*\[([^\]]*)\]", requirement)
    return [re.sub(r"[-_.]+", "-", extra.strip()).lower() for extra in said[1].split(",")] if said else []


def _text(dependency: Dependency) -> str:
    extras = f"[{','.join(dependency.extras)}]" if dependency.extras else ""
    marker = f" ; {dependency.marker}" if dependency.marker else ""
    return f"{dependency.name}{extras}{dependency.specifier}{marker}"


def _holds(requirement: str) -> bool:
    """Return whether a requirement counts for the interpreter that builds."""
    if ";" not in requirement:
        return True
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        marker = Requirement(requirement).marker
    except InvalidRequirement:  # whoever resolves it will say so
        return True
    return marker is None or marker.evaluate()
