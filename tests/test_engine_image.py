"""`image` with a real engine, through `doit` as a process: what runs, what is said, what the engine has afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_engine import DockerEngine
from world import Run, World

pytestmark = pytest.mark.docker

TAGS = ("svc:latest", "other:latest", "buildlib-test/moving:1", "buildlib-test/moved:1")
COPY = "COPY . /context\n"
USUAL = """\
COPY ./deps/*.whl ./
RUN pip install --no-index --no-deps *.whl
COPY ./*.whl ./
RUN pip install --no-index --no-deps svc*.whl
CMD ["python", "-m", "svc"]
"""


class Proxy:
    """A socket in front of an engine's, which counts the connections that come through it."""

    def __init__(self, address: Path, engine: str) -> None:
        self.connections = 0
        self._open: list[socket.socket] = []
        self._engine, self._server = engine, socket.socket(socket.AF_UNIX)
        self._server.bind(str(address))
        self._server.listen()
        self.host = f"unix://{address}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._server.close()

    def cut(self) -> None:
        """Break every connection, as an engine that dies does."""
        for connection in self._open:
            connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            there = socket.socket(socket.AF_UNIX)
            there.connect(self._engine.removeprefix("unix://"))
            self._open += [here]
            for source, sink in ((here, there), (there, here)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Images:
    """A world with an engine: the services `svc` (which needs app, which needs base) and, on demand, `other`."""

    def __init__(self, world: World, engine: DockerEngine, base: str) -> None:
        self.world, self.engine, self.base = world, engine, base
        world.environ["DOCKER_HOST"] = engine.host
        world.library("base")
        world.library("app", "base")
        world.service("svc", "app")
        world.write("services/svc/svc/__main__.py", "import app, base\nprint(app.NAME, base.NAME)\n")

    def recipe(self, body: str, service: str = "svc", base: str = "") -> None:
        """Write a Dockerfile."""
        self.world.write(f"services/{service}/Dockerfile", f"FROM {base or self.base}\n{body}")

    def id(self, reference: str) -> str:
        """Return the id behind a name; empty if there is none."""
        found = self.engine.client.images(reference)
        return str(found[0]["Id"]) if found else ""

    def inside(self, image: str = "svc:latest") -> list[str]:
        """Return the files that `COPY . /context` brought into an image."""
        said = self.engine.run(image, "find", "/context", "-type", "f")
        return sorted(line.removeprefix("/context/") for line in said.split())

    def tag(self, image: str, reference: str) -> None:
        """Give `reference` to an image."""
        name, _, label = reference.partition(":")
        self.engine.client.tag(image, name, label)

    def labelled(self, value: str) -> str:
        """Make another image that stands on the base; return its id."""
        made = self.engine.client.create_container(self.base)["Id"]
        image = self.engine.client.commit(made, changes=f"LABEL value={value}")["Id"]
        self.engine.client.remove_container(made)
        return str(image)

    def remove(self, reference: str) -> None:
        """Take a name off, in the engine."""
        if self.id(reference):
            self.engine.client.remove_image(reference, force=True)


@pytest.fixture
def images(world: World, docker_engine: DockerEngine, docker_base: str) -> Iterator[Images]:
    """Return a world with `COPY . /context` as its image; the engine is as before when the test ends."""
    made = Images(world, docker_engine, docker_base)
    made.recipe(COPY)
    for reference in TAGS:
        made.remove(reference)
    yield made
    for reference in TAGS:
        made.remove(reference)


@pytest.fixture
def proxy(images: Images, tmp_path: Path) -> Iterator[Proxy]:
    """Return a counting proxy that the world talks to its engine through."""
    made = Proxy(tmp_path / "p.sock", images.engine.host)
    images.world.environ["DOCKER_HOST"] = made.host
    yield made
    made.close()


def _errors(run: Run) -> list[str]:
    return run.err.splitlines()


# -- what is made


@pytest.mark.slow
def test_the_usual_dockerfile_works_unchanged_and_the_container_runs(images: Images) -> None:
    images.recipe(USUAL)
    run = images.world.good()
    assert (run.word("image:svc"), run.reason("image:svc")) == ("built", "never built")
    assert images.engine.run("svc:latest") == "app base\n"
    images.world.edit("libs/base/base/__init__.py", "base", "BASE")
    assert images.world.good().ran == ["image:svc", "stage:svc", "wheel:base"]
    assert images.engine.run("svc:latest") == "app BASE\n"


@pytest.mark.parametrize("words", [(), ("image:svc",), ("build:svc",), ("image",), ("image:*",)])
def test_an_image_is_made_by_each_name_that_means_it(images: Images, words: tuple[str, ...]) -> None:
    assert images.world.good(*words).word("image:svc") == "built"
    assert images.id("svc:latest")
    assert images.world.good(*words).counts == {"built": 0, "up to date": 6}


def test_the_context_is_the_stage_alone(images: Images) -> None:
    world = images.world
    world.good("stage:svc")
    world.write("services/svc/dist/foreign-1.0-py3-none-any.whl", b"x")
    world.write("services/svc/dist/deps/.env", "TOKEN=1")
    world.write("services/svc/.dockerignore", "*.whl\ndeps\n")
    world.good("image:svc")
    assert images.inside() == [
        "deps/app-1.0-py3-none-any.whl",
        "deps/base-1.0-py3-none-any.whl",
        "requirements.txt",
        "svc-1.0-py3-none-any.whl",
    ]


def test_two_services_are_built_side_by_side(images: Images) -> None:
    images.world.service("other")
    for service in ("svc", "other"):
        images.recipe(f"RUN sleep 1; echo {service} {time.time_ns()}\n", service)
    began = time.monotonic()
    run = images.world.good("-n", "2", "image")
    assert (run.word("image:svc"), run.word("image:other")) == ("built", "built")
    assert images.id("svc:latest") != images.id("other:latest")
    assert time.monotonic() - began < 60


# -- what makes it run again


def test_a_noop_asks_the_engine_once_and_never_imports_docker(images: Images, proxy: Proxy, tmp_path: Path) -> None:
    poison = tmp_path / "poison"
    poison.mkdir()
    (poison / "docker.py").write_text("raise SystemExit('docker was imported')\n")
    world = images.world
    world.good()
    world.environ["PYTHONPATH"] = os.pathsep.join([str(poison), os.environ.get("PYTHONPATH", "")])
    for words in ((), ("image:svc",), ("build:svc",)):
        proxy.connections = 0
        run = world.good(*words)
        assert (run.counts, run.out.count("\n"), run.err) == ({"built": 0, "up to date": 6}, 1, "")
        assert proxy.connections == 1
    world.path(".buildlib/quick.index").unlink()
    proxy.connections = 0
    assert (world.good().ran, proxy.connections) == ([], 1)


def test_the_engine_is_not_asked_when_no_image_is(images: Images, proxy: Proxy) -> None:
    world = images.world
    for words in (("wheel:svc",), ("stage",), ("build:app",), ("stage",)):
        world.good(*words)
    world.edit("libs/base/base/__init__.py", "base", "BASE")
    for words in (("stage:svc",), ("list", "--all"), ("plan", "stage"), ("why", "image:svc")):
        world.doit(*words)
    assert proxy.connections == 0


def _removed(images: Images) -> str:
    images.remove("svc:latest")
    return "svc:latest is not in the engine"


def _retagged(images: Images) -> str:
    images.tag(images.base, "svc:latest")
    return "svc:latest was retagged"


def _edited(images: Images) -> str:
    images.recipe(COPY + "ENV A=1\n")
    return "services/svc/Dockerfile changed"


def _configured(images: Images, table: str) -> None:
    world = images.world
    world.write("pyproject.toml", world.read("pyproject.toml") + f"\n[tool.buildlib.image]\n{table}\n")


def _argument(images: Images) -> str:
    _configured(images, 'args = {GREETING = "hello"}')
    return "build argument GREETING added"


@pytest.mark.parametrize("change", [_removed, _retagged, _edited, _argument])
def test_what_an_image_depends_on_makes_it_anew_with_the_reason(
    images: Images, change: Callable[[Images], str]
) -> None:
    world = images.world
    images.recipe("ARG GREETING=hi\n" + COPY)
    world.good()
    reason = change(images)
    planned = world.good("plan", "image:svc").out.splitlines()
    assert planned[-1].split() == ["image", "svc", "will", *reason.split()]
    assert f" * {reason}" in world.doit("info", "image:svc").out
    run = world.good("image:svc")
    assert ([t for t in run.ran if t.startswith("image")], run.reason("image:svc")) == (["image:svc"], reason)
    assert reason in world.good("why", "image:svc").out
    assert images.id("svc:latest") not in ("", images.id(images.base))
    assert world.good().ran == []


def test_a_new_base_under_the_same_name_makes_the_image_anew(images: Images) -> None:
    images.tag(images.base, "buildlib-test/moving:1")
    images.recipe(COPY, base="buildlib-test/moving:1")
    images.world.good()
    images.tag(images.labelled("new"), "buildlib-test/moving:1")
    run = images.world.good()
    assert run.ran == ["image:svc"] and run.reason("image:svc").startswith("buildlib-test/moving:1")
    made = images.engine.client.inspect_image("svc:latest")
    assert made["Config"]["Labels"]["value"] == "new"
    assert images.world.good().ran == []


def test_a_base_that_moves_while_the_build_runs_is_built_on_again(images: Images) -> None:
    images.tag(images.base, "buildlib-test/moving:1")
    moved = images.labelled("moved")
    images.recipe(f"RUN sleep 3; echo {time.time_ns()}\n" + COPY, base="buildlib-test/moving:1")
    process = images.world.start("image:svc")
    _until_running(images.engine, process, "sleep 3")
    images.tag(moved, "buildlib-test/moving:1")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert images.engine.client.inspect_image("svc:latest")["Config"]["Labels"]["value"] == "moved"
    assert images.world.good("image:svc").ran == []


def test_a_library_makes_stage_and_image_anew_but_a_wheel_of_the_same_bytes_does_not(images: Images) -> None:
    world = images.world
    world.good()
    world.edit("libs/base/base/__init__.py", "base", "BASE")
    run = world.good()
    assert (run.ran, run.reason("image:svc")) == (["image:svc", "stage:svc", "wheel:base"], "stage svc changed")
    world.edit("libs/base/tests/test_base.py", "True", "1")
    assert world.good().ran == ["wheel:base"]
    planned = world.edit("libs/base/base/__init__.py", "BASE", "Base") or world.good("plan").out
    assert [line.split()[:3] for line in planned.splitlines()] == [
        ["wheel", "base", "will"],
        ["stage", "svc", "may"],
        ["image", "svc", "may"],
    ]


def test_another_target_is_built_and_the_projects_own_table_wins(images: Images) -> None:
    world = images.world
    world.write("services/svc/Dockerfile", f"FROM {images.base} AS one\nENV N=1\nFROM {images.base} AS two\nENV N=2\n")
    world.good()
    assert "N=2" in images.engine.client.inspect_image("svc:latest")["Config"]["Env"]
    _configured(images, 'target = "two"')
    assert world.good().reason("image:svc") == "target changed"
    project = world.read("services/svc/pyproject.toml")
    world.write("services/svc/pyproject.toml", project + '[tool.buildlib.image]\ntarget = "one"\n')
    world.good()
    assert "N=1" in images.engine.client.inspect_image("svc:latest")["Config"]["Env"]
    assert world.good().ran == []


def test_the_mode_of_a_dockerfile_is_no_input_of_the_image_and_a_linked_ones_content_is(images: Images) -> None:
    world = images.world
    world.write("docker/python", world.read("services/svc/Dockerfile"))
    world.path("services/svc/Dockerfile").unlink()
    world.path("services/svc/Dockerfile").symlink_to("../../docker/python")
    project = world.read("services/svc/pyproject.toml")
    world.good()
    world.write("docker/python", world.read("docker/python") + "ENV A=1\n")
    run = world.good("image:svc")
    assert run.reason("image:svc") == "docker/python changed"
    world.write("services/svc/pyproject.toml", project + '[tool.buildlib.image]\ndockerfile = "../../docker/python"\n')
    world.good()
    world.path("docker/python").chmod(0o755)
    assert "image:svc" not in world.good().ran
    world.write("docker/python", world.read("docker/python") + "ENV B=1\n")
    assert "image:svc" in world.good().ran


def test_a_base_that_the_engine_lacks_is_pulled_once_and_then_known(images: Images, registry: str) -> None:
    there = f"{registry}/base-{os.getpid()}:1"
    client = images.engine.client
    name, _, label = there.rpartition(":")
    client.tag(images.labelled("pulled"), name, label)
    assert "error" not in "".join(client.push(name, label))
    client.remove_image(there, force=True)
    images.recipe(COPY, base=there)
    try:
        assert images.world.good().word("image:svc") == "built"
        assert images.world.good().ran == []
        assert client.inspect_image("svc:latest")["Config"]["Labels"]["value"] == "pulled"
    finally:
        images.remove("svc:latest")
        images.remove(there)


def test_an_image_that_stands_on_another_services_waits_for_it_and_is_never_pulled(images: Images) -> None:
    world = images.world
    world.service("other")
    images.recipe("RUN sleep 1\nENV A=1\n", "other")
    images.recipe(COPY, base="other")
    run = world.good("-n", "2", "image:svc")
    assert [t for t in run.ran if t.startswith("image")] == ["image:other", "image:svc"]
    assert "A=1" in images.engine.client.inspect_image("svc:latest")["Config"]["Env"]
    images.recipe("RUN sleep 1\nENV A=2\n", "other")
    run = world.good("image")
    assert run.reason("image:svc") == "image other changed"
    assert "A=2" in images.engine.client.inspect_image("svc:latest")["Config"]["Env"]
    assert world.good("image").ran == []


def test_images_that_stand_on_each_other_are_an_error_and_the_rest_is_built(images: Images) -> None:
    world = images.world
    world.service("other")
    images.recipe(COPY, "other", base="svc:latest")
    images.recipe(COPY, base="other:latest")
    run = world.doit()
    assert run.code != 0 and run.word("stage:svc") == "built"
    line = "services/svc/Dockerfile: the image of svc stands on itself; let its FROM lines name other images"
    assert line in _errors(run)


def test_cache_from_names_images_and_an_absent_one_is_no_error(images: Images) -> None:
    images.recipe(f"RUN echo {time.time_ns()} > /made\n")
    images.world.good()
    first = images.id("svc:latest")
    _configured(images, 'cache_from = ["svc:latest", "127.0.0.1:1/nowhere:1"]')
    assert images.world.good().ran == []
    assert images.world.good("-a", "image:svc").word("image:svc") == "unchanged"
    assert images.id("svc:latest") == first


# -- secrets

SECRET = "s3cr3t-v4lue"


def _traces(world: World, run: Run) -> list[str]:
    kept = [p for p in world.path(".buildlib").rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]
    return [*map(str, kept), *(text for text in (run.out, run.err) if SECRET in text)]


@pytest.mark.parametrize("end", ["true", "false"])
def test_a_secret_reaches_the_build_and_is_kept_and_shown_nowhere(images: Images, end: str) -> None:
    world = images.world
    _configured(images, 'secrets = ["TOKEN"]')
    images.recipe(f"ARG TOKEN\nRUN echo $TOKEN | sha256sum > /token; echo it is $TOKEN; {end}\n")
    world.environ["TOKEN"] = SECRET
    run = world.doit("-v", "2", "image:svc")
    assert _traces(world, run) == []
    if end == "false":
        assert run.code != 0 and "it is ***" in run.err
        return
    made = images.engine.run("svc:latest", "cat", "/token").split()[0]
    assert made == subprocess.run(["sha256sum"], input=f"{SECRET}\n", text=True, capture_output=True).stdout.split()[0]
    world.environ["TOKEN"] = "another"
    assert world.good().word("image:svc") == ""


def test_a_secret_that_the_environment_lacks_is_an_error_that_names_it(images: Images) -> None:
    _configured(images, 'secrets = ["TOKEN_OF_NOBODY"]')
    run = images.world.doit("image:svc")
    assert run.code != 0
    assert "secrets names TOKEN_OF_NOBODY, which the environment lacks; set it" in _errors(run)[-1]


# -- without an engine


def test_without_an_engine_images_are_skipped_once_and_then_only_counted(images: Images) -> None:
    world = images.world
    host = world.environ["DOCKER_HOST"]
    world.environ["DOCKER_HOST"] = "unix:///nowhere/docker.sock"
    first = world.good()
    assert first.word("image:svc") == "skipped" and first.counts == {"built": 5, "skipped": 1}
    assert "/nowhere/docker.sock" in first.reason("image:svc")
    for _ in range(2):
        again = world.good()
        assert (again.counts, again.out.count("\n"), again.err) == ({"built": 0, "skipped": 1, "up to date": 5}, 1, "")
    assert "image svc" not in world.good("plan").out
    assert "/nowhere/docker.sock" in world.doit("info", "image:svc").out
    assert world.doit(environ={"CI": "1"}).code != 0
    world.environ["DOCKER_HOST"] = host
    run = world.good()
    assert (run.ran, run.word("image:svc")) == (["image:svc"], "built")


@pytest.mark.parametrize("words", [("image:svc",), ("build:svc",), ("image",)])
def test_without_an_engine_an_image_asked_for_by_name_fails_in_one_line(images: Images, words: tuple[str, ...]) -> None:
    run = images.world.doit(*words, environ={"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    assert run.code != 0 and run.word("image:svc") == "failed" and run.word("stage:svc") == "built"
    assert len(_errors(run)) == 1
    assert _errors(run)[0].startswith("image svc: unix:///nowhere/docker.sock: ") and "start Docker" in run.err


def test_an_engine_that_went_away_and_came_back_has_nothing_to_do(images: Images) -> None:
    world = images.world
    world.good()
    away = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
    assert world.good(environ=away).counts == {"built": 0, "skipped": 1, "up to date": 5}
    assert world.good(environ=away).out.count("\n") == 1
    assert world.good().counts == {"built": 0, "up to date": 6}
    world.edit("libs/base/base/__init__.py", "base", "BASE")
    assert world.good(environ=away).ran == ["stage:svc", "wheel:base"]
    run = world.good()
    assert (run.ran, run.reason("image:svc")) == (["image:svc"], "stage svc changed")


def test_an_address_that_is_none_fails_the_image_and_nothing_else(images: Images) -> None:
    run = images.world.doit(environ={"DOCKER_HOST": "", "DOCKER_CONTEXT": "nowhere"})
    assert run.code != 0 and run.word("image:svc") == "failed" and run.word("stage:svc") == "built"
    assert _errors(run)[-1].startswith("docker context 'nowhere': there is no such context; ")
    assert images.world.doit(environ={"DOCKER_HOST": "", "DOCKER_CONTEXT": "nowhere"}).code != 0


# -- failures


def test_a_failing_build_shows_the_whole_output_and_leaves_the_old_image(images: Images) -> None:
    world = images.world
    world.service("other")
    images.recipe(COPY, "other")
    world.good("image:svc")
    before = images.id("svc:latest")
    images.recipe("RUN echo to be read; exit 3\n")
    run = world.doit()
    assert run.code != 0 and run.word("image:svc") == "failed" and run.word("image:other") == "built"
    assert run.counts["failed"] == 1
    assert {"to be read", f"Step 1/2 : FROM {images.base}"} <= set(_errors(run))
    assert _errors(run)[-1].startswith("services/svc/Dockerfile: The command ") and "; " in _errors(run)[-1]
    assert images.id("svc:latest") == before
    assert world.doit("image:svc").code != 0
    images.recipe(COPY)
    assert world.good().word("image:svc") in ("built", "unchanged")


def test_an_engine_that_dies_in_the_middle_of_a_build_is_one_line(images: Images, proxy: Proxy) -> None:
    images.recipe(f"RUN sleep 97; echo {time.time_ns()}\n")
    process = images.world.start("image:svc")
    _until_running(images.engine, process)
    proxy.cut()
    _, err = process.communicate(timeout=30)
    assert process.returncode not in (0, None)
    assert err.splitlines()[-1].startswith("services/svc/Dockerfile: the connection to the engine broke")
    _until_gone(images.engine)
    images.recipe(COPY)
    assert images.world.good("image:svc").word("image:svc") == "built"


def test_a_base_that_is_nowhere_is_one_line(images: Images) -> None:
    images.recipe(COPY, base="127.0.0.1:1/nowhere:1")
    run = images.world.doit("image:svc")
    assert run.code != 0
    assert len(_errors(run)) == 1 and _errors(run)[0].startswith("services/svc/Dockerfile: 127.0.0.1:1/nowhere:1: ")
    assert "; check the image's name" in run.err


def test_a_dockerfile_that_is_none_fails_its_image_alone(images: Images) -> None:
    images.world.write("services/svc/Dockerfile", "RUN true\n")
    run = images.world.doit()
    assert run.code != 0 and run.word("stage:svc") == "built"
    assert _errors(run) == [
        "services/svc/Dockerfile:1: there is no FROM; begin with `FROM IMAGE`, an image that has Python"
    ]


def test_copying_local_wheels_where_there_are_none_gets_the_hint(images: Images) -> None:
    images.world.service("other")
    images.recipe("COPY deps/*.whl ./\n", "other")
    run = images.world.doit("image:other")
    assert run.code != 0 and "this service uses no local library; remove the line" in _errors(run)[-1]


def test_third_parties_without_requirements_get_one_warning_when_the_step_runs(images: Images) -> None:
    images.recipe("RUN : pip install flask\n")
    warned = images.world.good()
    assert len(_errors(warned)) == 1 and "pip installs flask without requirements.txt" in warned.err
    assert images.world.good().err == ""


def test_a_verbose_run_streams_the_build_and_says_nothing_twice(images: Images) -> None:
    images.world.good("stage:svc")
    images.recipe(f"RUN echo early; sleep 2; echo late {time.time_ns()}; false\n")
    process = images.world.start("-v", "2", "image:svc")
    assert process.stderr is not None and process.stdout is not None
    came = [(line.rstrip("\n"), time.monotonic()) for line in process.stderr]
    assert process.wait(60) != 0
    times = {line.split(" ")[0]: when for line, when in came}
    assert times["late"] - times["early"] > 1
    assert [line for line, _ in came].count("early") == 1
    process.stdout.close()
    process.stderr.close()


# -- cleaning


@pytest.mark.parametrize("words", [("image:svc",), ()])
def test_clean_takes_the_name_off_in_the_engine_and_forgets(images: Images, words: tuple[str, ...]) -> None:
    images.world.good()
    assert "svc:latest" in images.world.good("clean", "-n", *words).out and images.id("svc:latest")
    images.world.good("clean", *words)
    assert images.id("svc:latest") == ""
    assert images.world.good("image:svc").reason("image:svc") == "never built"


def test_clean_leaves_a_name_that_is_anothers(images: Images) -> None:
    images.world.good()
    images.tag(images.base, "svc:latest")
    assert "svc:latest" not in images.world.good("clean", "image:svc").out
    assert images.id("svc:latest") == images.id(images.base)


def test_clean_says_which_container_holds_an_image_and_can_be_run_again(images: Images) -> None:
    images.world.good()
    container = images.engine.client.create_container("svc:latest", ["true"])["Id"]
    try:
        run = images.world.good("clean", "image:svc")
        assert len(_errors(run)) == 1 and f"container {container[:12]} is using" in run.err
        assert "; remove that container" in run.err
    finally:
        images.engine.client.remove_container(container)
    images.world.good("clean", "image:svc")
    assert images.id("svc:latest") == ""


def test_clean_without_an_engine_warns_and_cleans_the_rest(images: Images) -> None:
    images.world.good()
    run = images.world.good("clean", environ={"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    assert len(_errors(run)) == 1 and "no Docker engine answers" in run.err
    assert images.world.outputs() == {}
    assert images.world.good("image:svc").reason("image:svc") == "never built"


# -- kills


def _until_running(engine: DockerEngine, process: subprocess.Popen[Any], command: str = "sleep 97") -> None:
    end = time.monotonic() + 60
    while not any(command in c["Command"] for c in engine.client.containers()):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)


def _until_gone(engine: DockerEngine) -> None:
    end = time.monotonic() + 20
    while any("sleep 97" in c["Command"] for c in engine.client.containers(all=True)):
        assert time.monotonic() < end, "the engine goes on with a build that nobody waits for"
        time.sleep(0.05)


@pytest.mark.parametrize("jobs", [(), ("-n", "2")])
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_build_that_is_ended_in_the_middle_leaves_nothing_and_the_next_is_right(
    images: Images, sign: signal.Signals, code: int, jobs: tuple[str, ...]
) -> None:
    world = images.world
    world.good()
    before = images.id("svc:latest")
    images.recipe(f"RUN sleep 97; echo {time.time_ns()}\n")
    process = world.start(*jobs, "image:svc")
    _until_running(images.engine, process)
    began = time.monotonic()
    process.send_signal(sign)
    process.communicate(timeout=30)
    assert (process.returncode, time.monotonic() - began < 2) == (code, True)
    _until_gone(images.engine)
    assert images.id("svc:latest") == before
    images.recipe(COPY + "ENV A=2\n")
    run = world.good()
    assert run.reason("image:svc") == "services/svc/Dockerfile changed"
    assert images.id("svc:latest") != before
    assert not any(world.path(".buildlib/tmp").glob("*"))
    assert world.good().ran == []


# -- the sample workspace

HEALTH = """
import sys, time, urllib.error, urllib.request
for _ in range(200):
    try:
        with urllib.request.urlopen("http://127.0.0.1:8000/health", timeout=2) as answer:
            print(answer.status)
            sys.exit()
    except urllib.error.URLError:
        time.sleep(0.05)
sys.exit("no answer")
"""


def _doit(root: Path, cache: Path, host: str, *words: str) -> str:
    """Run doit in a clone of this repository; return what it said."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "DOCKER_CONTEXT")}
    environ = {**kept, "BUILDLIB_CACHE": str(cache), "BUILDLIB_STORE": "off", "DOCKER_HOST": host}
    command = [sys.executable, "-m", "doit", *words]
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _healthy(engine: DockerEngine, image: str) -> str:
    """Start a container, ask its service how it is from within, and end it."""
    client = engine.client
    made = client.create_container(image)["Id"]
    try:
        client.start(made)
        asked = client.exec_create(made, ["python", "-c", HEALTH])["Id"]
        return str(client.exec_start(asked).decode())
    finally:
        client.remove_container(made, force=True)


@pytest.mark.slow
def test_the_sample_services_build_on_another_base_and_one_answers(
    docker_engine: DockerEngine, docker_base: str, tmp_path: Path, cache: Path
) -> None:
    root, services = tmp_path / "clone", ("svc-a", "svc-b", "svc-report")
    subprocess.run(["git", "clone", "-q", str(Path(__file__).parent.parent), str(root)], check=True)
    with (root / "pyproject.toml").open("a") as file:
        file.write(f'\n[tool.buildlib.image]\nargs = {{ BASE = "{docker_base}" }}\n')
    try:
        said = _doit(root, cache, docker_engine.host)
        made = {tuple(line.split()[1:3]) for line in said.splitlines() if line.startswith("image ")}
        assert made == {(service, "built") for service in services}
        assert _healthy(docker_engine, "svc-a:latest") == "200\n"
        assert docker_engine.run("svc-report:latest").startswith("Usage:")
        for service in services:
            said = docker_engine.run(f"{service}:latest", "-m", "pip", "check", entrypoint="python")
            assert "No broken requirements" in said
        assert _doit(root, cache, docker_engine.host).startswith("0 built, ")
        _doit(root, cache, docker_engine.host, "clean")
        assert not any(docker_engine.client.images(f"{service}:latest") for service in services)
    finally:
        for service in services:
            if docker_engine.client.images(f"{service}:latest"):
                docker_engine.client.remove_image(f"{service}:latest", force=True)
