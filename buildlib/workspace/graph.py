"""The graph of local dependencies: closures, cycles, paths that lead nowhere, versions that contradict each other.

Knows projects as values. Reads nothing.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from buildlib.workspace.model import Dependency, Problem, Project, Workspace

Holds = Callable[[str, str], bool]
"""Says of a marker, and of the extra that was asked for (or ""), whether it is true where the result will run."""


def local_dependencies(workspace: Workspace, project: Project, extras: Iterable[str] = ()) -> tuple[Dependency, ...]:
    """Return the direct local dependencies of `project`, those of the named extras included, sorted by name.

    A plain name equal to another project's is local: an index never resolves it.
    """
    wanted = [d for d in _wanted(project, ("", *extras)) if d.name in workspace.projects and d.name != project.name]
    return tuple(sorted(wanted, key=lambda d: d.name))


def closure(workspace: Workspace, name: str, holds: Holds | None = None) -> tuple[str, ...]:
    """Return the names of all local dependencies of `name`, transitively, without itself, sorted.

    Args:
        holds: says of a marker whether it is true; None: all count.
    """
    return tuple(sorted((reached(workspace, name, holds) & workspace.projects.keys()) - {name}))


def reached(workspace: Workspace, name: str, holds: Holds | None = None) -> set[str]:
    """Return the names that `name` and its local closure depend on, third-party ones too."""
    return {needed.name for needed in needs(workspace, name, holds)}


def needs(workspace: Workspace, name: str, holds: Holds | None = None) -> set[Dependency]:
    """Return all that `name` and its local closure depend on, third-party packages too.

    An extra that is asked for counts, `name[extra]` of the project itself too.
    """
    found: set[Dependency] = set()
    seen: set[tuple[str, str]] = set()
    todo = [(name, "")]
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        for needed in _wanted(workspace.projects[one[0]], (one[1],)):
            if not needed.marker or holds is None or holds(needed.marker, one[1]):
                found.add(needed)
                local = needed.name in workspace.projects
                todo += [(needed.name, extra) for extra in ("", *needed.extras)] if local else ()
    return found


def _wanted(project: Project, extras: Iterable[str]) -> list[Dependency]:
    """Return the dependencies of `project` by extra; the main ones by ""."""
    return [d for extra in extras for d in (project.optional.get(extra, ()) if extra else project.dependencies)]


def checked(workspace: Workspace) -> Workspace:
    """Return `workspace` with what only the whole graph tells: which projects are packages, and what is wrong with
    one: cycles, paths to nowhere, versions that contradict each other."""
    projects = _packages(workspace)
    by_path = {p.path: p for p in projects.values()}
    for name, problem in (*_astray(workspace, by_path), *_cycles(workspace), *_contradictions(workspace)):
        if projects[name].problem is None:
            projects[name] = replace(projects[name], problem=problem)
    return replace(workspace, projects=projects)


def _packages(workspace: Workspace) -> dict[str, Project]:
    """Return the projects; of each without a build system (`package` is None) whether it is a package all the same.

    One that another needs is (uv's rule). A library is, with PEP 518's default backend; unless it is the root, which
    then only names what the others share, or uv manages the workspace. A service is run from its sources.
    """
    undecided = {name for name, project in workspace.projects.items() if project.package is None}
    needed = {name for project in workspace.projects.values() for name in _needed(project) if name != project.name}
    projects = dict(workspace.projects)
    for name in undecided:
        project = projects[name]
        default = project.kind == "library" and project.path != "" and not workspace.is_uvs
        projects[name] = replace(project, package=name in needed or default)
    return projects


def _needed(project: Project) -> Iterable[str]:
    """Yield the names that `project` needs, to be built too."""
    yield from (d.name for d in _wanted(project, ("", *project.optional)))
    yield from filter(None, map(required_name, project.build_requires))


def required_name(requirement: str) -> str:
    """Return the name in a PEP 508 requirement, normalized (PEP 503); empty if there is none."""
    said = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    return re.sub(r"[-_.]+", "-", said[1]).lower() if said else ""


def _contradictions(workspace: Workspace) -> Iterable[tuple[str, Problem]]:
    """Yield the projects that want versions of others here which those do not have.

    Only what is certain: a version that the build works out, or a wish under a marker, is judged with staged wheels.
    """
    for project in workspace.projects.values():
        for wanted in _wanted(project, ("", *project.optional)):
            other = workspace.projects.get(wanted.name)
            if other is None or not (other.version and wanted.specifier) or wanted.marker or other is project:
                continue
            if not admits(wanted.specifier, other.version):
                cause = f"it wants {wanted.name}{wanted.specifier}, but {other.pyproject} has version {other.version}"
                yield project.name, Problem(project.pyproject, cause, "change one of the two")


@lru_cache(maxsize=4096)
def admits(specifier: str, version: str) -> bool:
    """Return whether a PEP 440 specifier admits a version, prereleases too; True of what is none of the two."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        return SpecifierSet(specifier).contains(Version(version), prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return True


def _astray(workspace: Workspace, by_path: Mapping[str, Project]) -> Iterable[tuple[str, Problem]]:
    """Yield the projects whose local dependencies are declared, but are not where they are said to be."""
    for project in workspace.projects.values():
        needed = {d.name for d in _wanted(project, ("", *project.optional))} - workspace.projects.keys()
        for name in sorted(needed & project.declared_paths.keys()):
            cause, cure = _no_project(name, project.declared_paths[name], by_path)
            yield project.name, Problem(project.pyproject, cause, cure)
        for name in sorted(needed & project.members):
            cause = f"{name} is said to be in this workspace, where no project has that name"
            cure = "add its directory to libs in [tool.buildlib] of the root"
            yield project.name, Problem(project.pyproject, cause, cure)


def _no_project(name: str, directory: str, by_path: Mapping[str, Project]) -> tuple[str, str]:
    """Return cause and cure of a path dependency that is no project, or not the one it is called."""
    there, said = by_path.get(directory), f"the path dependency {name} points to {directory or '.'}"
    if there is not None and there.problem is not None:
        return f"{said}, whose name cannot be read", f"mend {there.pyproject}"
    if there is not None:
        return f"{said}, whose name is {there.name}", f"depend on {there.name}"
    if directory.startswith(("/", "../")) or directory == "..":
        return f"{said}, outside the workspace", "move it into the workspace, or depend on a release of it"
    return f"{said}, where no project is", "correct the path, or add the project"


def _cycles(workspace: Workspace) -> Iterable[tuple[str, Problem]]:
    """Yield every project on a cycle of main dependencies, with the shortest cycle that it is on, named in full.

    All on one cycle have the same problem, at the first of them by name: it is one fault, and is said once.
    """
    edges = _knotted({n: _direct(workspace, p) for n, p in workspace.projects.items()})
    for name in edges:
        if cycle := _shortest_cycle(name, edges)[1:]:
            first = cycle.index(min(cycle))
            around = [*cycle[first:], *cycle[: first + 1]]
            cause = f"its dependencies form a cycle: {' -> '.join(around)}"
            yield name, Problem(workspace.projects[around[0]].pyproject, cause, "remove one of them")


def _direct(workspace: Workspace, project: Project) -> list[str]:
    # `name[extra]` of the project itself is no cycle: it only asks for more of the others.
    found = {d.name for d in project.dependencies if not (d.name == project.name and d.extras)}
    return sorted(found & workspace.projects.keys())


def _knotted(edges: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return the part of a graph in which cycles may be: without names that need nobody, and so on to the end."""
    waiting = {name: len(needed) for name, needed in edges.items()}
    dependents: dict[str, list[str]] = {name: [] for name in edges}
    for name, needed in edges.items():
        for each in needed:
            dependents[each].append(name)
    free = [name for name, count in waiting.items() if count == 0]
    for name in free:
        for each in dependents[name]:
            waiting[each] -= 1
            free += [each] if waiting[each] == 0 else []
    return {name: [n for n in needed if waiting[n]] for name, needed in edges.items() if waiting[name]}


def _shortest_cycle(name: str, edges: Mapping[str, list[str]]) -> list[str]:
    """Return the names of a shortest cycle through `name`, which begins and ends it; empty if it is on none."""
    before: dict[str, str] = {}
    todo = [name]
    for one in todo:
        for after in edges[one]:
            if after == name:
                trail = [one]
                while trail[-1] != name:
                    trail.append(before[trail[-1]])
                return [*trail[::-1], name]
            if after not in before:
                before[after] = one
                todo.append(after)
    return []
