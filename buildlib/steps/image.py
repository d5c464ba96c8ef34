"""`image` of a service with a Dockerfile: built by the engine from the stage's manifest, tagged `SERVICE:latest`.

Knows what such an image depends on: Dockerfile, arguments, target, base images as the engine has them, and the stage. Does not know how
to talk to an engine (that is `image/`).
"""

import os

from buildlib.errors import BuildlibError
from buildlib.image import dockerfile
from buildlib.plan import Output, Step
from buildlib.steps.workshop import Facts, Outdated, Product, Workshop, entry_parts, with_parts
from buildlib.workspace.config import ImageConfig
from buildlib.workspace.model import Project

VERB, STORED = "image", False

ABSENT = "absent"


def applies(project: Project, facts: Facts) -> bool:
    """Return whether `project` is a service with a Dockerfile."""
    return project.kind == "service" and project.problem is None and facts.tree.entry(recipe(project)) is not None


def recipe(project: Project) -> str:
    """Return the path of the project's Dockerfile, relative to the root."""
    return f"{project.path}/{project.config.image.dockerfile}"


def tag(project: Project) -> str:
    """Return the image's name in the engine."""
    return f"{project.name}:latest"


def describe(project: Project, facts: Facts) -> Step:
    """Return the step; without an engine it is refused, not wrong."""
    parts = dict([facts.action_part(VERB)])
    step = Step(f"image:{project.name}", VERB, project.name, (f"stage:{project.name}",), parts, (recipe(project),))
    state = facts.engine()
    if not state.reachable:
        return Step(**{**vars(step), "refusal": state.why})
    image = project.config.image
    settings = {
        "config:build arguments": repr(sorted(image.args.items())) + repr(sorted(image.secrets)),
        "config:target": image.target,
        "config:platforms": " ".join(image.platforms),
    }
    return with_parts(step, lambda: entry_parts(facts.tree, step.files), lambda: settings, lambda: base_parts(project, facts))


def base_parts(project: Project, facts: Facts) -> dict[str, str]:
    """Return the parts that name the base images, by the ids that the engine has for them."""
    state = facts.engine()
    return {f"base:{reference}": f"{reference} {state.find(reference) or ABSENT}" for reference in bases(project, facts)}


def bases(project: Project, facts: Facts) -> tuple[str, ...]:
    """Return the base images that the Dockerfile of `project` names. Raises `BuildlibError` if it cannot be read."""
    image = project.config.image
    read = dockerfile.read(facts.tree.read(recipe(project)), recipe(project))
    return dockerfile.bases(read, image.args, image.target or None)


def make(step: Step, project: Project, workshop: Workshop) -> list[Product]:
    """Let the engine build the image and tag it. Raises `BuildlibError`, with the engine's whole output as its detail."""
    from buildlib.image.build import BuildFailed, explained

    _pull_bases(step, project, workshop)
    text = workshop.facts.tree.read(recipe(project))
    stage = workshop.outputs(f"stage:{project.name}")
    hints = _hints(project, text, stage)
    for hint in hints:
        if not hint.fatal:
            workshop.warn(str(hint))
    try:
        image_id = _build(project, text, stage, workshop)
    except BuildFailed as error:
        raise explained(error, hints) from None
    return [Product(tag(project), image_id.encode())]


def paths(project: Project, name: str) -> tuple[str, ...]:
    """Return the image's place: a name in the engine, no file."""
    del project
    return (f"image:{name}",)


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
        # An engine's own platform is its default; naming it could make it pull a base that it has.
        platform=image.platforms[0] if image.platforms != ImageConfig().platforms else None,
        on_output=workshop.stream,
    )
    return built.id


def _pull_bases(step: Step, project: Project, workshop: Workshop) -> None:
    """Pull the base images that the engine lacks, so that what is recorded is what the image stands on."""
    from buildlib.image import build
    from buildlib.image.endpoint import find_endpoint

    lacking = [n.partition(":")[2] for n, v in step.parts.items() if n.startswith("base:") and v.endswith(f" {ABSENT}")]
    for reference in lacking:
        build.pull(find_endpoint(os.environ), reference)
    if lacking:
        raise Outdated(recipe(project), f"{', '.join(lacking)} was pulled")


def _hints(project: Project, text: bytes, stage: tuple[Output, ...]) -> tuple[dockerfile.Hint, ...]:
    local = any(o.name.startswith("deps/") for o in stage)
    third_party = any(o.name == "requirements.txt" and o.size for o in stage)
    return dockerfile.hints(dockerfile.read(text, recipe(project)), has_local_wheels=local, has_requirements=third_party)


def _secrets(project: Project) -> dict[str, str]:
    missing = [name for name in project.config.image.secrets if name not in os.environ]
    if missing:
        cause = f"tool.buildlib.image.secrets names {', '.join(missing)}, which the environment lacks"
        raise BuildlibError(project.pyproject, cause, "set it, or take it off the list")
    return {name: os.environ[name] for name in project.config.image.secrets}
