"""`wheel`: a project's wheel, exactly one, normalised; a library's also in its own `dist/` (PEP 427, PEP 517).

Knows what a wheel is made from and how the action that makes it looks. Does not know who runs the action.
"""

import hashlib
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import replace

from buildlib.errors import BuildlibError
from buildlib.plan import Step
from buildlib.steps.workshop import Facts, Outdated, Product, Workshop, entry_parts, with_parts
from buildlib.toolchain.lockfile import Pin
from buildlib.workspace import graph
from buildlib.workspace.model import Problem, Project
from buildlib.workspace.tree import Tree, parents

VERB, STORED = "wheel", True

HOOK, MADE = ".buildlib-hook.py", ".buildlib-made/"
"""Where the PEP 517 hook runner and the wheel lie in the input root."""

BLIND = ("poetry.core", "setuptools", "flit_core", "uv_build")
"""Backends that never look at a `.gitignore` above the project; for any other, those files are inputs."""


def applies(project: Project, facts: Facts) -> bool:
    """Return True: every project has a wheel."""
    del project, facts
    return True


def describe(project: Project, facts: Facts) -> Step:
    """Return the step: the files of the project, the tools, and which of its dependencies are local."""
    step = Step(f"wheel:{project.name}", VERB, project.name, problem=project.problem)
    files: tuple[str, ...] = ()
    if step.problem is None:
        try:
            files = input_paths(project, facts)
        except BuildlibError as error:
            step = replace(step, problem=Problem.of(error))
    if step.problem is not None:
        return replace(step, files=(project.pyproject,))
    local = " ".join(_local_names(project, facts))
    step = Step(step.name, VERB, project.name, files=files, parts=dict([facts.action_part(VERB)]))
    return with_parts(
        step,
        lambda: _config_parts(project, local),
        lambda: entry_parts(facts.tree, files),
        lambda: facts.tools.parts(project),
    )


def _config_parts(project: Project, local: str) -> dict[str, str]:
    """Return what the action takes from the metadata as it was read, and what decides where the wheel goes.

    A pyproject.toml edited while it is built is recorded with these as they were, so the next run sees the difference.
    """
    backend = " ".join((project.backend, *project.backend_path))
    return {"config:local dependencies": local, "config:build backend": backend, "config:kind": project.kind}


def input_paths(project: Project, facts: Facts) -> tuple[str, ...]:
    """Return the sorted paths of all that the build may read: the project's files, files its metadata or configuration
    names elsewhere, and what symbolic links among them point to."""
    paths = set(facts.inputs(project))
    paths |= {p for p in project.outside if facts.tree.entry(p) is not None}
    paths |= set(_configured(project, facts))
    if not project.backend.startswith(BLIND):
        above = (f"{d}/.gitignore" if d else ".gitignore" for d in parents(project.path))
        paths |= {p for p in above if facts.tree.entry(p) is not None}
    paths |= set(_link_targets(facts, paths))
    return tuple(sorted(paths))


def _configured(project: Project, facts: Facts) -> Iterator[str]:
    """Yield the files that the `inputs` globs of the project match, ignored and outside ones too."""
    for pattern in project.config.inputs:
        place = posixpath.normpath(posixpath.join(project.path, pattern))
        if place.startswith(("../", "/")):
            cause = f"inputs names {pattern!r}, which is outside the workspace"
            raise BuildlibError(project.pyproject, cause, "name files of this repository only")
        yield from facts.tree.files(place)


def _link_targets(facts: Facts, paths: Iterable[str]) -> Iterator[str]:
    """Yield the files in the workspace that links among `paths` lead to, through any number of links."""
    todo = [p for p in paths if (e := facts.tree.entry(p)) is not None and e.target is not None]
    seen = set(todo)
    while todo:
        path = todo.pop()
        entry = facts.tree.entry(path)
        if entry is None or entry.target is None:
            continue
        place = posixpath.normpath(posixpath.join(posixpath.dirname(path), entry.target))
        if place.startswith(("../", "/")):
            continue  # the executor refuses it by name
        reached = [place] if facts.tree.entry(place) is not None else facts.tree.listings([place], facts.nested)[place]
        fresh = [p for p in reached if p not in seen]
        seen.update(fresh)
        todo += fresh
        yield from fresh


