"""From build requirements to pins: one call of `uv pip compile`, its answer read, its errors said in one line.

The answer holds for every platform and every Python from a lower bound on (`--universal`), so that a teammate on
another machine installs from the same pins. Knows no project; its errors say `buildlib.lock`, which is what it fills.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from buildlib.errors import BuildlibError
from buildlib.toolchain.locked import locked, writable_cache
from buildlib.toolchain.lockfile import Pin, normal_requirements
from buildlib.toolchain.sources import no_index, sources
from buildlib.toolchain.uv import NETWORK, REQUIRES, failure, run

PLACE = "buildlib.lock"
BUILD_SYSTEM = "correct `requires` in the [build-system] table that asks for it"
OPTIONS = (
    "--universal",
    "--generate-hashes",
    # One version of a package for all Pythons where there is one: other versions, other bytes of wheels.
    *("--fork-strategy", "fewest"),
    "--strip-extras",  # the closure is pinned, so extras have done their work
    "--no-header",
    "--no-annotate",
    "--quiet",
)


def resolve(
    requires: Sequence[str],
    python: str,
    environ: Mapping[str, str],
    prefer: Mapping[str, str] | None = None,
    cache: str = "",
) -> tuple[Pin, ...]:
    """The closure of build requirements, pinned with hashes.

    Args:
        requires: PEP 508 strings, none of them a local project's name.
        python: the oldest Python that the pins should serve, as `3.11`; where none do, they serve from this one on.
        environ: the user's environment (see `uv.run`).
        prefer: name → version to take where it fits (`ToolLock.versions`), so that what is locked does not move.
        cache: the cache directory, for uv's own cache and for its answer; empty: uv's own, and a temporary folder.

    Raises:
        BuildlibError: no network, no such package or version, a requirement that cannot be pinned.
    """
    wanted = normal_requirements(requires)
    if not wanted:
        return ()
    for text in wanted:
        _check_pinnable(text)
    with _work_folder(cache) as folder:
        try:
            pins = _compile(wanted, python, environ, prefer or {}, cache, folder)
        except BuildlibError as error:
            python = f"{sys.version_info.major}.{sys.version_info.minor}"
            # Older Pythons may have no release that fits; then teammates need this one to build.
            if error.cure != REQUIRES:
                raise
            pins = _compile(wanted, python, environ, prefer or {}, cache, folder)
        return _with_remote_hashes(pins, python, environ, cache, folder)


def _compile(
    wanted: Sequence[str],
    python: str,
    environ: Mapping[str, str],
    prefer: Mapping[str, str],
    cache: str,
    folder: str,
    *options: str,
    folders: bool = True,
) -> tuple[Pin, ...]:
    asked, answer = os.path.join(folder, "requires.in"), os.path.join(folder, "pins.txt")
    _write(asked, wanted)
    # uv prefers what its output file already pins, each package for itself, and drops what does not fit.
    _write(answer, [f"{name}=={version}" for name, version in sorted(prefer.items())])
    argv = ["pip", "compile", asked, "--output-file", answer, "--python-version", python, "--python", sys.executable]
    outcome = run([*argv, *OPTIONS, *options], environ, cache, folders)
    if outcome.code:
        raise failure(PLACE, outcome)
    with open(answer, encoding="utf-8") as file:
        return parse_answer(file.read())


def _with_remote_hashes(
    pins: tuple[Pin, ...], python: str, environ: Mapping[str, str], cache: str, folder: str
) -> tuple[Pin, ...]:
    """The pins with all hashes of releases of which a folder of this machine has only some files.

    Such a folder (pip's `find-links`, a `file:` index) often has wheels for this Python only; teammates need others.
    Only where the index has the same file too is it the same release.
    """
    if no_index(environ) or sources(environ) == sources(environ, folders=False):
        return pins
    full = {}
    for pin in pins:
        exact = [f"{pin.name}=={pin.version}"]
        try:
            found = _compile(exact, python, environ, {}, cache, folder, "--no-deps", folders=False)
        except BuildlibError as error:
            if error.cure == NETWORK:  # as good as it gets
                break
            continue  # only this machine knows it
        full[pin.name, pin.version] = found[0].hashes
    return tuple(_widened(pin, full.get((pin.name, pin.version), ())) for pin in pins)


def _widened(pin: Pin, hashes: Sequence[str]) -> Pin:
    same = not set(pin.hashes).isdisjoint(hashes)
    return replace(pin, hashes=tuple(sorted({*pin.hashes, *hashes}))) if same else pin


@contextlib.contextmanager
def _work_folder(cache: str) -> Iterator[str]:
    """Where uv is asked and answers: in a cache one folder, for one at a time: a killed run adds nothing."""
    if not cache:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            yield folder
        return
    folder = os.path.join(cache, "resolve")
    with writable_cache(cache), locked(os.path.join(folder, "lock")):
        yield folder


def parse_answer(text: str) -> tuple[Pin, ...]:
    """The pins in what `uv pip compile --generate-hashes` wrote: lines `name==version ; marker --hash=sha256:… …`."""
    pins = []
    for line in text.replace("\\\n", " ").splitlines():
        words = line.partition("#")[0].strip()
        if not words:
            continue
        head, *hashes = re.split(r"\s+--hash=", words)
        found = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)(?:\s*;\s*(.+))?", head)
        if not found or not hashes:
            raise BuildlibError(PLACE, f"{head} has no version and hash to pin", BUILD_SYSTEM)
        pins.append(Pin(found[1], found[2], tuple(sorted(hash.strip() for hash in hashes)), (found[3] or "").strip()))
    return tuple(sorted(pins, key=lambda pin: (pin.name, pin.version, pin.marker)))


def _check_pinnable(text: str) -> None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise BuildlibError(PLACE, f"{text!r} is no requirement (PEP 508)", BUILD_SYSTEM) from None
    if requirement.url:
        raise BuildlibError(PLACE, f"{text!r} names a place, which no version and hash pins", BUILD_SYSTEM)


def _write(path: str, lines: Sequence[str]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
