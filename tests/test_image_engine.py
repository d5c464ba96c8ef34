"""buildlib.image.engine: the quick question ends in time, says why, and sees what the engine has."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import private_engine
import pytest
from docker_engine import DockerEngine, without

from buildlib.image.build import BuildFailed, pull
from buildlib.image.endpoint import Endpoint, Tls, find_endpoint
from buildlib.image.engine import familiar, inspect_engine


@contextmanager
def _serving(path: Path, talk: Callable[[socket.socket], None]) -> Iterator[Endpoint]:
    """A server on a socket that does to its one caller what `talk` does."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as caller:
                talk(caller)

        threading.Thread(target=serve, daemon=True).start()
        yield Endpoint(f"unix://{path}", None, "test")


def _ask(path: Path) -> str:
    state = inspect_engine(Endpoint(f"unix://{path}", None, "test"), timeout=1)
    assert not state.reachable
    assert "\n" not in state.why
    return state.why


def test_a_missing_socket_says_so(tmp_path: Path) -> None:
    assert _ask(tmp_path / "no.sock").endswith("no.sock: No such file or directory")


def test_a_stale_socket_says_so(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    assert _ask(tmp_path / "dead.sock").endswith("Connection refused")


def test_a_file_where_a_socket_should_be_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert _ask(tmp_path / "file").endswith("Connection refused")


def test_a_path_too_long_for_a_socket_says_so(tmp_path: Path) -> None:
    assert "too long" in _ask(tmp_path / ("x" * 200))


def test_a_silent_server_is_given_up_in_time(tmp_path: Path) -> None:
    with _serving(tmp_path / "s", lambda _: time.sleep(5)) as endpoint:
        start = time.monotonic()
        state = inspect_engine(endpoint, timeout=0.3)
    assert not state.reachable
    assert state.why.endswith("no answer within 0.3 s")
    assert time.monotonic() - start < 2


def test_a_trickling_server_is_given_up_in_time(tmp_path: Path) -> None:
    def trickle(caller: socket.socket) -> None:
        with contextlib.suppress(BrokenPipeError):
            for _ in range(100):
                caller.sendall(b"H")
                time.sleep(0.05)

    with _serving(tmp_path / "s", trickle) as endpoint:
        start = time.monotonic()
        state = inspect_engine(endpoint, timeout=0.3)
    assert not state.reachable
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "what answers there is no Docker engine"),
        (b"SSH-2.0-OpenSSH\r\n", "what answers there is no Docker engine"),
        (b'HTTP/1.0 500 X\r\n\r\n{"message": "broken\\nhere"}', "the engine answered HTTP 500: broken here"),
        (b"HTTP/1.0 403 X\r\n\r\n<html>", "the engine answered HTTP 403: <html>"),
        (b"HTTP/1.0 200 OK\r\n\r\n[", ""),
        (b'HTTP/1.0 200 OK\r\n\r\n[{"RepoTags": ["a:b"]}]', ""),
        (b"HTTP/1.0 200 OK\r\n\r\n[1]", ""),
        (b"HTTP/1.0 200 OK\r\n\r\n\xff", ""),
    ],
)
def test_an_answer_that_is_no_engines_is_a_reason(tmp_path: Path, answer: bytes, why: str) -> None:
    def reply(caller: socket.socket) -> None:
        caller.recv(1000)
        caller.sendall(answer)

    with _serving(tmp_path / "s", reply) as endpoint:
        state = inspect_engine(endpoint, timeout=2)
    assert not state.reachable
    assert state.why
    assert why in state.why


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:1", "tcp://127.0.0.1:x", "ssh://me@there", "tcp://127.0.0.1:99999"])
def test_an_address_nobody_answers_at_is_a_reason(host: str) -> None:
    state = inspect_engine(Endpoint(host, None, "test"), timeout=1)
    assert not state.reachable
    assert host in state.why


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ("python", "python:latest"),
        ("python:3.12", "python:3.12"),
        ("docker.io/library/python", "python:latest"),
        ("docker.io/team/x:1", "team/x:1"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("localhost:5000/x:1@sha256:ab", "localhost:5000/x@sha256:ab"),
    ],
)
def test_references_are_written_as_the_engine_prints_them(given: str, printed: str) -> None:
    assert familiar(given) == printed


