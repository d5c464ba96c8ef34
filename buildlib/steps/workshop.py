"""What steps are described from (facts) and made with (the workshop).

Knows the rooms that steps use and hands them out. Does not know any verb.
"""

import os
import posixpath
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from buildlib.errors import BuildlibError
from buildlib.plan import Output, Step
from buildlib.workspace.model import Problem, Project, Workspace
from buildlib.workspace.tree import Tree

if TYPE_CHECKING:
    from buildlib.execute.local import LocalExecutor
    from buildlib.image.engine import EngineState
    from buildlib.steps.publish import Ledger
    from buildlib.steps.slices import Slices
    from buildlib.steps.tools import Tools
    from buildlib.store.directory import Store
    from buildlib.toolchain.environment import Environments


class Outdated(BuildlibError):
    """What a step was described from is not so any more (an input edited, a tool added): describe it again."""


@dataclass(frozen=True)
class Product:
    """One output before it is published: what dependents call it, and its content."""

    name: str
    data: bytes
    executable: bool = False


@dataclass(frozen=True)
class Facts:
    """What steps are described from; read once.

    Attributes:
        engine: asks the container engine what it holds (one call, at the first question).
    """

    workspace: Workspace
    tree: Tree
    tools: "Tools"
    slices: "Slices"
    engine: Callable[[], "EngineState"]
    code: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def nested(self) -> frozenset[str]:
        """Return the directories of all projects: none is an input of another."""
        return self.workspace.paths

    def closure(self, name: str) -> tuple[str, ...]:
        """Return the names of all local dependencies of project `name`, sorted."""
        return self.slices.closure(name)

    def broken(self, project: Project) -> tuple[str, ...]:
        """Return the steps that say what is wrong with what `project` needs: nothing is made on top of such a thing."""
        projects = self.workspace.projects
        return tuple(f"wheel:{name}" for name in self.closure(project.name) if projects[name].problem is not None)

    def inputs(self, project: Project) -> tuple[str, ...]:
        """Return the sorted paths of all input files below a project's folder."""
        return self.tree.listings([project.path], self.nested)[project.path]

    def configured(self, project: Project) -> tuple[str, ...]:
        """Return the files that the `inputs` globs of a project match, ignored and outside ones too.

        Raises:
            BuildlibError: a glob leads out of the workspace.
        """
        found: list[str] = []
        for pattern in project.config.inputs:
            place = posixpath.normpath(posixpath.join(project.path, pattern))
            if place.startswith(("../", "/")):
                cause = f"inputs names {pattern!r}, which is outside the workspace"
                raise BuildlibError(project.pyproject, cause, "name files of this repository only")
            found += self.tree.files(place)
        return tuple(found)

    def action_part(self, verb: str) -> tuple[str, str]:
        """Return the part that names the engine's own way of making a thing: a new way makes it anew."""
        return f"action:{verb}", self.code.get(verb, "")


@dataclass(frozen=True)
class Workshop:
    """What steps are made with.

    Attributes:
        ledger: takes note of every file that is published.
        steps: all steps by name, for keys that reach upstream.
        look_again: reads the given paths and lists the given directory anew when asked the next time.
        outputs: of an upstream step, as recorded.
        warn: says something on the step's behalf (stderr).
        stream: takes the output of a long action line by line; None: it is kept for a failure.
    """

    facts: Facts
    executor: "LocalExecutor"
    environments: "Environments"
    store: "Store | None"
    ledger: "Ledger"
    steps: Mapping[str, Step]
    look_again: Callable[[Iterable[str], str], None]
    outputs: Callable[[str], tuple[Output, ...]]
    warn: Callable[[str], None]
    stream: Callable[[str], None] | None = None

    def room(self, step: Step) -> str:
        """Return the absolute directory in which `step` works, its own."""
        return os.path.abspath(f".buildlib/tmp/{step.verb}-{step.project}")

    def content(self, output: Output) -> bytes:
        """Return the bytes of an upstream output. Raises `BuildlibError` if they are not the recorded ones any more."""
        import hashlib

        data = self.facts.tree.read(output.path)
        if hashlib.sha256(data).hexdigest() != output.sha256:
            raise BuildlibError(output.path, "was changed while the build ran", "run the build again")
        return data


def with_parts(step: Step, *makers: Callable[[], Mapping[str, str]]) -> Step:
    """Return `step` with the parts that `makers` give, or with the problem that the first of them to fail raised."""
    parts: dict[str, str] = dict(step.parts)
    for make in makers:
        try:
            parts.update(make())
        except BuildlibError as error:
            return replace(step, parts=parts, problem=step.problem or Problem.of(error))
    return replace(step, parts=parts)


def entry_parts(tree: Tree, paths: Collection[str]) -> dict[str, str]:
    """Return the parts of the files and links at `paths`; what is no file any more has none."""
    entries = (tree.entry(path) for path in paths)
    return dict(entry.part for entry in entries if entry is not None)