def _local_names(project: Project, facts: Facts) -> list[str]:
    every = (*project.optional, "")
    return sorted({d.name for d in graph.local_dependencies(facts.workspace, project, every)})


def make(step: Step, project: Project, workshop: Workshop) -> list[Product]:
    """Build the wheel in a copy of its inputs and normalise it. Raises `BuildlibError`."""
    from buildlib.execute.action import InputChanged, MissingRequires
    from buildlib.steps.normalise import normalise

    facts = workshop.facts
    try:
        name, data = _built(step, project, facts.tools.pins(project), workshop)
    except MissingRequires as missing:
        facts.tools.grow(project, missing.requires)
        raise Outdated(missing.place, missing.cause) from None
    except InputChanged as changed:
        raise Outdated(changed.place, changed.cause) from None
    _check_name(name, project)
    wheel = normalise(name, data, frozenset(facts.workspace.projects), project.path or ".")
    return [Product(name, wheel)]


def paths(project: Project, name: str) -> tuple[str, ...]:
    """Return where the wheel goes; a service's `dist/` is its stage's."""
    own = f".buildlib/wheels/{project.name}/{name}"
    return (own, project.inner(f"dist/{name}")) if project.kind == "library" else (own,)


def _built(step: Step, project: Project, pins: tuple[Pin, ...], workshop: Workshop) -> tuple[str, bytes]:
    from buildlib.execute.hook import hook_source

    environment = workshop.environments.get(pins)
    hook, tree, room = hook_source(), workshop.facts.tree, workshop.room(step)
    action = build_action(step, project, tree, hook, workshop.facts.tools.requires(project))
    tools = {"python": environment.python, "bin": environment.bin}
    result = workshop.executor.run(action, lambda p: hook if p == HOOK else tree.read(p), room, tools, workshop.stream)
    wheels = [o.path for o in result.outputs if o.path.endswith(".whl")]
    if len(wheels) != 1:
        cause = f"its backend made {len(wheels)} wheels"
        raise BuildlibError(project.path or ".", cause, "a backend makes exactly one (PEP 517)", result.log)
    with open(f"{room}/root/{wheels[0]}", "rb") as file:
        return posixpath.basename(wheels[0]), file.read()


def build_action(step: Step, project: Project, tree: Tree, hook: bytes, known: Iterable[str]):  # type: ignore[no-untyped-def]
    """Return the action that builds the wheel of `project`, as data."""
    from buildlib.execute.action import BASE_ENVIRONMENT, Action, InputFile, InputLink

    entries = [e for path in step.files if (e := tree.entry(path)) is not None]
    files = [InputFile(e.path, e.sha256, e.size, e.executable) for e in entries if e.target is None]
    files.append(InputFile(HOOK, hashlib.sha256(hook).hexdigest(), len(hook), False))
    up = posixpath.relpath(".", project.path) if project.path else "."
    argv = ["{python}", f"{up}/{HOOK}", "build_wheel", "--backend", project.backend, "--output", f"{up}/{MADE}"]
    argv += ["--backend-path", *project.backend_path] if project.backend_path else []
    return Action(
        argv=(*argv, "--known", *known),
        files=tuple(sorted(files)),
        links=tuple(sorted(InputLink(e.path, e.target) for e in entries if e.target is not None)),
        environment=BASE_ENVIRONMENT,
        directory=project.path,
        outputs=(MADE,),
        toolchain=tuple(sorted((n, v) for n, v in step.parts.items() if n.startswith("tool:"))),
        warm=project.warm,
    )


def _check_name(wheel: str, project: Project) -> None:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        name = parse_wheel_filename(wheel)[0]
    except InvalidWheelFilename as error:
        cause = f"its backend made {wheel}, no valid wheel name ({error})"
        raise BuildlibError(project.path or ".", cause, "see PEP 427") from None
    if name != project.name:
        cause = f"its backend made a wheel of {name}, not {project.name}"
        raise BuildlibError(project.pyproject, cause, "name the project once")
