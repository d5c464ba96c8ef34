"""Pinning all that builds need, before anything is built: what projects declare, and what their backends ask for.

Knows which backends have to be asked, and the order of these things. Does not know the lock's format, nor commands.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from buildlib.errors import BuildlibError
from buildlib.steps import backend, wheel
from buildlib.steps.workshop import Facts, Outdated
from buildlib.workspace.model import Project

if TYPE_CHECKING:
    from buildlib.execute.local import LocalExecutor
    from buildlib.toolchain.environment import Environments, Wheel

ATTEMPTS = 5
"""How often a backend may ask for more than it was given before that is an error."""


@dataclass(frozen=True)
class Pinned:
    """What pinning came to.

    Attributes:
        changes: of `buildlib.lock`, a line a package (`poetry-core (new) -> 2.5.0`), sorted.
        problems: what is wrong with projects whose requirements could not be pinned, each said once.
    """

    changes: tuple[str, ...]
    problems: tuple[BuildlibError, ...]


def pin_all(facts: Facts, executor: "LocalExecutor", environments: "Environments", upgrade: bool = False) -> Pinned:
    """Pin every build requirement of all projects that are packages in `buildlib.lock`, written once, at the end.

    Each backend is asked what else it wants (`get_requires_for_build_wheel`, PEP 517), in a room and an environment as
    for a build, several at a time; so afterwards no build adds anything. A local project that others need for their
    build is built for that, in a room, and published nowhere. One bad project does not stop the others: what can be
    pinned is, and of a bad project what was pinned before is kept.

    Args:
        facts: of a session, which should hold the lock; its tools may be ones that only look.
        executor, environments: as a session's workshop has them.
        upgrade: whether to take the newest releases of everything, and drop what nobody needs.

    Raises:
        BuildlibError: the lock cannot be written.
    """
    tools = facts.tools.collecting(upgrade)
    pinning = _Pinning(replace(facts, tools=tools), executor, environments)
    projects = [p for p in facts.workspace.projects.values() if p.problem is None and wheel.applies(p, facts)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        failed = {
            p.name: e for p, e in zip(projects, pool.map(pinning.attempt, projects), strict=True) if e is not None
        }
    changes = tools.save(keep=[p for p in projects if p.name in failed])
    said = {str(error): error for _, error in sorted(failed.items())}
    return Pinned(tuple(changes), tuple(said.values()))


@dataclass(frozen=True)
class _Pinning:
    facts: Facts
    executor: "LocalExecutor"
    environments: "Environments"
    built: "dict[str, Wheel]" = field(default_factory=dict)
    guard: threading.RLock = field(default_factory=threading.RLock)

    def attempt(self, project: Project) -> BuildlibError | None:
        """Pin what the build of `project` needs; return what is wrong, if anything."""
        try:
            self.facts.tools.pins(project)
            if not _asks_nothing(project):
                self._settled(project, backend.ask, "ask")
        except BuildlibError as error:
            return error
        return None

    def wheel(self, name: str) -> "Wheel":
        """Return the wheel of a local project as its step will make it, built once."""
        from buildlib.steps.normalise import normalise
        from buildlib.toolchain.environment import Wheel

        with self.guard:
            if name not in self.built:
                project = self.facts.workspace.projects[name]
                if project.problem is not None:
                    raise project.problem.error()
                made = self._settled(project, backend.build, "build")
                data = normalise(made.name, made.data, frozenset(self.facts.workspace.projects), project.path or ".")
                self.built[name] = Wheel(made.name, data)
            return self.built[name]

    def _settled(self, project: Project, call: "backend.Call[backend.T]", what: str) -> "backend.T":
        """Call the backend of `project` until it has all that it asks for."""
        from buildlib.execute.stage import remove_room

        bench = backend.Bench(self.facts, self.executor, self.environments, self.wheel)
        room = os.path.abspath(f".buildlib/tmp/{what}-{project.name}")
        try:
            for _ in range(ATTEMPTS):
                step = wheel.describe(project, self.facts)
                if step.problem is not None:
                    raise step.problem.error()
                try:
                    return call(step, project, bench, room)
                except Outdated as outdated:
                    last = outdated
            raise BuildlibError(project.pyproject, last.cause, "run `doit lock` again when nothing changes there")
        finally:
            remove_room(room)


def _asks_nothing(project: Project) -> bool:
    """Return whether the backend is one that never wants more than is declared."""
    return not project.backend_path and project.backend.startswith(("poetry.core.", "uv_build"))
