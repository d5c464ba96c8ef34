"""Runs actions on this machine: in a warm worker where the action allows it, else in a guarded subprocess.

Knows rooms, processes and what their exit means. Does not know projects, stores or doit.

What a command finds besides the action's own environment, with umask 022 and an empty stdin:
HOME = ROOM/home and TMPDIR = ROOM/tmp (made for it, empty), and GIT_CEILING_DIRECTORIES = ROOM, so that git never
finds the repository around the room. These three always win over the action's own.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import json
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from buildlib.execute import guard
from buildlib.execute.action import Action, ActionFailed, MissingRequires, Result
from buildlib.execute.hook import MISSING_REQUIRES, REQUIRES_FILE, hook_source
from buildlib.execute.stage import collect, stage
from buildlib.execute.workers import WorkerPool, fill, worker_backend

if TYPE_CHECKING:
    import subprocess

GUARD = os.path.abspath(guard.__file__)
GRACE = 0.3  # seconds in which a guard ends its command before we shoot both

OnOutput = Callable[[str], None]


@dataclass(frozen=True)
class Command:
    """An action with its placeholders filled: what really runs."""

    argv: list[str]
    environment: dict[str, str]
    directory: str
    log: str


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative: the signal), and all it printed."""

    status: int
    log: str


class LocalExecutor:
    """Runs actions; its methods may be called from several threads at once.

    Args:
        jobs: how many warm workers may exist at a time; builds beyond that run in subprocesses.
    """

    def __init__(self, *, jobs: int = os.cpu_count() or 1) -> None:
        hook = hook_source()
        self._hook_sha256 = hashlib.sha256(hook).hexdigest()
        self._pool = WorkerPool(jobs, hook.decode("utf-8"))
        self._running: set[int] = set()  # pids of guards, each the leader of its process group
        self._stopped = False

    def run(
        self,
        action: Action,
        read: Callable[[str], bytes],
        room: str,
        tools: Mapping[str, str],
        on_output: OnOutput | None = None,
    ) -> Result:
        """Stages the inputs, runs the command, and reads out what it declared; the outputs stay in ROOM/root.

        Args:
            read: gives an input's bytes by its declared path.
            room: absolute path of a directory of this step alone; made anew. The caller removes it (`remove_room`).
            tools: what placeholders stand for, as `{"python": …, "bin": …}`.
            on_output: called with each line (without its newline) while it runs; after it, for a warm worker.

        Raises:
            InvalidAction: the action reaches outside its input root.
            InputChanged: an input's bytes are not the declared ones.
            MissingRequires: the hook script ended with code 64: the backend needs more in its environment.
            ActionFailed: everything else that went wrong in the command; `detail` is its log.
            BuildlibError: an input cannot be read, or the room not written.
        """
        started = time.perf_counter()
        root = stage(action, read, room)
        ended = self._run_warm(action, root, tools, on_output)
        if ended is None:
            if os.path.exists(_log_path(root)):  # a worker began here
                stage(action, read, room)
            ended = self._run_guarded(_fill_command(action, root, tools), on_output)
        self._raise_if_failed(action, root, ended)
        try:
            outputs = collect(action, root)
        except ActionFailed as problem:
            raise ActionFailed(problem.place, problem.cause, problem.cure, ended.log) from None
        return Result(outputs, ended.log, time.perf_counter() - started)

    def kill(self) -> None:
        """Ends every running command now, and lets none start any more. Safe in a signal handler and in any thread."""
        self._stopped = True
        self._pool.kill()
        for pid in list(self._running):
            _send(os.kill, pid, signal.SIGUSR1)  # the guard also finds what has left the group
        until = time.monotonic() + GRACE
        while any(_is_alive(pid) for pid in list(self._running)) and time.monotonic() < until:
            time.sleep(0.005)
        for pid in list(self._running):
            _send(os.killpg, pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends workers and running commands, and waits for the workers. Nothing can be run afterwards."""
        self.kill()
        self._pool.close()

    def _run_warm(
        self, action: Action, root: str, tools: Mapping[str, str], on_output: OnOutput | None
    ) -> Ended | None:
        """How it ended in a warm worker; None where none may or can do it."""
        backend = worker_backend(action, self._hook_sha256)
        if backend is None:
            return None
        command = _fill_command(action, root, tools)
        request: dict[str, Any] = {
            "argv": command.argv[2:],
            "environment": command.environment,
            "directory": command.directory,
            "log": command.log,
        }
        status = self._pool.run(self._pool.key(command.argv[0], backend, command.environment), request)
        if status is None:
            return None
        with open(command.log, encoding="utf-8", errors="replace") as file:
            log = file.read()
        for line in log.splitlines() if on_output else ():
            on_output(line)  # type: ignore[misc]
        return Ended(status, log)

    def _run_guarded(self, command: Command, on_output: OnOutput | None) -> Ended:
        """Runs the command under guard.py and waits until nothing of it is left."""
        status_from, status_to = os.pipe()
        try:
            process = _start_guard(status_to)
        except BaseException:
            os.close(status_from)
            raise
        finally:
            os.close(status_to)
        self._running.add(process.pid)
        output = _Output(on_output)
        try:
            if self._stopped:
                _send(os.killpg, process.pid, signal.SIGKILL)
            _send_request(process, command)
            status = _follow(process, status_from, output)
        finally:
            # Not yet waited for, so the pid is still its own, even if the guard is dead.
            _send(os.killpg, process.pid, signal.SIGKILL)
            self._running.discard(process.pid)
            process.wait()
            os.close(status_from)
            output.drain(process)
            _close_pipes(process)
        code = os.waitstatus_to_exitcode(int(status)) if status else -signal.SIGKILL
        return Ended(code, output.text())

    def _raise_if_failed(self, action: Action, root: str, ended: Ended) -> None:
        place = action.directory or "."
        if ended.status == 0:
            return
        if self._stopped:
            raise ActionFailed(place, "the build was stopped", "run again", ended.log)
        if ended.status == MISSING_REQUIRES and (requires := _missing_requires(action, root)):
            raise MissingRequires(place, requires, ended.log)
        how = f"was killed by signal {-ended.status}"
        if ended.status > 0:
            how = f"ended with exit code {ended.status}{_last_words(ended.log)}"
        raise ActionFailed(place, f"the build {how}", "see its output", ended.log)


def _last_words(log: str) -> str:
    """Return the last line of an output, in brackets: most tools say there why they failed."""
    last = "".join(filter(str.isprintable, log.strip().rpartition("\n")[2])).strip()
    return f" ({last[:200]})" if last else ""


def _fill_command(action: Action, root: str, tools: Mapping[str, str]) -> Command:
    room = os.path.dirname(root)
    values = {**tools, "root": root}
    environment = {name: fill(value, values) for name, value in action.environment}
    environment["HOME"] = os.path.join(room, "home")
    environment["TMPDIR"] = os.path.join(room, "tmp")
    environment["GIT_CEILING_DIRECTORIES"] = room
    argv = [fill(word, values) for word in action.argv]
    return Command(argv, environment, os.path.join(root, action.directory), _log_path(root))


def _log_path(root: str) -> str:
    return os.path.join(os.path.dirname(root), "log")


def _start_guard(status_to: int) -> subprocess.Popen[bytes]:
    import subprocess

    return subprocess.Popen(
        # Our own interpreter in a session of its own: a Ctrl-C of the terminal reaches us, and we decide.
        [sys.executable, "-I", "-S", GUARD, str(status_to), "1" if sys.platform == "linux" else "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        pass_fds=(status_to,),
        start_new_session=True,
    )


def _send_request(process: subprocess.Popen[bytes], command: Command) -> None:
    """The pipe stays open: its end is how the guard learns of ours."""
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):  # it was killed; the missing status will tell
        process.stdin.write(guard.pack(command.directory, command.argv, command.environment))
        process.stdin.flush()


def _follow(process: subprocess.Popen[bytes], status_from: int, output: _Output) -> bytes:
    """Reads the output until the guard is gone; the wait status it told, empty if it told none."""
    assert process.stdout
    status = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(status_from, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                data = os.read(key.fd, 65536)
                if key.fd == status_from and not data:
                    return status
                if key.fd == status_from:
                    status += data
                elif data:
                    output.add(data)
                else:
                    selector.unregister(process.stdout)  # the command closed it and goes on


class _Output:
    """Collects bytes, hands out whole lines of text."""

    def __init__(self, on_output: OnOutput | None) -> None:
        self.on_output = on_output
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.parts: list[str] = []
        self.line = ""

    def add(self, data: bytes, final: bool = False) -> None:
        text = self.decoder.decode(data, final)
        self.parts.append(text)
        if self.on_output is None:
            return
        *lines, self.line = (self.line + text).split("\n")
        if final and self.line:
            lines.append(self.line)
        for line in lines:
            self.on_output(line.removesuffix("\r"))

    def drain(self, process: subprocess.Popen[bytes]) -> None:
        """What is still in the pipe; does not wait for whoever might still hold its other end."""
        assert process.stdout
        os.set_blocking(process.stdout.fileno(), False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(process.stdout.fileno(), 65536):
                self.add(data)
        self.add(b"", final=True)

    def text(self) -> str:
        return "".join(self.parts)


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe:
                pipe.close()


def _missing_requires(action: Action, root: str) -> tuple[str, ...]:
    """What the hook script left in one of the declared output directories; empty if it did not."""
    for output in action.outputs:
        path = os.path.join(root, output, REQUIRES_FILE)
        if output.endswith("/") and os.path.isfile(path):
            with contextlib.suppress(ValueError), open(path, encoding="utf-8") as file:
                return tuple(str(requirement) for requirement in json.load(file))
    return ()


def _send(how: Callable[[int, int], None], pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
        how(pid, number)


def _is_alive(pid: int) -> bool:
    """Whether a child of ours still runs; it stays to be waited for. Unknown, and so True, where waitid is missing."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False
    except AttributeError:
        return True
