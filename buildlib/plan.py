"""What must run, and why: a pure function of steps, records and the state of their outputs.

A topological scheduler over constructive traces with early cutoff (*Build Systems à la Carte*). A step is clean, will
run, or may run: known only once what it needs has run. Knows values only. Does not read files, does not know how
anything is made.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from buildlib.fingerprint.parts import Parts, difference, fingerprint
from buildlib.workspace.model import Problem

CLEAN, WILL, MAY = "clean", "will", "may"


@dataclass(frozen=True)
class Output:
    """One file (or image) that a step left.

    Attributes:
        name: what those who need the step call it (`orders-1.0-py3-none-any.whl`), wherever it lies.
        path: where it was published, relative to the root; of an image, `image:TAG`.
        sha256: hex digest of its content; of an image, its id.
        size: bytes. executable: whether it may be executed.
    """

    name: str
    path: str
    sha256: str
    size: int
    executable: bool = False


@dataclass(frozen=True)
class Step:
    """One thing that is made: one doit task, `VERB:PROJECT`.

    Attributes:
        needs: names of the steps whose outputs it reads.
        parts: what determines its outputs besides those (files, settings, tools).
        files: the paths it reads, relative to the root (what a Makefile rule would name).
        problem: what keeps it from being made at all.
        refusal: why it cannot be made here and now, though nothing is wrong with it (no engine).
    """

    name: str
    verb: str
    project: str
    needs: tuple[str, ...] = ()
    parts: Parts = field(default_factory=dict)
    files: tuple[str, ...] = ()
    problem: Problem | None = None
    refusal: str = ""


@dataclass(frozen=True)
class Record:
    """What the database keeps of a step.

    Attributes:
        state: `done`, or why its outputs prove nothing: `running`, `failed`, `skipped`, `forgotten`.
        fingerprint: of the parts of the last success.
        outputs: of the last success. intent: paths that a later run may have written before it ended.
        reason, word, seconds, finished: how the last run went (finished in seconds since the epoch).
    """

    state: str
    fingerprint: str = ""
    outputs: tuple[Output, ...] = ()
    intent: tuple[str, ...] = ()
    reason: str = ""
    word: str = ""
    seconds: float = 0.0
    finished: float = 0.0


@dataclass(frozen=True)
class Decision:
    """What is known of a step before it runs: whether it will, and the first reason why."""

    task: str
    certainty: str
    reason: str = ""


def outputs_digest(outputs: Iterable[Output]) -> str:
    """Return one digest of a step's outputs by name and content, wherever they lie."""
    return fingerprint({o.name: o.sha256 + ("x" if o.executable else "") for o in outputs})


def full_parts(step: Step, digests: Mapping[str, str]) -> dict[str, str]:
    """Return the parts of `step` with the digests of its upstream's outputs, by step name."""
    return {**step.parts, **{f"upstream:{name}": digests[name] for name in step.needs}}


def source_key(step: Step, steps: Mapping[str, Step], known: dict[str, str]) -> str:
    """Return the deep key of `step`: its own parts and its upstream's source keys; needs nothing built.

    Args:
        steps: every step it reaches, upstream before downstream (so no recursion is deep).
        known: source keys worked out before, extended here.
    """
    if step.name not in known:
        above = {f"upstream:{name}": source_key(steps[name], steps, known) for name in step.needs}
        known[step.name] = fingerprint({**step.parts, **above, "key": "source"})
    return known[step.name]


def decide(
    steps: Collection[Step],
    records: Mapping[str, Record],
    damage: Callable[[Record], str | None],
    remembered: Callable[[str], Parts],
    always: Collection[str] = (),
    proven: Collection[str] = (),
) -> dict[str, Decision]:
    """Decide about each step, upstream first.

    Args:
        steps: in topological order.
        records: by step name; a step without one was never built.
        damage: says what is wrong with a record's outputs on disk, or None.
        remembered: the parts of a step's last success, asked for only where they explain.
        always: names of steps that run whatever their state (`doit -a`).
        proven: names of further steps, up to date for certain, that `steps` may need.

    Returns:
        The decisions by step name, in the same order.
    """
    decided: dict[str, Decision] = {}
    digests = {name: outputs_digest(records[name].outputs) for step in steps for name in step.needs if name in proven}
    for step in steps:
        record = records.get(step.name)
        moving = next((n for n in step.needs if n in decided and decided[n].certainty != CLEAN), None)
        reason = "asked for (-a)" if step.name in always else unproven(step, record, damage, remembered)
        if reason is None and record is not None:
            reason = changed(step, record, digests if moving is None else None, remembered)
        if reason is not None:
            decided[step.name] = Decision(step.name, WILL, reason)
        elif moving is not None:
            decided[step.name] = Decision(step.name, MAY, f"after {moving.replace(':', ' ', 1)}")
        else:
            decided[step.name] = Decision(step.name, CLEAN)
        digests[step.name] = outputs_digest(record.outputs) if record else ""
    return decided


def unproven(
    step: Step, record: Record | None, damage: Callable[[Record], str | None], remembered: Callable[[str], Parts]
) -> str | None:
    """Return why the record of `step` proves nothing, whatever its parts are; None if it does."""
    if step.problem is not None:
        return f"{step.problem.place}: {step.problem.cause}"
    if record is None or not record.fingerprint:
        return _NEVER.get(record.state if record else "", "never built")
    if record.state != "done":
        return difference(_own(remembered(step.name)), step.parts) or _UNFINISHED.get(record.state, record.state)
    return damage(record)


_NEVER = {
    "forgotten": "forgotten",
    "failed": "never built (the last run failed)",
    "running": "never built (the last run was interrupted)",
}
_UNFINISHED = {
    "running": "the last run was interrupted",
    "failed": "the last run failed",
    "skipped": "the last run was skipped",
}


def changed(
    step: Step, record: Record, digests: Mapping[str, str] | None, remembered: Callable[[str], Parts]
) -> str | None:
    """Return the first part of `step` that differs from its record; None if none does.

    Args:
        digests: of its upstream's outputs, by step name; None while unknown: then only its own parts are compared.
        remembered: the parts of a step's last success.
    """
    if digests is None:
        return difference(_own(remembered(step.name)), step.parts)
    now = full_parts(step, digests)
    if fingerprint(now) == record.fingerprint:
        return None
    return difference(remembered(step.name), now) or "its record is damaged"


def _own(parts: Parts) -> dict[str, str]:
    return {name: value for name, value in parts.items() if not name.startswith("upstream:")}
