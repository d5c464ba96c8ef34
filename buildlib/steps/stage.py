"""`stage`: a service's `dist/`, the whole build context of its image: its own wheel (or its sources, where it is no
package), its local closure's wheels, its requirements.

Knows what lies where in a stage. Does not know how the pieces are made.
"""

import hashlib
from collections.abc import Iterator

from buildlib.plan import Output, Step
from buildlib.steps.app import sources
from buildlib.steps.fit import check
from buildlib.steps.workshop import Facts, Outdated, Product, Workshop, entry_parts, with_parts
from buildlib.workspace.model import Project

VERB, STORED = "stage", False

APP = "app"
"""Where in a stage the sources of a service lie that is no package."""


def applies(project: Project, facts: Facts) -> bool:
    """Return whether `project` is a service."""
    del facts
    return project.kind == "service"


def describe(project: Project, facts: Facts) -> Step:
    """Return the step: it depends on what it copies, and on what that has to fit."""
    projects = facts.workspace.projects
    wheels = [name for name in (project.name, *facts.closure(project.name)) if projects[name].package]
    needs = (*(f"wheel:{name}" for name in wheels), f"requirements:{project.name}")
    parts = dict([facts.action_part(VERB)])
    step = Step(f"{VERB}:{project.name}", VERB, project.name, needs, parts, problem=project.problem)
    if step.problem is not None:
        return step
    files = () if project.package else tuple(sources(project, facts).values())
    step = Step(step.name, VERB, project.name, needs, parts, tuple(sorted(set(files))))
    return with_parts(step, lambda: _target_parts(project, facts), lambda: _source_parts(project, facts))


def _target_parts(project: Project, facts: Facts) -> dict[str, str]:
    target = facts.slices.target(project)
    return {"config:the image's Python": target.python, "config:the image's platform": target.platform}


def _source_parts(project: Project, facts: Facts) -> dict[str, str]:
    """Return the parts of an application's sources, and of where they lie."""
    if project.package:
        return {}
    placed = sources(project, facts)
    return {**entry_parts(facts.tree, set(placed.values())), "config:sources": " ".join(placed)}


def make(step: Step, project: Project, workshop: Workshop) -> list[Product]:
    """Copy the pieces. Raises `BuildlibError` if one is not what was recorded, or if the wheels do not fit together."""
    facts, made, wheels = workshop.facts, list[Product](), dict[str, tuple[str, bytes]]()
    for needed in step.needs:
        for name, output in _placed(needed, project, workshop.outputs(needed)):
            made.append(Product(name, workshop.content(output)))
            if needed.startswith("wheel:"):
                wheels[needed.removeprefix("wheel:")] = (output.name, made[-1].data)
    check(wheels, facts.workspace.projects, facts.slices.target(project))
    return made if project.package else [*made, *_sources(project, facts)]


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


def _sources(project: Project, facts: Facts) -> Iterator[Product]:
    """Yield the files of an application as they were when the step was described."""
    for inner, path in sources(project, facts).items():
        data, entry = facts.tree.read(path), facts.tree.entry(path)
        if entry is None or (entry.target is None and hashlib.sha256(data).hexdigest() != entry.sha256):
            raise Outdated(path, "was edited while it was copied")
        yield Product(f"{APP}/{inner}", data, entry.executable)
