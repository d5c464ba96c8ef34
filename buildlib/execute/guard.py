"""Runs one command and ends with it, or with its parent: no process of a killed build outlives it.

A script of its own, stdlib only, run by the tool's interpreter with `-I -S` as leader of a new session. Knows
processes. Does not know what the command is.

Stdin is a pipe that the parent holds open: it brings the request, and its end means that the parent is gone, however it
died. The command joins the guard's process group, so one SIGKILL to the group ends both, from here or from the parent.
Descendants that left the group (a daemon that called setsid) are found as well where the system is Linux.

    guard.py STATUS_FD SUBREAPER     the command's wait status goes to STATUS_FD as decimal digits

SIGUSR1 means the same as the end of stdin: kill everything now.
"""

from __future__ import annotations

import os
import select
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def pack(directory: str, argv: list[str], environment: dict[str, str]) -> bytes:
    """The request: a length in decimal and a newline, then the fields, separated by NUL bytes."""
    fields = [directory, str(len(argv)), *argv, *(f"{name}={value}" for name, value in environment.items())]
    body = b"\0".join(os.fsencode(field) for field in fields)
    return b"%d\n%b" % (len(body), body)


def unpack(body: bytes) -> tuple[bytes, list[bytes], dict[bytes, bytes]]:
    """(directory, argv, environment) of a packed request's body."""
    directory, count, *rest = body.split(b"\0")
    argv, variables = rest[: int(count)], rest[int(count) :]
    return directory, argv, dict(variable.split(b"=", 1) for variable in variables)


def read_request(descriptor: int) -> bytes:
    """The body; exits when the parent dies before it has sent all of it."""
    head = b""
    while not head.endswith(b"\n"):
        head += os.read(descriptor, 1) or sys.exit(1)
    body = b""
    while len(body) < int(head):
        body += os.read(descriptor, int(head) - len(body)) or sys.exit(1)
    return body


def adopt_orphans() -> None:
    """Makes us the parent of every orphan below us (Linux), so that a daemonised one can still be found."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> list[int]:
    """Our direct children, as the kernel lists them; none where it does not (not Linux)."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as listing:
            return [int(word) for word in listing.read().split()]
    except OSError:
        return []


def end_adopted() -> None:
    """Kills what became our child by orphanage, until nothing is left: each kill may orphan the next generation."""
    for _ in range(1000):
        found = children()
        if not found:
            return
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        for pid in found:
            os.waitpid(pid, 0)


def start(directory: bytes, argv: list[bytes], environment: dict[bytes, bytes]) -> int:
    """The command's pid. A command that cannot be started exits with 127, as a shell's would."""
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.umask(0o022)
        os.chdir(directory)
        os.execvpe(argv[0], argv, environment)
    except OSError as error:
        os.write(2, b"%b: %b\n" % (argv[0], os.fsencode(os.strerror(error.errno or 0))))
    finally:
        os._exit(127)


def wait(pid: int, woken: int) -> int | None:
    """The command's wait status; None when the parent went away, or wants an end, before there is one."""
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    poll.register(woken, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if woken in ready:
            if signal.SIGUSR1 in os.read(woken, 4096):  # the wakeup pipe brings signal numbers
                return None
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return status
        if 0 in ready and not os.read(0, 4096):
            return None


def main() -> None:
    status_to, subreaper = int(sys.argv[1]), sys.argv[2] == "1"
    os.set_inheritable(status_to, False)
    woken, wakes = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wakes, False)
    for number in (signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    # A command that signals its own group must not take us with it before we have told its status.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    directory, argv, environment = unpack(read_request(0))
    if subreaper:
        adopt_orphans()
    status = wait(start(directory, argv, environment), woken)
    if status is not None:
        os.write(status_to, b"%d" % status)
    if subreaper:
        end_adopted()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
