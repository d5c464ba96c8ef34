"""Build environments: one directory for each set of pins, wheels and interpreter, made once, then only read.

`CACHE/envs/KEY` is a virtual environment made by uv from hash-pinned releases and from wheels that were just built, at
its final path (its scripts name it).
Its last file says that it is whole: what a killed build left without that file is removed and made anew. Bytecode is
compiled when it is made: 0.3 s once, then 0.06 s (poetry-core) to 0.12 s (setuptools) less at every start of a backend,
and later readers write nothing into it.

A release that exists only as an sdist is built by uv, in isolation: the sdist has a locked hash, but what its own build
needs comes unpinned from the index.

Knows no project, no lock file and no doit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buildlib.errors import BuildlibError
from buildlib.toolchain.locked import locked, writable_cache
from buildlib.toolchain.lockfile import Pin
from buildlib.toolchain.uv import NETWORK, failure, run

PLACE = "buildlib.lock"
LAYOUT = "1"  # of what is installed how: raise it and every environment is made anew
WHOLE = "buildlib-whole.txt"  # the last file of an environment: what it has


@dataclass(frozen=True)
class Environment:
    """A usable environment: its key, its directory, its interpreter and its folder of scripts (for PATH)."""

    key: str
    path: str
    python: str
    bin: str


@dataclass(frozen=True)
class Wheel:
    """A wheel that no index has: its file name (PEP 427) and its bytes."""

    file: str
    data: bytes

    @property
    def sha256(self) -> str:
        """The digest of its bytes (hex)."""
        import hashlib

        return hashlib.sha256(self.data).hexdigest()


def interpreter_identity() -> str:
    """What of the running interpreter may change the bytes of wheels: `CPython 3.11.7 linux-x86_64 zlib 1.2.13`.

    zlib because wheels are compressed with it.
    """
    import zlib

    name = {"cpython": "CPython", "pypy": "PyPy"}.get(sys.implementation.name, sys.implementation.name)
    version = ".".join(map(str, sys.version_info[:3])) + _unfinished() + getattr(sys, "abiflags", "")
    return f"{name} {version} {sys.platform}-{os.uname().machine} zlib {zlib.ZLIB_RUNTIME_VERSION}"


def applicable(pins: Sequence[Pin]) -> tuple[Pin, ...]:
    """The pins whose markers are true on the running interpreter, sorted by name.

    Raises:
        BuildlibError: a marker is none.
    """
    return tuple(sorted((pin for pin in pins if not pin.marker or _is_true(pin.marker)), key=lambda pin: pin.name))


def environment_key(pins: Sequence[Pin], interpreter: str, wheels: Sequence[Wheel] = ()) -> str:
    """The name of the environment that pins and wheels make: 32 hex digits. Of a wheel only name and bytes count.

    Args:
        interpreter: the one that runs it, as `interpreter_identity` says it.
    """
    import hashlib

    local = sorted(f"{wheel.file} {wheel.sha256}" for wheel in wheels)
    text = "\n".join([LAYOUT, interpreter, *map(_requirement, applicable(pins)), *local])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Environments:
    """The environments of one cache directory; safe for any number of threads and processes.

    Args:
        cache: the cache directory.
        environ: the user's environment (see `uv.run`).
    """

    def __init__(self, cache: str, environ: Mapping[str, str]) -> None:
        self.cache, self.environ = cache, environ
        self._unreachable: BuildlibError | None = None

    def get(self, pins: Sequence[Pin], wheels: Sequence[Wheel] = ()) -> Environment:
        """The environment of these pins and wheels, made if it is not there; uv is not run if it is.

        Raises:
            BuildlibError: no network (for all environments the first such error), a file that is not the locked one,
                a cache that cannot be written.
        """
        key = environment_key(pins, interpreter_identity(), wheels)
        path = os.path.join(self.cache, "envs", key)
        found = Environment(key, path, os.path.join(path, "bin", "python"), os.path.join(path, "bin"))
        if not _is_whole(found):
            with writable_cache(self.cache), locked(f"{path}.lock"):
                if not _is_whole(found):  # nobody made it while we waited
                    self._make(found, applicable(pins), wheels)
        return found

    def _make(self, wanted: Environment, pins: Sequence[Pin], wheels: Sequence[Wheel]) -> None:
        import shutil

        shutil.rmtree(wanted.path, ignore_errors=True)
        try:
            # The interpreter below a virtual environment: that one may be gone tomorrow.
            self._uv("venv", "--no-project", "--python", getattr(sys, "_base_executable", sys.executable), wanted.path)
            if pins:
                self._install(wanted, "".join(f"{_requirement(pin)}\n" for pin in pins))
            if wheels:
                self._install_wheels(wanted, wheels)
            listed = [*(f"{pin.name}=={pin.version}" for pin in pins), *(f"{w.file} {w.sha256}" for w in wheels)]
            _write(os.path.join(wanted.path, WHOLE), "".join(f"{line}\n" for line in listed))
        except BaseException:
            shutil.rmtree(wanted.path, ignore_errors=True)
            raise

    def _install(self, wanted: Environment, requirements: str) -> None:
        listed = os.path.join(wanted.path, "requirements.txt")
        _write(listed, requirements)
        how = ("--require-hashes", "--no-deps", "--compile-bytecode")
        self._uv("pip", "install", "--python", wanted.python, *how, "--requirement", listed)

    def _install_wheels(self, wanted: Environment, wheels: Sequence[Wheel]) -> None:
        """Install wheels as they are: what they need is among the pins, or another of them."""
        folder = os.path.join(wanted.path, "wheels")
        os.makedirs(folder)
        for wheel in wheels:
            with open(os.path.join(folder, wheel.file), "wb") as file:
                file.write(wheel.data)
        files = sorted(os.path.join(folder, wheel.file) for wheel in wheels)
        how = ("--no-deps", "--no-index", "--compile-bytecode")
        self._uv("pip", "install", "--python", wanted.python, *how, *files)

    def _uv(self, *arguments: str) -> None:
        # A cooling-off period holds for what is chosen, not for what was.
        environ = {name: value for name, value in self.environ.items() if name != "UV_EXCLUDE_NEWER"}
        if self._unreachable:  # what the cache has can still be made, and nobody waits for the network again
            environ["UV_OFFLINE"] = "1"
        outcome = run([*arguments, "--quiet"], environ, self.cache)
        if outcome.code:
            error = failure(PLACE, outcome)
            if error.cure == NETWORK:
                error = self._unreachable = self._unreachable or error
            raise error


def _is_whole(environment: Environment) -> bool:
    # The interpreter is a link to the one it was made with, which may have been removed since.
    return os.path.exists(os.path.join(environment.path, WHOLE)) and os.path.exists(environment.python)


def _write(path: str, text: str) -> None:
    """Make the file appear whole: written beside its place, then moved there."""
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.new", path)


def _requirement(pin: Pin) -> str:
    return f"{pin.name}=={pin.version}" + "".join(f" --hash={hash}" for hash in sorted(pin.hashes))


def _is_true(marker: str) -> bool:
    from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName

    try:
        return Marker(marker).evaluate()
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName):
        cure = "restore it from git, or run `doit lock --upgrade`"
        raise BuildlibError(PLACE, f"{marker!r} is no environment marker", cure) from None


def _unfinished() -> str:
    """`rc1` of a release candidate, `+` of a build between releases; empty for a release."""
    level = {"alpha": "a", "beta": "b", "candidate": "rc"}.get(sys.version_info.releaselevel, "")
    between = "+" if sys.version.split()[0].endswith("+") else ""
    return (f"{level}{sys.version_info.serial}" if level else "") + between
