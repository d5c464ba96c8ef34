"""A warm build backend: imported once, then one forked child per build.

A script of its own, stdlib only, run by the *build environment's* interpreter. Knows the hook script (which it is
given as source, and runs as it is) and processes. Does not know actions.

Each build happens in a child, so nothing it does reaches the next one. Before the second one the worker builds a sample
project itself: a run with a single build should not pay for that.

Stdin brings lines of JSON: first {"hook": source, "backend": name}, then one request per build:
{"argv": […], "environment": {…}, "directory": path, "log": path}. Stdout answers each with {"pid": …} and, when it has
ended, {"status": exit code, negative for a signal}. The end of stdin, or SIGTERM, kills the running child's process
group and ends the worker.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import sys

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from typing import Any, NoReturn

# Any backend of PEP 621 projects builds this. A marker, a script and a readme warm what real projects use.
SAMPLE = {
    "pyproject.toml": """\
[project]
name = "warmup"
version = "1.0"
description = "warms a build backend"
readme = "README.md"
requires-python = ">=3.8"
dependencies = ["a>=1,<2; python_version >= '3.8' and sys_platform == 'linux'", "b[c]"]
[project.optional-dependencies]
d = ["e~=1.0"]
[project.scripts]
warmup = "warmup:main"
""",
    "README.md": "# warm-up\n",
    "warmup/__init__.py": '"""Warms a build backend."""\n\n__version__ = "1.0"\n',
}


class Worker:
    """Serves one parent until it goes away."""

    def __init__(self, requests: int, replies: int) -> None:
        self.requests, self.replies = requests, replies
        self.buffer = b""
        self.child = 0
        self.woken, wakes = os.pipe()
        for descriptor in (self.woken, wakes):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.end())

    def end(self) -> NoReturn:
        """Kills the running build with everything in its group, and leaves."""
        if self.child:
            kill_group(self.child)
        os._exit(0)

    def receive(self) -> Any:
        """The next message; does not return when the parent is gone."""
        while b"\n" not in self.buffer:
            data = os.read(self.requests, 65536)
            if not data:
                self.end()
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return json.loads(line)

    def reply(self, message: object) -> None:
        try:
            os.write(self.replies, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            self.end()

    def serve(self) -> NoReturn:
        setup = self.receive()
        hook: dict[str, Any] = {"__name__": "hook"}
        exec(compile(setup["hook"], "hook.py", "exec"), hook)  # the very text that a subprocess would run
        with contextlib.suppress(BaseException):  # a build says it, with its traceback
            hook["load_backend"](setup["backend"], [])
        self.build(hook, self.receive())
        request = self.receive()
        with contextlib.suppress(Exception):  # then each build warms itself
            warm_up(hook, setup["backend"], request)
        while True:
            self.build(hook, request)
            request = self.receive()

    def build(self, hook: dict[str, Any], request: dict[str, Any]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # until we know whom to kill
        pid = os.fork()
        if not pid:
            self.become_build(hook, request)
        self.child = pid
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # the child does it too: whoever is first
        self.reply({"pid": pid})
        status = self.wait(pid)
        kill_group(pid)  # what the build left in the background
        self.child = 0
        self.reply({"status": -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)})

    def wait(self, pid: int) -> int:
        poll = select.poll()
        poll.register(self.requests, select.POLLIN | select.POLLHUP)
        poll.register(self.woken, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self.woken in ready:
                os.read(self.woken, 4096)
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    return status
            if self.requests in ready:  # no request comes while one runs: this is the parent's end
                self.end()

    def become_build(self, hook: dict[str, Any], request: dict[str, Any]) -> NoReturn:
        """The child: sets up what a fresh process would find, runs the hook, exits. Never returns."""
        code = 1
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
            os.close(self.requests)
            os.close(self.replies)
            prepare(request)
            code = hook["main"](request["argv"])
            finish()
        finally:
            os._exit(code)


def prepare(request: dict[str, Any]) -> None:
    """This build's log, surroundings and arguments, in place of the worker's."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    enter(request["environment"], request["directory"])
    sys.argv[:] = ["hook.py", *request["argv"]]


def enter(environment: dict[str, str], directory: str) -> None:
    """Umask, environment and directory, and what the standard library remembers of former ones."""
    os.umask(0o022)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    if "tempfile" in sys.modules:
        vars(sys.modules["tempfile"])["tempdir"] = None  # a cached TMPDIR would be the worker's


def finish() -> None:
    """What the end of a process does: exit handlers, then flushing."""
    import atexit

    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()


def warm_up(hook: dict[str, Any], backend: str, request: dict[str, Any]) -> None:
    """Builds a tiny fixed project in this very process, in the room of `request`, and leaves nothing there.

    It imports what a backend imports late and fills what it computes once a process (parsers of grammars, compiled
    schemas): most of a build's time. That it is always the same project keeps every child's start the same.
    """
    import shutil

    place = os.path.join(request["environment"]["TMPDIR"], "warm-up")
    try:
        for path, text in SAMPLE.items():
            os.makedirs(os.path.dirname(os.path.join(place, path)), exist_ok=True)
            with open(os.path.join(place, path), "w", encoding="utf-8") as file:
                file.write(text)
        enter(request["environment"], place)
        hook["main"](["build_wheel", "--backend", backend, "--output", "out"])
    finally:
        os.chdir("/")
        shutil.rmtree(place, ignore_errors=True)
    gc.collect()
    gc.freeze()  # the collector then leaves these pages shared with the children


def kill_group(group: int) -> None:
    with contextlib.suppress(OSError):  # nothing is left in it
        os.killpg(group, signal.SIGKILL)


def main() -> NoReturn:
    here = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != here]
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # what an import prints must not look like an answer
        os.dup2(null, descriptor)
    Worker(requests, replies).serve()


if __name__ == "__main__":
    main()