def test_the_question_imports_neither_docker_nor_http() -> None:
    code = """
import sys
from buildlib.image.endpoint import find_endpoint
from buildlib.image.engine import inspect_engine
assert not inspect_engine(find_endpoint({"DOCKER_HOST": "unix:///nothing/here"})).reachable
heavy = {"docker", "requests", "http", "http.client", "ssl", "subprocess", "asyncio"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    # -S: a development environment's .pth files import what they like
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.docker
def test_a_real_engine_tells_its_images(docker_engine: DockerEngine, docker_base: str, image_name: str) -> None:
    endpoint = find_endpoint({"DOCKER_HOST": docker_engine.host})
    base = docker_engine.client.inspect_image(docker_base)["Id"]
    before = inspect_engine(endpoint)
    assert before.reachable, before.why
    assert before.find(docker_base) == before.find(f"docker.io/{docker_base}") == before.find(base) == base
    assert before.find(image_name) is None
    docker_engine.client.tag(base, image_name)
    assert inspect_engine(endpoint).images[image_name] == base


@pytest.mark.docker
def test_an_image_pulled_by_digest_is_found_by_digest(
    docker_engine: DockerEngine, docker_base: str, registry: str
) -> None:
    endpoint = find_endpoint({"DOCKER_HOST": docker_engine.host})
    docker_engine.client.tag(docker_base, f"{registry}/by-digest:1")
    said = list(docker_engine.client.push(f"{registry}/by-digest:1", stream=True, decode=True))
    digest = next(line["aux"]["Digest"] for line in said if "aux" in line)
    docker_engine.client.remove_image(f"{registry}/by-digest:1")
    reference = f"{registry}/by-digest@{digest}"
    assert inspect_engine(endpoint).find(reference) is None
    assert pull(endpoint, reference) == inspect_engine(endpoint).find(reference) is not None
    docker_engine.client.remove_image(reference)


@pytest.mark.docker
@pytest.mark.slow
def test_an_engine_behind_tls_needs_and_gets_our_certificate(tmp_path_factory: pytest.TempPathFactory) -> None:
    if why := private_engine.missing("dockerd") or private_engine.missing("openssl"):
        without(why)
    tmp_path = tmp_path_factory.mktemp("tls")  # short enough for sockets
    _certificates(tmp_path)
    port = private_engine.free_port()
    pems = {"tlscacert": "ca.pem", "tlscert": "server.pem", "tlskey": "server-key.pem"}
    options = [f"--host=tcp://127.0.0.1:{port}", "--tlsverify"]
    options += [f"--{name}={tmp_path / file}" for name, file in pems.items()]
    environ = {"DOCKER_HOST": f"tcp://127.0.0.1:{port}", "DOCKER_CERT_PATH": str(tmp_path), "DOCKER_TLS_VERIFY": "1"}
    with private_engine.private_engine(tmp_path / "engine", *options):
        endpoint = find_endpoint(environ)
        assert inspect_engine(endpoint).reachable, inspect_engine(endpoint).why
        with pytest.raises(BuildFailed, match=r"nothing:1: .*connection refused"):
            pull(endpoint, "127.0.0.1:1/nothing:1")
        nameless = Endpoint(endpoint.host, Tls(str(tmp_path / "ca.pem"), None, None, True), "test")
        assert not inspect_engine(nameless).reachable
        assert not inspect_engine(Endpoint(endpoint.host, Tls(None, None, None, True), "test")).reachable


def _certificates(folder: Path) -> None:
    """An authority, a server's certificate for 127.0.0.1 and a client's, as Docker's documentation makes them."""

    def openssl(words: str) -> None:
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)

    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca-key.pem -out ca.pem")
    for name, key, out in (("server", "server-key.pem", "server.pem"), ("client", "key.pem", "cert.pem")):
        extra = "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n"
        (folder / "extra").write_text(extra)
        openssl(f"req -new -newkey rsa:2048 -nodes -subj /CN={name} -keyout {key} -out {name}.csr")
        authority = "-CA ca.pem -CAkey ca-key.pem -CAcreateserial"
        openssl(f"x509 -req -days 2 -in {name}.csr {authority} -extfile extra -out {out}")
