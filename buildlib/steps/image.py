"""`image` of a service with a Dockerfile: built by the engine from the stage's manifest, tagged `SERVICE:latest`.

Knows what such an image depends on: Dockerfile, arguments, target, the stage, and base images (as the engine has them,
or made here by another service's `image`). Does not know how to talk to an engine (that is `image/`).
"""

import hashlib
import os
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING

from buildlib.errors import BuildlibError
from buildlib.image.engine import familiar
from buildlib.plan import Output, Step
from buildlib.steps.workshop import Facts, Outdated, Product, Workshop, with_parts
from buildlib.workspace.config import ImageConfig
from buildlib.workspace.model import Problem, Project

if TYPE_CHECKING:
    from buildlib.image.dockerfile import Hint

VERB, STORED = "image", False

ABSENT = "absent"

LOOK = "the engine's output above says more"


def applies(project: Project, facts: Facts) -> bool:
    """Return whether `project` is a service with a Dockerfile."""
    return project.kind == "service" and project.problem is None and facts.tree.entry(recipe(project)) is not None


def recipe(project: Project) -> str:
    """Return the path of the project's Dockerfile, relative to the root."""
    return posixpath.normpath(project.inner(project.config.image.dockerfile))


def tag(project: Project) -> str:
    """Return the image's name in the engine."""
    return f"{project.name}:latest"


def describe(project: Project, facts: Facts) -> Step:
    """Return the step; without an engine it is refused, not wrong."""
    files = _recipe_files(project, facts)
    parts = dict([facts.action_part(VERB)])
    step = Step(f"image:{project.name}", VERB, project.name, (f"stage:{project.name}",), parts, files)
    try:
        state = facts.engine()
    except BuildlibError as error:  # what names the engine is wrong
        return replace(step, problem=Problem.of(error))
    if not state.reachable:
        return replace(step, refusal=state.why)
    image = project.config.image
    settings = {f"config:build argument {name}": value for name, value in image.args.items()}
    settings |= {f"config:secret {name}": "named" for name in image.secrets}
    settings |= {"config:target": image.target, "config:platforms": " ".join(image.platforms)}
    step = with_parts(
        step,
        lambda: settings,
        lambda: {_part(step): _digest(_text(project, facts))},
        lambda: base_parts(project, facts),
    )
    return step if step.problem else _after_local_bases(step, project, facts)


def base_parts(project: Project, facts: Facts) -> dict[str, str]:
    """Return the parts that name the base images that others made, by the ids that the engine has for them."""
    find = facts.engine().find
    foreign = [name for name in bases(project, facts) if _maker(name, facts) is None]
    return {f"base:{name}": f"{name} {find(name) or ABSENT}" for name in foreign}


def bases(project: Project, facts: Facts) -> tuple[str, ...]:
    """Return the base images that the Dockerfile of `project` names. Raises `BuildlibError` if it cannot be read."""
    image = project.config.image
    from buildlib.image import dockerfile

    read = dockerfile.read(_text(project, facts), recipe(project))
    return dockerfile.bases(read, image.args, image.target or None)


def make(step: Step, project: Project, workshop: Workshop) -> list[Product]:
    """Let the engine build the image and tag it. Raises `BuildlibError`, the engine's whole output in its detail."""
    from buildlib.image.build import BuildFailed, explained

    text = _text(project, workshop.facts)
    if _digest(text) != step.parts[_part(step)]:
        raise Outdated(recipe(project), "changed since it was looked at")
    stage = workshop.outputs(f"stage:{project.name}")
    hints = _hints(project, text, stage)
    for hint in hints:
        if not hint.fatal:
            workshop.warn(str(hint))
    try:
        _pull_bases(step, project, workshop)
        image_id = _build(project, text, stage, workshop)
    except BuildFailed as error:
        cause = error.cause if error.place == tag(project) else f"{error.place}: {error.cause}"
        detail = "" if workshop.stream else error.detail  # what was streamed is not said again
        raise explained(BuildFailed(recipe(project), cause, error.cure or LOOK, detail), hints) from None
    _check_bases(step, project, workshop.facts)
    return [Product(tag(project), image_id.encode())]


def paths(project: Project, name: str) -> tuple[str, ...]:
    """Return the image's place: a name in the engine, no file."""
    del project
    return (f"image:{name}",)


def _maker(reference: str, facts: Facts) -> Project | None:
    """Return the service here whose image `reference` names: such a name is never looked up in a registry."""
    name, _, label = familiar(reference).rpartition(":")
    project = facts.workspace.projects.get(name) if label == "latest" else None
    return project if project is not None and applies(project, facts) else None


