"""How each thing is made: one file a verb.

A verb's module has `VERB`, `STORED` (whether its results go to the store), `applies(project, facts)`,
`describe(project, facts) -> Step`, `make(step, project, workshop) -> list[Product]` and `paths(project, name)`;
`verbs` below lists them upstream first. A new verb is one new file and one line here.
"""

from typing import Protocol

from buildlib.plan import Step
from buildlib.steps.workshop import Facts, Product, Workshop
from buildlib.workspace.model import Project


class Verb(Protocol):
    """What a verb's module offers."""

    VERB: str
    STORED: bool

    def applies(self, project: Project, facts: Facts) -> bool:
        """Return whether `project` has this step."""

    def describe(self, project: Project, facts: Facts) -> Step:
        """Return the step as it would run now. What is wrong is a `problem` of the step, never raised."""

    def paths(self, project: Project, name: str) -> tuple[str, ...]:
        """Return where the product called `name` goes, relative to the root; disjoint from every other step's."""

    def make(self, step: Step, project: Project, workshop: Workshop) -> list[Product]:
        """Make the step's outputs. Raises `BuildlibError`."""


def verbs() -> tuple[Verb, ...]:
    """Return all verbs, upstream first."""
    from buildlib.steps import image, requirements, stage, wheel

    return (wheel, requirements, stage, image)


def verb(name: str) -> Verb:
    """Return the verb called `name`."""
    return next(v for v in verbs() if name == v.VERB)
