"""A Docker engine and a registry of our own, started and ended by pid. Standard library only; needs root and Linux.

Knows dockerd and docker-registry (Debian: docker.io, docker-registry). Everything of theirs lives in one folder that is
removed at the end; sockets, bridge, containerd namespace and port are theirs alone, so that several may run beside each
other and beside the machine's own engine. Does not know pytest.

    python3 tests/private_engine.py COMMAND…    runs COMMAND with both up; its exit code is the command's
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ENGINE_VARIABLE = "BUILDLIB_TEST_DOCKER_HOST"  # an engine to use instead of a private one, unix:///…
REGISTRY_VARIABLE = "BUILDLIB_TEST_REGISTRY"  # a registry likewise, HOST:PORT
START = 60.0  # seconds until each must answer
# linux/sockios.h, linux/if.h
SIOCBRADDBR, SIOCBRDELBR, SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x89A0, 0x89A1, 0x8913, 0x8914, 1
PR_SET_PDEATHSIG = 1  # linux/prctl.h

REGISTRY_CONFIG = """version: 0.1
storage: {{filesystem: {{rootdirectory: "{data}"}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}", headers: {{X-Started-By: ["{token}"]}}}}
"""


class NotStarted(Exception):
    """A server did not come up; the message has the end of its log."""


@contextlib.contextmanager
def private_engine(folder: Path, *options: str) -> Iterator[str]:
    """A running dockerd with its data in `folder` (made here, removed at the end); gives its `unix://` address."""
    address, longest = folder / "docker.sock", folder / "exec" / "containerd" / "containerd-debug.sock"
    if len(str(longest)) > 107:  # unix(7): a socket's path has 108 bytes at most
        raise NotStarted(f"the path is too long for a socket: {longest}")
    folder.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        stack.callback(_clear, folder)
        bridge = stack.enter_context(_bridge())
        command = [*_dockerd(folder, address, bridge), *options]
        stack.enter_context(_server(command, folder / "log", lambda: _pings(address)))
        stack.callback(_end_containerd, folder)
        yield f"unix://{address}"


@contextlib.contextmanager
def private_registry(folder: Path) -> Iterator[str]:
    """A running registry with its data in `folder` (made here, removed at the end); gives `127.0.0.1:PORT`."""
    folder.mkdir(parents=True)
    config, token = folder / "config.yml", secrets.token_hex(8)
    with contextlib.ExitStack() as stack:
        stack.callback(_clear, folder)
        port = free_port()
        config.write_text(REGISTRY_CONFIG.format(data=folder / "data", port=port, token=token))
        command = ["docker-registry", "serve", str(config)]
        # Who answers on a port may be somebody else: only ours knows the token.
        stack.enter_context(_server(command, folder / "log", lambda: _answers(port, token)))
        yield f"127.0.0.1:{port}"


def _dockerd(folder: Path, address: Path, bridge: str) -> list[str]:
    options = {
        "data-root": folder / "data",
        "exec-root": folder / "exec",
        "pidfile": folder / "docker.pid",
        "host": f"unix://{address}",
        "bridge": bridge,
        "containerd-namespace": bridge,  # dockerd takes the machine's containerd where one runs
        "containerd-plugins-namespace": f"{bridge}-plugins",
        "config-file": folder / "daemon.json",  # not the machine's /etc/docker/daemon.json
        "shutdown-timeout": 2,
    }
    (folder / "daemon.json").write_text("{}")
    return ["dockerd", *(f"--{name}={value}" for name, value in options.items())]


@contextlib.contextmanager
def _server(command: list[str], log: Path, ready: Callable[[], bool]) -> Iterator[None]:
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,  # a Ctrl-C is for the tests; the server ends when they have
            preexec_fn=_end_with_parent,
        )
    try:
        _wait(process, log, ready)
        yield
    finally:
        _end(process)


def _end_with_parent() -> None:
    """In the child: SIGTERM when the parent dies, even by SIGKILL."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool]) -> None:
    end = time.monotonic() + START
    while process.poll() is None and time.monotonic() < end:
        if ready():
            return
        time.sleep(0.05)
    said = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    state = "does not answer" if process.returncode is None else f"ended with {process.returncode}"
    raise NotStarted(f"{process.args!r} {state}:\n{said}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_containerd(folder: Path) -> None:
    """dockerd ends its containerd; one that outlived it is ended here, if it is really that one."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / "exec" / "containerd" / "containerd.pid").read_text())
        if str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def _clear(folder: Path) -> None:
    """Take off every mount below the folder, then remove it."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _bridge() -> Iterator[str]:
    """A network bridge of its own: two engines on docker0 would give out the same addresses. dockerd numbers it."""
    name = f"bl{secrets.token_hex(4)}"
    with socket.socket() as control:
        fcntl.ioctl(control, SIOCBRADDBR, name.encode() + b"\0")
        try:
            yield name
        finally:
            _forget_rules(name)
            request = struct.pack("16sH14x", name.encode(), 0)
            flags = struct.unpack("16sH14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
            fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), flags & ~IFF_UP))
            fcntl.ioctl(control, SIOCBRDELBR, name.encode() + b"\0")


def _forget_rules(bridge: str) -> None:
    """dockerd leaves its packet filter rules when it ends; those that name the bridge are ours."""
    for table in ("filter", "nat"):
        listed = subprocess.run(["iptables", "-w", "-t", table, "-S"], capture_output=True, text=True).stdout
        for rule in listed.splitlines():
            if bridge in rule.split() and rule.startswith("-A "):
                words = ["iptables", "-w", "-t", table, "-D", *rule.split()[1:]]
                subprocess.run(words, check=False, capture_output=True)


def _pings(address: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        connection.connect(str(address))
        connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
        return connection.recv(64).startswith(b"HTTP/1.0 200")
    return False


def _answers(port: int, token: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().getheader("X-Started-By") == token
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def missing(program: str) -> str:
    """Why a private server cannot be started here; empty where it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return f"a private {program} needs root on Linux"
    return "" if shutil.which(program) else f"{program} is not installed"


def main(command: list[str]) -> int:
    """Run the command with an engine and a registry; SIGTERM ends the command first, then both."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="buildlib-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        engine = stack.enter_context(private_engine(folder / "engine"))
        registry = stack.enter_context(private_registry(folder / "registry"))
        environ = {**os.environ, ENGINE_VARIABLE: engine, REGISTRY_VARIABLE: registry}
        child = subprocess.Popen(command, env=environ, preexec_fn=_end_with_parent)
        stack.callback(_end, child)
        return child.wait()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except NotStarted as error:
        sys.exit(f"private_engine: {error}")
