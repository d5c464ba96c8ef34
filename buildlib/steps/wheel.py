"""`wheel`: a project's wheel, exactly one, normalised; a library's also in its own `dist/` (PEP 427, PEP 517).

Knows what a wheel is made from. Does not know how a backend is called.
"""

import posixpath
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from buildlib.errors import BuildlibError
from buildlib.plan import Step
from buildlib.steps.backend import Bench, build
from buildlib.steps.poetry import TABLE, modern
from buildlib.steps.vcs import dated
from buildlib.steps.workshop import Facts, Product, Workshop, entry_parts, with_parts
from buildlib.workspace import graph
from buildlib.workspace.model import Problem, Project
from buildlib.workspace.tree import parents

VERB, STORED = "wheel", True

BLIND = ("poetry.core", "setuptools", "flit_core", "uv_build")
"""Backends that never look at a `.gitignore` above the project; for any other, those files are inputs."""


def applies(project: Project, facts: Facts) -> bool:
    """Return whether `project` is a package; of what is wrong with one, this step is the place to say it."""
    del facts
    return project.package is not False or project.problem is not None


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
    try:
        built_first = tuple(f"wheel:{name}" for name in facts.tools.local(project))
    except BuildlibError as error:
        return replace(step, files=files, problem=Problem.of(error))
    needs = tuple(dict.fromkeys((*built_first, *facts.broken(project))))
    step = Step(step.name, VERB, project.name, needs, files=files, parts=dict([facts.action_part(VERB)]))
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
    paths |= set(facts.configured(project))
    if not project.backend.startswith(BLIND):
        above = (f"{d}/.gitignore" if d else ".gitignore" for d in parents(project.path))
        paths |= {p for p in above if facts.tree.entry(p) is not None}
    paths |= set(_link_targets(facts, paths))
    return tuple(sorted(paths))


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
    from buildlib.steps.normalise import normalise
    from buildlib.toolchain.environment import Wheel

    def built(name: str) -> Wheel:
        output = workshop.outputs(f"wheel:{name}")[0]
        return Wheel(output.name, workshop.content(output))

    facts = workshop.facts
    bench = Bench(facts, workshop.executor, workshop.environments, built, workshop.stream)
    _warn_of_empty_versions(project, workshop)
    made = build(step, project, bench, workshop.room(step))
    _check_name(made.name, project)
    _warn_of_date(made.name, project, workshop)
    wheel = normalise(made.name, made.data, frozenset(facts.workspace.projects), project.path or ".")
    return [Product(made.name, wheel)]


def _warn_of_empty_versions(project: Project, workshop: Workshop) -> None:
    if project.backend.startswith("poetry."):
        for name in modern(workshop.facts.tree.read(project.pyproject), project.pyproject)[1]:
            cause = f'{TABLE}.{name} has an empty version, which poetry-core refuses: built as "*"'
            workshop.warn(f'{project.pyproject}: {cause}; write {name} = "*"')


def _warn_of_date(wheel: str, project: Project, workshop: Workshop) -> None:
    version = wheel.split("-")[1]
    if version != project.version and dated(version, time.time()):
        cause = f"its version {version} has today's date in it, so tomorrow the same sources make another wheel"
        workshop.warn(f"{project.pyproject}: {cause}; let it come from tags and commits only")


def paths(project: Project, name: str) -> tuple[str, ...]:
    """Return where the wheel goes; a service's `dist/` is its stage's."""
    own = f".buildlib/wheels/{project.name}/{name}"
    return (own, project.inner(f"dist/{name}")) if project.kind == "library" else (own,)


def _check_name(wheel: str, project: Project) -> None:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        name = parse_wheel_filename(wheel)[0]
    except InvalidWheelFilename as error:
        cause = f"its backend made {wheel}, no valid wheel name ({error})"
        raise BuildlibError(project.path or project.pyproject, cause, "see PEP 427") from None
    if name != project.name:
        cause = f"its backend made a wheel of {name}, not {project.name}"
        raise BuildlibError(project.pyproject, cause, "name the project once, where its [build-system] looks")
