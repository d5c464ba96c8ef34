"""`stage`: a service's `dist/`, the whole build context of its image: its own wheel, its local closure's, its
requirements.

Knows what lies where in a stage. Does not know how the pieces are made.
"""

from collections.abc import Iterator

from buildlib.plan import Output, Step
from buildlib.steps.workshop import Facts, Product, Workshop
from buildlib.workspace.model import Project

VERB, STORED = "stage", False


def applies(project: Project, facts: Facts) -> bool:
    """Return whether `project` is a service."""
    del facts
    return project.kind == "service"


def describe(project: Project, facts: Facts) -> Step:
    """Return the step: it depends on what it copies, and on nothing else."""
    needs = [
        f"wheel:{project.name}",
        *(f"wheel:{n}" for n in facts.closure(project.name)),
        f"requirements:{project.name}",
    ]
    return Step(
        f"stage:{project.name}",
        VERB,
        project.name,
        tuple(needs),
        dict([facts.action_part(VERB)]),
        problem=project.problem,
    )


def make(step: Step, project: Project, workshop: Workshop) -> list[Product]:
    """Copy the pieces. Raises `BuildlibError` if one is not what was recorded."""
    return [
        Product(name, workshop.content(output))
        for needed in step.needs
        for name, output in _placed(needed, project, workshop.outputs(needed))
    ]


def paths(project: Project, name: str) -> tuple[str, ...]:
    """Return where a piece of the stage goes."""
    return (project.inner(f"dist/{name}"),)


def _placed(needed: str, project: Project, outputs: tuple[Output, ...]) -> Iterator[tuple[str, Output]]:
    """Yield the place in the stage and the output to copy: own wheel on top, others in `deps/`; each content once."""
    seen = set()
    for output in outputs:
        if output.name not in seen:
            seen.add(output.name)
            other = needed.startswith("wheel:") and needed != f"wheel:{project.name}"
            yield (f"deps/{output.name}" if other else output.name), output
