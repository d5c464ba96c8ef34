"""One at a time: the lock of a workspace.

An `flock` on `.buildlib/lock`: the kernel drops it with its holder, so a dead one blocks nobody, and its descriptor is
not inherited by children. Knows the lock file. Does not know what is done under it.
"""

import fcntl
import os
import sys
import time

from buildlib.errors import BuildlibError

PATH = ".buildlib/lock"


class Lock:
    """The lock, not yet taken."""

    def __init__(self, path: str = PATH) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._said = False

    def acquire(self) -> None:
        """Wait until no other process plans or makes anything in this workspace; say so where it takes time.

        Raises:
            BuildlibError: the lock file cannot be made or locked.
        """
        try:
            while self._descriptor is None:
                self._descriptor = self._locked()
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            cause = f"cannot be written ({error.strerror or error})"
            raise BuildlibError(self._path, cause, "free disk space, or make the workspace writable") from None

    def _locked(self) -> int | None:
        """Return the locked file's descriptor; None if the file was deleted meanwhile: then it locks nothing."""
        os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._wait(descriptor)
            if os.path.exists(self._path) and os.path.samestat(os.stat(self._path), os.fstat(descriptor)):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def _wait(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._say_who(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _say_who(self, descriptor: int) -> None:
        if not self._said:
            holder = _holder(descriptor)
            who = f" (process {holder})" if holder else ""
            print(f"waiting for another build in this workspace{who}", file=sys.stderr, flush=True)
            self._said = True

    def release(self) -> None:
        """Let others in: what follows serves or waits, and makes nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _holder(descriptor: int) -> str:
    """Return the id of the process that has the lock; empty if it does not say so soon, having taken it just now."""
    for _ in range(5):
        if holder := os.pread(descriptor, 32, 0).decode(errors="replace").strip():
            return holder
        time.sleep(0.01)
    return ""