def _makers(project: Project, facts: Facts) -> list[Project]:
    return [maker for reference in bases(project, facts) if (maker := _maker(reference, facts)) is not None]


def _after_local_bases(step: Step, project: Project, facts: Facts) -> Step:
    """Return `step` in need of the images here that its own stands on, near or far; a circle of them is its problem."""
    near = _makers(project, facts)
    todo, seen = list(near), set[str]()
    while todo:
        maker = todo.pop()
        if maker.name == project.name:
            cause = f"the image of {project.name} stands on itself"
            return replace(step, problem=Problem(recipe(project), cause, "let its FROM lines name other images"))
        if maker.name not in seen:
            seen.add(maker.name)
            try:
                todo += _makers(maker, facts)
            except BuildlibError:
                continue  # its own step says so
    return replace(step, needs=(*step.needs, *(f"{VERB}:{maker.name}" for maker in near)))


def _recipe_files(project: Project, facts: Facts) -> tuple[str, ...]:
    """Return the Dockerfile and, where it is a link, what that leads to."""
    found = [recipe(project)]
    while (entry := facts.tree.entry(found[-1])) is not None and entry.target is not None:
        place = posixpath.normpath(posixpath.join(posixpath.dirname(found[-1]), entry.target))
        if place in found:
            break
        found.append(place)
    return tuple(found)


def _text(project: Project, facts: Facts) -> bytes:
    return facts.tree.read(recipe(project))


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _part(step: Step) -> str:
    """Return the name of the part that the Dockerfile is; its content counts, not whether it may be executed."""
    return f"file:{step.files[-1]}"


def _build(project: Project, text: bytes, stage: tuple[Output, ...], workshop: Workshop) -> str:
    from buildlib.image.build import build
    from buildlib.image.context import ContextFile, context_tar
    from buildlib.image.endpoint import find_endpoint

    image = project.config.image
    context, inside = context_tar([ContextFile(o.name, workshop.content(o), o.executable) for o in stage], text)
    built = build(
        find_endpoint(os.environ),
        context=context,
        dockerfile_name=inside,
        tag=tag(project),
        args=image.args,
        secrets=_secrets(project),
        target=image.target or None,
        cache_from=image.cache_from,
        platform=_platform(image),
        on_output=workshop.stream,
    )
    return built.id


def _platform(image: ImageConfig) -> str | None:
    """Return the platform to ask for, if it is not the default: naming that could make it pull a base that it has."""
    return image.platforms[0] if image.platforms and image.platforms != ImageConfig().platforms else None


def _pull_bases(step: Step, project: Project, workshop: Workshop) -> None:
    """Pull the base images that the engine lacks, so that what is recorded is what the image stands on."""
    from buildlib.image import build
    from buildlib.image.endpoint import find_endpoint

    platform = _platform(project.config.image)
    known = [value.rpartition(" ") for name, value in step.parts.items() if name.startswith("base:")]
    lacking = [reference for reference, _, image in known if image == ABSENT]
    for reference in lacking:
        build.pull(find_endpoint(os.environ), reference, platform=platform, on_output=workshop.stream)
    if lacking:
        _ask_again(workshop.facts)
        raise Outdated(recipe(project), f"{', '.join(lacking)} was pulled")


def _check_bases(step: Step, project: Project, facts: Facts) -> None:
    """Raise `Outdated` if a base's name moved to another image while the build ran: who knows which one it saw."""
    _ask_again(facts)
    now = base_parts(project, facts)
    if any(step.parts.get(name) != value for name, value in now.items()):
        raise Outdated(recipe(project), "a base image changed while the build ran")


def _ask_again(facts: Facts) -> None:
    from buildlib.image.endpoint import find_endpoint
    from buildlib.image.engine import inspect_engine

    facts.engine().update(inspect_engine(find_endpoint(os.environ)))


def _hints(project: Project, text: bytes, stage: tuple[Output, ...]) -> "tuple[Hint, ...]":
    from buildlib.image import dockerfile

    local = any(o.name.startswith("deps/") for o in stage)
    third_party = any(o.name == "requirements.txt" and o.size for o in stage)
    read = dockerfile.read(text, recipe(project))
    return dockerfile.hints(read, has_local_wheels=local, has_requirements=third_party)


def _secrets(project: Project) -> dict[str, str]:
    missing = [name for name in project.config.image.secrets if name not in os.environ]
    if missing:
        cause = f"tool.buildlib.image.secrets names {', '.join(missing)}, which the environment lacks"
        raise BuildlibError(project.pyproject, cause, "set it, or take it off the list")
    return {name: os.environ[name] for name in project.config.image.secrets}
