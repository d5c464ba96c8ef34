"""The short way: what the quick index proves, without reading the workspace.

Both `doit` (through the loader) and `./doit` ask here first, so both say the same. If all that is asked for is
proven, that is the answer; if only some of it is, the rest is planned and the proven steps are not looked at again.
Knows the index, and how to ask the engine for its images with one call. Never says "up to date" of anything it cannot
prove.
"""

import os
import time
from collections.abc import Sequence

from buildlib.fingerprint import index

STARTED = time.perf_counter()
"""When this process began to work for us (`time.perf_counter`, seconds)."""


class Proof:
    """What the quick index proves of the steps that were asked for.

    Attributes:
        steps: all steps asked for, with what they need; proven: those up to date.
        counts: of the summary, if nothing is left to plan; else None.
    """

    def __init__(self, quick: index.Quick, steps: set[str], bare: bool) -> None:
        self._seen = _identity()
        self.quick, self.steps = quick, steps
        standing = quick.proven(steps)
        self.proven = {name for name in standing if name not in quick.images}
        skipped = {name for name in steps - standing if quick.images.get(name, ("", "?"))[1] == ""}
        self.counts = self._answer(standing, skipped, bare) if standing | skipped == steps else None

    def holds(self) -> bool:
        """Return whether the index is still the one that was read (asked again once the lock is ours)."""
        return self._seen is not None and self._seen == _identity()

    def _answer(self, standing: set[str], skipped: set[str], bare: bool) -> dict[str, int] | None:
        images = [self.quick.images[name] for name in standing - self.proven]
        as_before = (not images and not skipped) or _engine_as_before(images, skipped, bare)
        return {"up to date": len(standing), "skipped": len(skipped)} if as_before else None


def prove(names: Sequence[str]) -> Proof | None:
    """Return what is proven of `names` (none: of a bare `doit`); None where everything has to be planned."""
    quick = index.load_quick()
    if quick is None or not (names or quick.default) or _left_behind():
        return None
    steps = quick.reach(names or quick.default)
    return Proof(quick, steps, is_bare(names)) if steps is not None and quick.stands() else None


def is_bare(names: Sequence[str]) -> bool:
    """Return whether no single thing is asked for by name, so that what needs an engine may be skipped without one."""
    return not names or list(names) == ["build"]


def _identity() -> tuple[int, int] | None:
    try:
        status = os.stat(index.QUICK)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _left_behind() -> bool:
    """Return whether a killed run left temporary files, which the next one removes."""
    try:
        return bool(os.listdir(".buildlib/tmp"))
    except OSError:
        return False


def _engine_as_before(
    images: list[tuple[str, str, tuple[tuple[str, str], ...]]], skipped: set[str], bare: bool
) -> bool:
    """Return whether the engine has `images` and what they stand on; if some were skipped, whether it is still away."""
    from buildlib.errors import BuildlibError
    from buildlib.image.endpoint import find_endpoint
    from buildlib.image.engine import inspect_engine

    try:
        state = inspect_engine(find_endpoint(os.environ))
    except BuildlibError:  # what names the engine is wrong: the image's step will say so
        return False
    if not state.reachable:
        return not images and bare and not os.environ.get("CI")
    wanted = [pair for tag, image, bases in images for pair in ((tag, image), *bases)]
    return not skipped and all(state.find(reference) == image for reference, image in wanted)
