"""What a run leaves for the next one: the memory of what was read, and the quick index of what was concluded.

Only what is still as it was read is concluded: a step is in the quick index if it is up to date now and every path it
depends on can be watched. Knows how steps map to paths. Does not judge steps (the plan did).
"""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import buildlib
from buildlib.fingerprint import index
from buildlib.plan import CLEAN, Record, Step
from buildlib.steps.slices import Memo

if TYPE_CHECKING:
    from buildlib.tasks.session import Session

PACKAGE = os.path.dirname(buildlib.__file__)
"""The engine's own code."""


def remember(session: "Session", default: tuple[str, ...]) -> None:
    """Write the indexes. Failing to is no error: they only save time."""
    try:
        quick = _carried(session, session.proof.quick) if session.proof else _quick(session, default)
        if session.whole:
            _keep_only_present(session)
            index.save_memory({"tree": session.tree.memory}, index.TREE, PACKAGE)
        if not session.proof:
            known = {**session.kept, "slices": _slices(session), "common": quick.common}
            index.save_memory(known, index.WORKSPACE, PACKAGE)
        index.save_quick(quick)
    except OSError:
        index.drop_quick()


def _keep_only_present(session: "Session") -> None:
    """Drop what is remembered of directories that are no projects any more: the memory must not grow for ever."""
    memory, paths = session.tree.memory, session.workspace.paths
    for directory in [d for d in memory.listings if d not in paths]:
        del memory.listings[directory]


def _slices(session: "Session") -> Memo:
    """Keep the slices of this run, and of services it did not look at."""
    slices = session.facts.slices
    used = {key[0] for key in slices.used}
    others = {k: v for k, v in slices.memo.items() if k[0] not in used and k[0] in session.workspace.projects}
    return others | slices.used


def _quick(session: "Session", default: tuple[str, ...]) -> index.Quick:
    quick = index.Quick(_common(session), {}, {}, session.names.groups, {}, default, index.inode(index.RECORDS))
    return _with_plan(session, quick)


def _carried(session: "Session", earlier: index.Quick) -> index.Quick:
    """Return the earlier index without what this run planned and what may need that, but with what is clean now."""
    touched = set(session.plan) | set(session.refused)
    kept: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for name, (needs, own) in earlier.steps.items():  # upstream first
        if name not in touched and touched.isdisjoint(needs):
            kept[name] = (needs, own)
        else:
            touched.add(name)
    groups = {g for _, own in kept.values() for g in own}
    watches = {g: w for g, w in earlier.watches.items() if g in groups}
    images = {name: image for name, image in earlier.images.items() if name not in touched}
    quick = index.Quick(earlier.common, watches, kept, earlier.members, images, earlier.default, earlier.records)
    return _with_plan(session, quick)


def _with_plan(session: "Session", quick: index.Quick) -> index.Quick:
    """Add the steps that are up to date now to `quick`."""
    for name in _clean(session):
        step, record = session.step(name), session.records[name]
        groups = _groups(session, step, record)
        quick.watches.update(groups)
        quick.steps[name] = (step.needs, tuple(groups))
        if step.verb == "image":
            quick.images[name] = _image(step, record)
    quick.images.update({name: (name, "", ()) for name in session.refused})
    return quick


def _clean(session: "Session") -> list[str]:
    """Return the steps that are up to date now: found so, or made in this run from what was read."""
    done = {
        n
        for n, d in session.plan.items()
        if d.certainty == CLEAN or session.ended.get(n) in ("built", "fetched", "unchanged", "remote")
    }
    return [
        n for n in session.plan if n in done and all(u in done or u in session.proven for u in session.step(n).needs)
    ]


def _groups(session: "Session", step: Step, record: Record) -> dict[str, index.Watch]:
    """Return what `step` depends on, by group: what it reads, and its outputs."""
    folders, own = session.seen[step.name], session.workspace.projects[step.project].pyproject
    files = [path for path in step.files if path != own]  # that is watched for all steps
    return {
        f"inputs {step.name}": index.watch((*folders, *files), (*folders.values(), *_signatures(session, files))),
        f"outputs {step.name}": _watch(session, [o.path for o in record.outputs if not o.path.startswith("image:")]),
    }


def _watch(session: "Session", paths: Sequence[str]) -> index.Watch:
    return index.watch(paths, _signatures(session, paths))


def _signatures(session: "Session", paths: Iterable[str]) -> list[int]:
    known = session.tree.memory.files
    return [known[p][0] if p in known else session.tree.signature(p) for p in paths]


def _image(step: Step, record: Record) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    bases = [value.rpartition(" ")[::2] for name, value in step.parts.items() if name.startswith("base:")]
    return record.outputs[0].name, record.outputs[0].sha256, tuple((reference, image) for reference, image in bases)


def _common(session: "Session") -> index.Watch:
    """Return what all steps depend on: configuration, where projects may appear, git's index, the engine's own code."""
    tree = session.tree
    paths = {*session.workspace.looked, *(p.pyproject for p in session.workspace.projects.values())}
    paths |= {p.inner(p.config.image.dockerfile) for p in session.workspace.projects.values() if p.kind == "service"}
    code = index.modules(PACKAGE)
    watched = [*sorted(paths), *code]
    return index.watch((*watched, *tree.memory.base), (*_signatures(session, watched), *tree.memory.base.values()))
