"""The parent's side of the warm workers: who may use one, starting, asking and ending them.

Knows the worker script's protocol and which actions a worker may run. Does not know rooms or results.
"""

from __future__ import annotations

import itertools
import json
import os
import posixpath
import re
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from buildlib.execute.action import Action

WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")

# What an interpreter reads when it starts: a worker serves only actions that agree with it in these.
START_VARIABLES = ("PYTHON", "LANG", "LC_", "TZ", "LD_", "DYLD_")


@dataclass(frozen=True)
class WorkerKey:
    """What workers of one kind have in common."""

    python: str
    backend: str
    environment: tuple[tuple[str, str], ...]


class WorkerDied(Exception):
    """The worker went away or answered nonsense; nothing is known about the build it was asked for."""


def worker_backend(action: Action, hook_sha256: str) -> str | None:
    """The backend whose warm worker may run this action, or None.

    It may if the action says so, runs exactly the hook script that we would give to the worker, and no code of the
    project takes part (a backend-path would let two projects' modules of one name meet).
    """
    argv = action.argv
    if not action.warm or len(argv) < 3 or argv[0] != "{python}" or "--backend-path" in argv:
        return None
    script = posixpath.normpath(posixpath.join(action.directory, argv[1]))
    if not any(file.path == script and file.sha256 == hook_sha256 for file in action.files):
        return None
    return next((value for name, value in itertools.pairwise(argv) if name == "--backend"), None)


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with each `{name}` of `values` replaced, once; other braces stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), text)


class Worker:
    """One running worker process; used by one thread at a time.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, key: WorkerKey, hook: str) -> None:
        import subprocess

        self.child = 0
        self.process = subprocess.Popen(
            [key.python, WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=dict(key.environment),
            start_new_session=True,
        )
        assert self.process.stdin and self.process.stdout
        self.requests: IO[bytes] = self.process.stdin
        self.replies: IO[bytes] = self.process.stdout
        self.setup: dict[str, Any] | None = {"hook": hook, "backend": key.backend}

    def run(self, request: dict[str, Any]) -> int:
        """The exit code of one build (negative: the signal that ended it).

        Raises:
            WorkerDied: no exit code came back.
        """
        messages = [message for message in (self.setup, request) if message]
        try:
            self.requests.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
            self.requests.flush()
            self.setup = None
            self.child = int(json.loads(self.replies.readline())["pid"])
            return int(json.loads(self.replies.readline())["status"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.kill()  # a worker that was shot leaves its child to us
            raise WorkerDied from error
        finally:
            self.child = 0

    def kill(self) -> None:
        """Ends the running build and the worker, now. Safe in a signal handler."""
        if self.child > 1:
            _signal_group(self.child, signal.SIGKILL)
        if self.process.returncode is None:
            # It also knows a child that it has not yet told us of, so it gets the chance to end it.
            _signal_group(self.process.pid, signal.SIGTERM)

    def close(self) -> None:
        """Ends the worker and waits for it, at most a second; then by force."""
        import contextlib
        import subprocess

        with contextlib.suppress(OSError):
            self.requests.close()
        try:
            self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            _signal_group(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.replies.close()


def _signal_group(group: int, number: int) -> None:
    import contextlib

    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
        os.killpg(group, number)


class WorkerPool:
    """At most `jobs` workers; idle ones are used again. Used from several threads."""

    def __init__(self, jobs: int, hook: str) -> None:
        self.jobs, self.hook = jobs, hook
        self.lock = threading.Lock()
        self.idle: list[tuple[WorkerKey, Worker]] = []  # the longest idle one first
        self.workers: list[Worker] = []
        self.given_up: set[WorkerKey] = set()
        self.starting = 0
        self.stopped = False

    def key(self, python: str, backend: str, environment: Mapping[str, str]) -> WorkerKey:
        kept = {name: value for name, value in environment.items() if name.startswith(START_VARIABLES)}
        kept["PATH"] = environment.get("PATH", os.defpath)
        return WorkerKey(python, backend, tuple(sorted(kept.items())))

    def run(self, key: WorkerKey, request: dict[str, Any]) -> int | None:
        """The exit code of a build in a warm worker; None when none could do it, and a subprocess must."""
        worker = self._take(key)
        if worker is None:
            return None
        try:
            status = worker.run(request)
        except WorkerDied:
            self._drop(worker, key)
            return None
        except BaseException:  # interrupted in the middle: what its next answer belongs to is unknown
            worker.kill()
            self._drop(worker, None)
            raise
        with self.lock:
            self.idle.append((key, worker))
        return status if status >= 0 else None

    def _take(self, key: WorkerKey) -> Worker | None:
        with self.lock:
            if self.stopped or key in self.given_up:
                return None
            for index in reversed(range(len(self.idle))):
                if self.idle[index][0] == key:
                    return self.idle.pop(index)[1]
            spare = None
            if len(self.workers) + self.starting >= self.jobs:
                if not self.idle:
                    return None
                spare = self.idle.pop(0)[1]
                self.workers.remove(spare)
            self.starting += 1
        if spare:
            spare.close()
        return self._start(key)

    def _start(self, key: WorkerKey) -> Worker | None:
        try:
            worker = Worker(key, self.hook)
        except OSError:  # no such interpreter: the subprocess path says so
            worker = None
        with self.lock:
            self.starting -= 1
            if worker is None:
                self.given_up.add(key)
            else:
                self.workers.append(worker)
        if worker and self.stopped:
            worker.kill()
        return worker

    def _drop(self, worker: Worker, broken: WorkerKey | None) -> None:
        with self.lock:
            if worker in self.workers:
                self.workers.remove(worker)
            if broken:
                self.given_up.add(broken)
        worker.close()

    def kill(self) -> None:
        """Ends every worker and its build, now. Takes no lock: the thread that holds it may be the interrupted one."""
        self.stopped = True
        for worker in list(self.workers):
            worker.kill()

    def close(self) -> None:
        """Ends every worker and waits until it is gone. No build may run."""
        self.kill()
        with self.lock:
            workers, self.workers, self.idle = self.workers, [], []
        for worker in workers:
            worker.close()
