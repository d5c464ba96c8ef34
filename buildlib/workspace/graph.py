"""The graph of local dependencies: closures, cycles, paths that lead nowhere.

Knows projects as values. Reads nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from buildlib.workspace.model import Dependency, Problem, Project, Workspace


def local_dependencies(workspace: Workspace, project: Project, extras: Iterable[str] = ()) -> tuple[Dependency, ...]:
    """Return the direct local dependencies of `project`, those of the named extras included, sorted by name.

    A plain name equal to another project's is local: an index never resolves it.
    """
    wanted = list(project.dependencies)
    for extra in extras:
        wanted += project.optional.get(extra, ())
    local = [d for d in wanted if d.name in workspace.projects and d.name != project.name]
    return tuple(sorted(local, key=lambda d: d.name))


def closure(workspace: Workspace, name: str) -> tuple[str, ...]:
    """Return the names of all local dependencies of `name`, transitively, without itself, sorted."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    todo: list[tuple[str, tuple[str, ...]]] = [(name, ())]
    while todo:
        one = todo.pop()
        if one not in seen:
            seen.add(one)
            todo += [(d.name, d.extras) for d in local_dependencies(workspace, workspace.projects[one[0]], one[1])]
    return tuple(sorted({n for n, _ in seen} - {name}))


def checked(workspace: Workspace) -> Workspace:
    """Return `workspace` with the problems of its graph on the projects they concern: cycles, missing path dependencies."""
    projects = dict(workspace.projects)
    for name, problem in _missing_paths(workspace) | _cycles(workspace):
        if projects[name].problem is None:
            projects[name] = replace(projects[name], problem=problem)
    return replace(workspace, projects=projects)


def _missing_paths(workspace: Workspace) -> set[tuple[str, Problem]]:
    found, paths = set(), workspace.paths
    for project in workspace.projects.values():
        needed = {d.name for d in project.dependencies}
        for name, directory in project.declared_paths.items():
            if directory not in paths and name in needed and name not in workspace.projects:
                cause = f"the path dependency {name} points to {directory}, where no project is"
                found.add((project.name, Problem(project.pyproject, cause, "correct the path, or add the project")))
    return found


def _cycles(workspace: Workspace) -> set[tuple[str, Problem]]:
    """Return every project on a cycle with the cycle named in full (an iterative depth-first search: no recursion limit)."""
    edges = {n: [d.name for d in local_dependencies(workspace, p)] for n, p in workspace.projects.items()}
    state: dict[str, int] = {}
    found: set[tuple[str, Problem]] = set()
    for start in edges:
        trail: list[str] = []
        stack: list[tuple[str, int]] = [(start, 0)] if start not in state else []
        while stack:
            name, step = stack.pop()
            if step == 0:
                state[name] = 1
                trail.append(name)
            if step < len(edges[name]):
                stack.append((name, step + 1))
                after = edges[name][step]
                if state.get(after) == 1:
                    found |= _cycle(workspace.projects, trail[trail.index(after) :])
                elif after not in state:
                    stack.append((after, 0))
            else:
                state[name] = 2
                trail.pop()
    return found


def _cycle(projects: Mapping[str, Project], names: list[str]) -> set[tuple[str, Problem]]:
    said = " -> ".join([*names, names[0]])
    cure = "remove one of these dependencies"
    return {(n, Problem(projects[n].pyproject, f"its dependencies form a cycle: {said}", cure)) for n in names}
