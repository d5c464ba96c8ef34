"""Running one step: from the store or made, published, and judged by the same comparison that planned it.

Knows the order of these things. Does not know any verb, nor doit.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from buildlib.errors import BuildlibError
from buildlib.execute.stage import remove_room
from buildlib.fingerprint.parts import Parts, fingerprint
from buildlib.plan import Output, Record, Step, full_parts, outputs_digest, source_key
from buildlib.steps import results, verb
from buildlib.steps.publish import foreign, marked, places, publish
from buildlib.steps.workshop import Outdated, Product, Workshop

ATTEMPTS = 5
"""How often inputs may change under a step before it gives up."""


@dataclass(frozen=True)
class Ran:
    """A success: the record to keep, the parts it stands for, and the step as it was in the end."""

    record: Record
    parts: Parts
    step: Step


def run(
    step: Step,
    workshop: Workshop,
    before: Record | None,
    announce: Callable[[Iterable[str]], None],
    reason: str,
    fetch: bool = True,
) -> Ran:
    """Make the outputs of `step`, or fetch them, and publish them.

    Args:
        before: the record of the step; its outputs and announced paths are ours to replace.
        announce: notes the paths that are about to be published, durably.
        reason: why it runs, for the record.
        fetch: whether a result in the store will do.

    Raises:
        BuildlibError: it could not be made; what was published before stays as it was.
    """
    started = time.perf_counter()
    room = workshop.room(step)
    try:
        step, products, word = _products(step, workshop, fetch)
        paths = _paths(step, workshop)
        older = _owned(before, paths)
        announce([*places(products, paths), *older])
        outputs = publish(products, paths, older, step.name, room, workshop.ledger)
    finally:
        remove_room(room)
    if (
        word == "built"
        and before is not None
        and before.outputs
        and outputs_digest(outputs) == outputs_digest(before.outputs)
    ):
        word = "unchanged"
    _warn_of_foreign(workshop, outputs)
    parts = _parts(step, workshop)
    record = Record("done", fingerprint(parts), outputs, (), reason, word, time.perf_counter() - started, time.time())
    return Ran(record, parts, step)


def _owned(before: Record | None, paths: Callable[[str], tuple[str, ...]]) -> list[str]:
    """Return the paths that are ours: as recorded, and as the files say (`.buildlib/` was deleted, a folder moved)."""
    recorded = [*(o.path for o in before.outputs), *before.intent] if before else []
    folders = {os.path.dirname(path) for path in paths("_") if "/dist/" in path or path.startswith("dist/")}
    return list(dict.fromkeys([*recorded, *(path for folder in folders for path in marked(folder))]))


def _paths(step: Step, workshop: Workshop) -> Callable[[str], tuple[str, ...]]:
    project = workshop.facts.workspace.projects[step.project]
    return lambda name: verb(step.verb).paths(project, name)


def _keys(step: Step, workshop: Workshop) -> tuple[str, str]:
    """Return what a result is found by: the source key, which needs nothing built, and the fingerprint."""
    return source_key(step, workshop.steps, {}), fingerprint(_parts(step, workshop))


def _parts(step: Step, workshop: Workshop) -> dict[str, str]:
    return full_parts(step, {name: outputs_digest(workshop.outputs(name)) for name in step.needs})


def _products(step: Step, workshop: Workshop, fetch: bool) -> tuple[Step, list[Product], str]:
    """Return the step as it was described last, what it makes, and whether that was built or fetched."""
    for _ in range(ATTEMPTS):
        if step.problem is not None:
            raise step.problem.error()
        keys = _keys(step, workshop) if verb(step.verb).STORED else ()
        stored = results.fetch(workshop.store, keys) if fetch else None
        if stored is not None:
            return step, stored, "fetched"
        try:
            products = verb(step.verb).make(step, workshop.facts.workspace.projects[step.project], workshop)
        except BuildlibError as error:
            again = _described_again(step, workshop)
            if not isinstance(error, Outdated) and again.parts == step.parts:
                raise
            step = again  # what failed was not what is there now (a file removed before it was copied)
            continue
        results.keep(workshop.store, keys, products)
        return step, products, "built"
    raise BuildlibError(
        step.name, "its inputs keep changing while they are read", "run the build again when they are at rest"
    )


def _described_again(step: Step, workshop: Workshop) -> Step:
    project = workshop.facts.workspace.projects[step.project]
    workshop.look_again(step.files, project.path)
    return verb(step.verb).describe(project, workshop.facts)


def _warn_of_foreign(workshop: Workshop, outputs: Iterable[Output]) -> None:
    """Say once, with the step that runs, which files of its `dist/` are not ours: they are never read or sent."""
    folders = {path[: path.index("/dist/") + 5] for path in (o.path for o in outputs) if "/dist/" in path}
    for folder in sorted(folders):
        others = foreign(folder, {o.path for o in outputs})
        if others:
            names = [path.removeprefix(f"{folder}/") for path in others]
            named = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            workshop.warn(f"{folder}: {named} not made by buildlib, left alone and never used; move it elsewhere")
