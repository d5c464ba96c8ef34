"""Calling a project's build backend (PEP 517): what it finds in its room, and the action that calls it.

Besides the project's inputs a room has what only the build needs: the hook script, a minimal `.git` for a backend that
asks git for a version, and a pyproject.toml with what Poetry 1 accepted put as poetry-core reads it.

Knows rooms' contents and environments. Does not know who wants a wheel, nor what becomes of it.
"""

import hashlib
import os
import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from buildlib.errors import BuildlibError
from buildlib.fingerprint.listing import is_input
from buildlib.plan import Step
from buildlib.steps.poetry import modern
from buildlib.steps.vcs import Repository, explained
from buildlib.steps.workshop import Facts, Outdated
from buildlib.workspace.model import Project

if TYPE_CHECKING:
    from buildlib.execute.action import Action, Result
    from buildlib.execute.local import LocalExecutor
    from buildlib.toolchain.environment import Environments, Wheel

HOOK, MADE = ".buildlib-hook.py", ".buildlib-made/"
"""Where the PEP 517 hook runner and the wheel lie in the input root."""

BUILD, ASK = "build_wheel", "get_requires"
"""What a backend can be called for (see `execute/hook.py`)."""


@dataclass(frozen=True)
class Bench:
    """What backends are called with.

    Attributes:
        wheel: gives the wheel of a local project that the build of another needs.
        stream: takes the output line by line; None: it is kept for a failure.
    """

    facts: Facts
    executor: "LocalExecutor"
    environments: "Environments"
    wheel: Callable[[str], "Wheel"]
    stream: Callable[[str], None] | None = None


T = TypeVar("T")
Call = Callable[[Step, Project, Bench, str], T]
"""A way to call a backend: `build` or `ask`."""


@dataclass(frozen=True)
class Made:
    """What a backend made: the wheel's file name and bytes."""

    name: str
    data: bytes


def build(step: Step, project: Project, bench: Bench, room: str) -> Made:
    """Return the wheel that the backend of `project` makes.

    Args:
        step: its inputs and toolchain, as described. room: an absolute directory of this call alone.

    Raises:
        Outdated: an input changed; or the backend wants more than is known, which is written down now.
        BuildlibError: it failed.
    """
    result, top = _call(BUILD, step, project, bench, room)
    wheels = [o.path for o in result.outputs if o.path.endswith(".whl")]
    if len(wheels) != 1:
        cause = f"its backend made {len(wheels)} wheels"
        raise BuildlibError(
            project.path or project.pyproject, cause, "a backend makes exactly one (PEP 517)", result.log
        )
    with open(f"{top}/{wheels[0]}", "rb") as file:
        return Made(posixpath.basename(wheels[0]), file.read())


def ask(step: Step, project: Project, bench: Bench, room: str) -> None:
    """Ask the backend of `project` what else it needs, as a build would. Returns and raises as `build` does."""
    _call(ASK, step, project, bench, room)


def _call(verb: str, step: Step, project: Project, bench: Bench, room: str) -> "tuple[Result, str]":
    """Call the backend; return the result and the absolute path of the input root."""
    from buildlib.execute.action import ActionFailed, InputChanged, MissingRequires

    tools, tree = bench.facts.tools, bench.facts.tree
    wheels = [bench.wheel(name) for name in tools.local(project)]
    environment = bench.environments.get(tools.pins(project), wheels)
    repository = tools.repository if tools.asks_git(project) else None
    prefix = repository.prefix if repository is not None else ""
    made = _made(step, project, bench.facts, repository)
    extra = [(f"wheel:{wheel.file}", wheel.sha256) for wheel in wheels]
    action = action_of(verb, step, project, bench.facts, made, prefix, extra)
    places = {"python": environment.python, "bin": environment.bin}

    def read(path: str) -> bytes:
        return made[path] if path in made else tree.read(path.removeprefix(prefix))

    try:
        result = bench.executor.run(action, read, room, places, bench.stream)
    except MissingRequires as missing:
        tools.grow(project, missing.requires)
        raise Outdated(missing.place.removeprefix(prefix), missing.cause) from None
    except InputChanged as changed:
        raise Outdated(changed.place.removeprefix(prefix), changed.cause) from None
    except ActionFailed as failed:
        error = ActionFailed(project.path or project.pyproject, failed.cause, failed.cure, failed.detail)
        raise (explained(error, error.place, repository) if tools.asks_git(project) else error) from None
    return result, os.path.join(os.path.realpath(room), "root")


