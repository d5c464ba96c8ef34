"""Dependencies that `[project]` leaves to its backend (PEP 621, `dynamic`): from the lock, else from a built wheel.

What a backend said is remembered by the key of all that the wheel is made from. Knows locks and wheels. Does not know
the graph, which is worked out from what is found here.
"""

from collections.abc import Iterable
from dataclasses import replace

from buildlib.errors import BuildlibError
from buildlib.fingerprint.parts import fingerprint
from buildlib.plan import Step
from buildlib.steps import wheel
from buildlib.steps.fit import requires
from buildlib.steps.slices import Slices
from buildlib.steps.workshop import Outdated, Workshop
from buildlib.workspace.locks import lock_files
from buildlib.workspace.metadata import with_requires
from buildlib.workspace.model import Problem, Project, Workspace

Memo = dict[str, tuple[str, tuple[str, ...]]]
"""What backends said: by project, the key under which it said so and its requirements (PEP 508)."""

ATTEMPTS = 5


def from_locks(workspace: Workspace, slices: Slices) -> tuple[Workspace, tuple[str, ...]]:
    """Return the workspace with what locks say of dynamic dependencies, and the names of which no lock tells."""
    projects, unknown, looked = dict(workspace.projects), [], set(workspace.looked)
    for name, project in workspace.projects.items():
        if project.problem is not None or project.dynamic.isdisjoint(("dependencies", "optional-dependencies")):
            continue
        looked.update(lock_files(project.path))
        try:
            said = slices.declared(project)
        except BuildlibError as error:
            projects[name] = replace(project, problem=Problem.of(error))
            continue
        if said is None:
            unknown.append(name)
        else:
            projects[name] = with_requires(project, said)
    return replace(workspace, projects=projects, looked=tuple(sorted(looked))), tuple(unknown)


def from_backends(workspace: Workspace, names: Iterable[str], memo: Memo, workshop: Workshop, acts: bool) -> Workspace:
    """Return the workspace with what the backends of the projects called `names` say that those require.

    Args:
        memo: what they said before; holds what they say now afterwards.
        acts: whether a backend may be asked. Where not, what it said last stands: a plan is no promise of more.
    """
    projects = dict(workspace.projects)
    for name in names:
        try:
            projects[name] = with_requires(projects[name], _said(projects[name], memo, workshop, acts))
        except BuildlibError as error:
            projects[name] = replace(projects[name], problem=Problem.of(error))
    return replace(workspace, projects=projects)


def _said(project: Project, memo: Memo, workshop: Workshop, acts: bool) -> tuple[str, ...]:
    step = wheel.describe(project, workshop.facts)
    key = fingerprint(step.parts)
    known = memo.get(project.name)
    if known is not None and (known[0] == key or not acts):
        return known[1]
    if not acts:
        return ()
    step, said = _ask(step, project, workshop)
    memo[project.name] = (fingerprint(step.parts), said)
    return said


def _ask(step: Step, project: Project, workshop: Workshop) -> tuple[Step, tuple[str, ...]]:
    """Build the wheel and read its metadata. Raises `BuildlibError` if it cannot be built."""
    from buildlib.execute.stage import remove_room

    if step.needs:
        cause = f"its dependencies are dynamic, and its build needs {step.needs[0].replace(':', ' ', 1)}"
        raise BuildlibError(project.pyproject, cause, "list them in [project], or lock them")
    for _ in range(ATTEMPTS):
        if step.problem is not None:
            raise step.problem.error()
        try:
            (product,) = wheel.make(step, project, workshop)
            return step, tuple(requires(product.data))
        except Outdated:
            workshop.look_again(step.files, project.path)
            step = wheel.describe(project, workshop.facts)
        finally:
            remove_room(workshop.room(step))
    raise BuildlibError(project.pyproject, "its files keep changing while they are read", "run the build again at rest")
