"""`requirements`: the third-party packages of a service, exact and hashed, from its lock, for its image.

Knows what the list is made from. Does not know lock formats.
"""

import hashlib
from dataclasses import replace

from buildlib.errors import BuildlibError
from buildlib.plan import Step
from buildlib.steps.workshop import Facts, Product, Workshop, with_parts
from buildlib.workspace.model import Problem, Project

VERB, STORED = "requirements", False


def applies(project: Project, facts: Facts) -> bool:
    """Return whether `project` is a service."""
    del facts
    return project.kind == "service"


def describe(project: Project, facts: Facts) -> Step:
    """Return the step: its parts are the pins, so another service's part of the lock changes nothing."""
    parts = dict([facts.action_part(VERB)])
    needs = facts.broken(project)
    step = Step(f"requirements:{project.name}", VERB, project.name, needs, parts, problem=project.problem)
    if project.problem is not None:
        return step
    try:
        step = replace(step, files=facts.slices.files(project))
    except BuildlibError as error:  # a lock that cannot be opened
        return replace(step, files=(project.pyproject,), problem=Problem.of(error))
    return with_parts(
        step, lambda: {f"pin:{p.name}": _value(p.version, p.hashes, p.source) for p in facts.slices.of(project)}
    )


def _value(version: str, hashes: tuple[str, ...], source: str) -> str:
    """Return the version for the reason, and a digest of everything for the decision."""
    return f"{version} {hashlib.sha256(' '.join([*hashes, source]).encode()).hexdigest()}"


def make(step: Step, project: Project, workshop: Workshop) -> list[Product]:
    """Write the list (pip's requirements format in hash mode)."""
    from buildlib.workspace.locks import requirements_text

    del step
    text = requirements_text(workshop.facts.slices.of(project))
    return [Product("requirements.txt", text.encode())]


def paths(project: Project, name: str) -> tuple[str, ...]:
    """Return where the list goes."""
    del name
    return (f".buildlib/requirements/{project.name}.txt",)