def _made(step: Step, project: Project, facts: Facts, repository: Repository | None) -> dict[str, bytes]:
    """Return what is in the input root besides the inputs, or in place of one, by path."""
    from buildlib.execute.hook import hook_source

    prefix = repository.prefix if repository is not None else ""
    made = {f"{prefix}{HOOK}": hook_source()}
    rewritten = _rewritten(project, facts)
    if rewritten is not None:
        made[f"{prefix}{project.pyproject}"] = rewritten
    if repository is not None:
        shown = _shown(step, project, facts)
        made |= repository.files(shown, (HOOK, MADE))
    return made


def _rewritten(project: Project, facts: Facts) -> bytes | None:
    """Return the pyproject.toml to build with, if it is not the one that is there.

    Raises:
        Outdated: it was edited since it was read.
    """
    if not project.backend.startswith("poetry."):
        return None
    data, entry = facts.tree.read(project.pyproject), facts.tree.entry(project.pyproject)
    rewritten = modern(data)[0]
    if rewritten == data or entry is None:
        return None
    if entry.target is None and hashlib.sha256(data).hexdigest() != entry.sha256:
        raise Outdated(project.pyproject, "was edited while the build read it")
    return rewritten


def _shown(step: Step, project: Project, facts: Facts) -> Callable[[str], bool]:
    """Return what says of a path whether a difference from the commit there makes the version of `project` dirty.

    Its own files do, those that are gone too, and files elsewhere that go into its wheel; ignore files above do not.
    """
    start = project.inner("")
    inner = tuple(f"{path}/" for path in facts.nested if path != project.path and path.startswith(start))
    elsewhere = {p for p in step.files if not p.startswith(start) and posixpath.basename(p) != ".gitignore"}

    def shown(path: str) -> bool:
        own = path.startswith(start) and not path.startswith(inner)
        return path in elsewhere or (own and is_input(path[len(start) :], tracked=True))

    return shown


def action_of(
    verb: str,
    step: Step,
    project: Project,
    facts: Facts,
    made: Mapping[str, bytes],
    prefix: str = "",
    toolchain: Iterable[tuple[str, str]] = (),
) -> "Action":
    """Return the action that calls the backend of `project`, as data.

    Args:
        made: files of the input root that are no inputs of the workspace, or stand in for one, by path.
        prefix: where the workspace lies in the input root (empty, or with a slash at its end).
        toolchain: what makes the outputs besides what `step` names.
    """
    from buildlib.execute.action import BASE_ENVIRONMENT, Action, InputFile, InputLink

    entries = [e for path in step.files if (e := facts.tree.entry(path)) is not None and prefix + path not in made]
    files = [InputFile(prefix + e.path, e.sha256, e.size, e.executable) for e in entries if e.target is None]
    files += [InputFile(path, hashlib.sha256(data).hexdigest(), len(data), False) for path, data in made.items()]
    directory = f"{prefix}{project.path}".rstrip("/")
    up = posixpath.relpath(prefix or ".", directory or ".")
    argv = ["{python}", f"{up}/{HOOK}", verb, "--backend", project.backend, "--output", f"{up}/{MADE}"]
    argv += ["--backend-path", *project.backend_path] if project.backend_path else []
    tools = [(n, v) for n, v in step.parts.items() if n.startswith("tool:")]
    return Action(
        argv=(*argv, "--known", *facts.tools.requires(project)),
        files=tuple(sorted(files)),
        links=tuple(sorted(InputLink(prefix + e.path, e.target) for e in entries if e.target is not None)),
        environment=BASE_ENVIRONMENT,
        directory=directory,
        outputs=(f"{prefix}{MADE}",),
        toolchain=tuple(sorted([*tools, *toolchain])),
        warm=project.warm,
    )
