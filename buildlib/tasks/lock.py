"""One at a time: the lock of a workspace.

An `flock` on `.buildlib/lock`: the kernel drops it with its holder, so a dead one blocks nobody, and its file descriptor is not inherited
by children. Knows the lock file. Does not know what is done under it.
"""

import fcntl
import os
import sys

PATH = ".buildlib/lock"


class Lock:
    """The lock, not yet taken."""

    def __init__(self, path: str = PATH) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Wait until no other process plans or makes anything in this workspace; say so where it takes time."""
        if self._descriptor is not None:
            return
        os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            print(f"waiting for another build in this workspace (process {holder or 'unknown'})", file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others in: what follows serves or waits, and makes nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
