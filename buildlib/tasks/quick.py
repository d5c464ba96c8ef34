"""The short way: a no-op answered from the quick index, without reading the workspace.

Both `doit` (through the loader) and `./doit` ask here first, so both say the same. Knows the index, and how to ask the engine for its images
with one call. Never says "up to date" of anything it cannot prove: None means "plan it".
"""

import os
import time
from collections.abc import Sequence

from buildlib.fingerprint import index

STARTED = time.perf_counter()
"""When this process began to work for us (`time.perf_counter`, seconds)."""


def answer(names: Sequence[str], quick: index.Quick | None = None) -> dict[str, int] | None:
    """Return the counts of the summary if all that `names` ask for is up to date; None if that is not certain.

    Args:
        names: task names; none: what a bare `doit` stands for.
        quick: the index, if it was loaded before.
    """
    quick = quick or index.load_quick()
    if quick is None or not (names or quick.default):
        return None
    steps = quick.asked(names or quick.default)
    if steps is None or _left_behind() or not quick.unchanged(steps):
        return None
    skipped = _images(quick, steps, bare=is_bare(names))
    return None if skipped is None else {"up to date": len(steps) - skipped, "skipped": skipped}


def is_bare(names: Sequence[str]) -> bool:
    """Return whether no single thing is asked for by name, so that what needs an engine may be skipped without one."""
    return not names or list(names) == ["build"]


def _left_behind() -> bool:
    """Return whether a killed run left temporary files, which the next one removes."""
    try:
        return bool(os.listdir(".buildlib/tmp"))
    except OSError:
        return False


def _images(quick: index.Quick, steps: set[str], bare: bool) -> int | None:
    """Return how many images are skipped for want of an engine; None if one of them has to be planned."""
    images = [quick.images[name] for name in steps if name in quick.images]
    if not images:
        return 0
    from buildlib.image.endpoint import find_endpoint
    from buildlib.image.engine import inspect_engine

    state = inspect_engine(find_endpoint(os.environ))
    if not state.reachable:
        return len(images) if bare and not os.environ.get("CI") and not any(image for _, image, _ in images) else None
    wanted = [(tag, image) for tag, image, bases in images for tag, image in ((tag, image), *bases)]
    return 0 if all(state.find(reference) == image for reference, image in wanted) else None
