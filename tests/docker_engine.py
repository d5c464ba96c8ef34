"""Fixtures for tests against a real Docker engine and registry; loaded by conftest (`pytest_plugins`).

An engine named in BUILDLIB_TEST_DOCKER_HOST is used (a registry: BUILDLIB_TEST_REGISTRY); else a private one is started
for the session. Where neither is possible the tests are skipped, with BUILDLIB_TEST_DOCKER=require they fail.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import host_base
import private_engine
import pytest

BASE = "buildlib-test/python:3"


@dataclass(frozen=True)
class DockerEngine:
    """An engine that answers: its address, as DOCKER_HOST takes it, and docker-py's client for a test's own looks."""

    host: str
    client: Any

    def run(self, image: str, *command: str, entrypoint: str | None = None) -> str:
        """Run a container to its end and give its output; a non-zero exit is an error with the output."""
        made = self.client.create_container(image, list(command) or None, entrypoint=entrypoint)["Id"]
        try:
            self.client.start(made)
            status = self.client.wait(made)["StatusCode"]
            said = str(self.client.logs(made).decode())
        finally:
            self.client.remove_container(made, force=True)
        assert status == 0, said
        return said


@pytest.fixture(scope="session")
def docker_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerEngine]:
    """A real engine; nothing of it is left when the session ends, if it is a private one."""
    import docker

    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("e") / "d"
        given = os.environ.get(private_engine.ENGINE_VARIABLE)
        host = given or _started(stack, "dockerd", private_engine.private_engine, folder)
        client = docker.APIClient(base_url=host, version="auto", timeout=120)
        stack.callback(client.close)
        yield DockerEngine(host, client)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry without TLS or login, `127.0.0.1:PORT`; engines take it as an insecure one by its address."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("registry") / "d"
        given = os.environ.get(private_engine.REGISTRY_VARIABLE)
        yield given or _started(stack, "docker-registry", private_engine.private_registry, folder)


@pytest.fixture(scope="session")
def docker_base(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a base image made of this machine's Python, with pip: what `FROM` names in tests."""
    path = tmp_path_factory.mktemp("base") / "base.tar"
    python = host_base.write(path)
    name, _, label = BASE.partition(":")
    docker_engine.client.import_image_from_file(
        str(path), repository=name, tag=label, changes=host_base.changes(python)
    )
    path.unlink()
    return BASE


@pytest.fixture
def image_name(docker_engine: DockerEngine) -> Iterator[str]:
    """A name for one test's image; the name is taken off when the test ends."""
    name = f"buildlib-test/{uuid.uuid4().hex[:12]}:latest"
    yield name
    if docker_engine.client.images(name):
        docker_engine.client.remove_image(name, force=True)


def without(why: str) -> NoReturn:
    """Skip the test, or fail it where real engines are required."""
    if os.environ.get("BUILDLIB_TEST_DOCKER") == "require":
        pytest.fail(f"BUILDLIB_TEST_DOCKER=require, but {why}")
    pytest.skip(why)


def _started(stack: ExitStack, program: str, start: Callable[[Path], AbstractContextManager[str]], folder: Path) -> str:
    why = private_engine.missing(program)
    if not why:
        return stack.enter_context(start(folder))
    without(why)
