"""The cache directory among builds: a lock that dies with its holder, the error of a cache that cannot be written.

Knows nothing of what it protects.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from buildlib.errors import BuildlibError


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock file `path`, waiting for it; its folder is made. The file stays: removing it would race.

    Each call opens the file anew, so threads exclude each other too; children never inherit it.
    """
    import fcntl

    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def writable_cache(cache: str) -> Iterator[None]:
    """Say in one line that the cache directory cannot be written or is full."""
    try:
        yield
    except OSError as error:
        cause = f"cannot write the cache directory {cache}: {error.strerror or error}"
        raise BuildlibError("BUILDLIB_CACHE", cause, "set it to a directory with room that you may write") from None
