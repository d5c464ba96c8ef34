"""buildlib.image.build: against a real engine; what it makes, what it says, and what a death in the middle leaves."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker_engine import DockerEngine

from buildlib.errors import BuildlibError
from buildlib.image import build as build_module
from buildlib.image.build import BuildFailed, BuiltImage, build, explained, pull, remove_tag, tag
from buildlib.image.context import ContextFile, context_tar
from buildlib.image.dockerfile import hints, read
from buildlib.image.endpoint import Endpoint, find_endpoint
from buildlib.image.engine import inspect_engine

pytestmark = pytest.mark.docker

SECRET = "s3cr3t-t0ken"
# From the public index: pure Python, no dependency.
SIX = "six==1.17.0 --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274\n"
USUAL = """
COPY ./deps/*.whl ./
COPY requirements.txt ./
RUN pip install --require-hashes -r requirements.txt && pip install --no-deps --no-index *.whl
COPY ./*.whl ./
RUN pip install --no-deps --no-index ./shop*.whl
CMD ["python", "-m", "shop"]
"""


@pytest.fixture(scope="session")
def endpoint(docker_engine: DockerEngine) -> Endpoint:
    return find_endpoint({"DOCKER_HOST": docker_engine.host})


@pytest.fixture
def make(endpoint: Endpoint, docker_base: str, image_name: str) -> Callable[..., BuiltImage]:
    """Build what follows `FROM base`, with these files, under the test's image name."""

    def call(dockerfile: str, *files: ContextFile, first: str | None = None, **options: object) -> BuiltImage:
        text = (f"FROM {docker_base}\n" if first is None else first) + dockerfile
        context, name = context_tar(files, text.encode())
        return build(endpoint, context=context, dockerfile_name=name, tag=image_name, **options)  # type: ignore[arg-type]

    return call


def _wheel(name: str, version: str, **modules: str) -> bytes:
    """A wheel as PEP 427 wants it, with these modules."""
    info, buffer = f"{name}-{version}.dist-info", io.BytesIO()
    files = {f"{module}.py": text for module, text in modules.items()}
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    digests = {path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for path, text in files.items()}
    lines = [f"{path},sha256={digests[path].decode().rstrip('=')},{len(files[path].encode())}\n" for path in files]
    files[f"{info}/RECORD"] = "".join(lines) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return buffer.getvalue()


def _stage(answer: str = "42") -> list[ContextFile]:
    return [
        ContextFile("deps/sums-1.0-py3-none-any.whl", _wheel("sums", "1.0", sums=f"answer = {answer}\n")),
        ContextFile("requirements.txt", SIX.encode()),
        ContextFile("shop-2.0-py3-none-any.whl", _wheel("shop", "2.0", shop="import six, sums; print(sums.answer)\n")),
    ]


@pytest.mark.slow
def test_the_usual_dockerfile_installs_third_parties_libraries_and_the_service(
    make: Callable[..., BuiltImage], docker_engine: DockerEngine, image_name: str
) -> None:
    make(USUAL, *_stage())
    assert docker_engine.run(image_name) == "42\n"
    assert "No broken requirements" in docker_engine.run(image_name, "pip", "check")
    make(USUAL, *_stage("43"))
    assert docker_engine.run(image_name) == "43\n"


def test_the_base_for_tests_is_a_whole_python(docker_engine: DockerEngine, docker_base: str) -> None:
    modules = "ssl, sqlite3, ctypes, bz2, lzma, zlib, hashlib, readline, multiprocessing, venv"
    code = f"import {modules}; ctypes.CDLL('libpthread.so.0'); ctypes.CDLL('libstdc++.so.6'); print('whole')"
    assert docker_engine.run(docker_base, "python", "-c", code) == "whole\n"
    said = docker_engine.run(docker_base, "sh", "-c", "pip --version && python3 -m pip check && id -u")
    assert said.endswith("\n0\n")


def test_the_same_context_gives_the_same_image_from_the_engines_cache(make: Callable[..., BuiltImage]) -> None:
    first = make("COPY . /x\nRUN ls /x\n", *_stage())
    second = make("COPY . /x\nRUN ls /x\n", *_stage())
    assert first.id == second.id
    assert "Using cache" in second.log


def test_output_comes_line_by_line_while_the_build_runs(make: Callable[..., BuiltImage]) -> None:
    lines: list[tuple[float, str]] = []
    built = make(
        f"RUN echo one; echo two >&2; echo {time.time_ns()}; sleep 1; echo three\n",
        on_output=lambda line: lines.append((time.monotonic(), line)),
    )
    texts = [line for _, line in lines]
    assert {"one", "two", "three"} <= set(texts)
    assert "\n".join(texts) == built.log
    assert lines[texts.index("three")][0] - lines[texts.index("one")][0] > 0.5


def test_a_failed_build_is_one_line_with_the_whole_output_and_leaves_the_tag_alone(
    make: Callable[..., BuiltImage], docker_engine: DockerEngine, image_name: str
) -> None:
    good = make("RUN true\n")
    with pytest.raises(BuildFailed) as caught:
        make("RUN echo before\nRUN echo the trouble; exit 7\n")
    assert "returned a non-zero code: 7" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "before" in caught.value.detail.splitlines()
    assert "the trouble" in caught.value.detail.splitlines()
    assert docker_engine.client.inspect_image(image_name)["Id"] == good.id


@pytest.mark.parametrize(
    "run",
    [
        f"RUN echo $TOKEN; echo \"<$TOKEN>\" >&2; echo 'x{SECRET}'",
        f"RUN printf %s ${{TOKEN%t0ken}}; sleep 1; printf 't0ken\\n'; echo $TOKEN; echo '{SECRET}'",
        'RUN ["python", "-c", "import os; print(os.environ[\'TOKEN\'])"]',
    ],
)
@pytest.mark.parametrize("end", ["", f"RUN exit 3 # $TOKEN {SECRET}", f"COPY no-{SECRET} /", SECRET])
def test_a_secret_is_nowhere_in_output_or_errors(make: Callable[..., BuiltImage], run: str, end: str) -> None:
    seen: list[str] = []
    said: list[str] = []
    text = f"ARG TOKEN\nARG {os.urandom(4).hex().upper()}X\n{run}\n{end}\n"
    try:
        said += [make(text, secrets={"TOKEN": SECRET}, on_output=seen.append).log]
    except BuildFailed as error:
        said += [str(error), error.detail, repr(error), repr(error.__cause__)]
        assert end
    assert SECRET not in "\n".join(seen + said).lower()
    assert "***" in "\n".join(seen + said)


def test_a_secret_of_several_lines_is_masked_by_its_lines(make: Callable[..., BuiltImage]) -> None:
    built = make('ARG KEY\nRUN echo "$KEY"\n', secrets={"KEY": "-----BEGIN\nabcdef\n-----END"})
    assert "abcdef" not in built.log
    assert "BEGIN" not in built.log


def test_args_and_target_reach_the_image(
    make: Callable[..., BuiltImage], docker_engine: DockerEngine, image_name: str, docker_base: str
) -> None:
    text = f"ARG BASE=nothing:1\nFROM ${{BASE}} AS one\nARG WHO\nENV WHO=$WHO\nFROM {docker_base} AS two\nENV WHO=two\n"
    built = make(text, first="", args={"BASE": docker_base, "WHO": "me"}, target="one")
    config = docker_engine.client.inspect_image(image_name)["Config"]
    assert docker_engine.client.inspect_image(image_name)["Id"] == built.id
    assert "WHO=me" in config["Env"]


def test_a_target_that_is_no_stage_says_what_target_must_be(make: Callable[..., BuiltImage]) -> None:
    with pytest.raises(BuildFailed, match=r"failed to reach build target nope.*; `target` must be the name of a stage"):
        make("RUN true\n", target="nope")


def test_a_silent_step_may_take_longer_than_a_short_call(
    make: Callable[..., BuiltImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "TIMEOUT", 1.0)
    assert make(f"RUN sleep 3 # {time.time_ns()}\n").id


def test_copying_no_local_wheel_fails_with_a_cure_and_the_hints_cure_works(
    make: Callable[..., BuiltImage], docker_base: str
) -> None:
    requirements = ContextFile("requirements.txt", b"")
    with pytest.raises(BuildFailed, match=r"no source files were specified.*; no file of the context matches"):
        make("COPY ./deps/*.whl ./\n", requirements)
    dockerfile = read(f"FROM {docker_base}\nCOPY ./deps/*.whl ./\n".encode(), "Dockerfile")
    cure = hints(dockerfile, has_local_wheels=False, has_requirements=False)[0].cure
    assert make(cure.split("`")[1] + "\n", requirements).id


@pytest.mark.parametrize(
    "line", ["COPY dist/requirements.txt ./", "COPY dist/requirement* ./", "COPY ../requirements.txt /"]
)
def test_copying_what_is_not_in_the_context_fails_with_a_cure_and_the_hints_cure_works(
    make: Callable[..., BuiltImage], docker_base: str, line: str
) -> None:
    requirements = ContextFile("requirements.txt", b"")
    with pytest.raises(BuildFailed, match="; no file of the context matches"):
        make(f"{line}\n", requirements)
    found = hints(read(f"FROM {docker_base}\n{line}\n".encode(), "D"), has_local_wheels=True, has_requirements=False)
    for hint in found:
        assert make(hint.cure.split("`")[1] + "\n", requirements).id
    assert bool(found) == line.startswith("COPY dist/")


@pytest.mark.parametrize("line", ["RUN --mount=type=cache,target=/x ls", "COPY --link a /a", "RUN <<EOF\nls\nEOF"])
def test_syntax_of_buildkit_fails_with_a_cure(make: Callable[..., BuiltImage], line: str, docker_base: str) -> None:
    with pytest.raises(BuildFailed) as caught:
        make(line + "\n", ContextFile("a", b""))
    if "<<" not in line:  # there the engine complains of what the shell would have read
        assert "BuildKit" in caught.value.cure
    dockerfile = read(f"FROM {docker_base}\n{line}\n".encode(), "svc/Dockerfile")
    error = explained(caught.value, hints(dockerfile, has_local_wheels=True, has_requirements=True))
    assert (error.place, error.detail) == (caught.value.place, caught.value.detail)
    assert caught.value.cause in str(error)
    assert "svc/Dockerfile:2: " in str(error)
    assert "needs BuildKit" in str(error)


def test_an_error_that_no_hint_explains_stays_as_it_is() -> None:
    error = BuildFailed("x", "y", "z", "log")
    assert str(explained(error, [])) == "x: y; z"


def test_a_base_that_is_nowhere_fails_with_a_cure(make: Callable[..., BuiltImage], registry: str) -> None:
    with pytest.raises(BuildFailed, match=r"nothing:1.*; check the image's name"):
        make("RUN true\n", first=f"FROM {registry}/nothing:1\n")


def test_a_context_that_breaks_off_builds_nothing(
    endpoint: Endpoint, docker_base: str, docker_engine: DockerEngine, image_name: str
) -> None:
    def gone() -> bytes:
        raise BuildlibError("libs/a", "changed while it was sent", "run again")

    context, name = context_tar([ContextFile("a", gone)], f"FROM {docker_base}\nCOPY a /\n".encode())
    with pytest.raises(BuildlibError, match="changed while it was sent"):
        build(endpoint, context=context, dockerfile_name=name, tag=image_name)
    assert docker_engine.client.images(image_name.partition(":")[0]) == []


def test_no_engine_is_one_line_with_a_cure(tmp_path: Path) -> None:
    nowhere = Endpoint(f"unix://{tmp_path}/no.sock", None, "DOCKER_HOST")
    with pytest.raises(BuildlibError, match=r"^DOCKER_HOST: no Docker engine answers at .*No such file.*; start Dock"):
        build(nowhere, context=[b""], dockerfile_name="D", tag="a:b")


# --- cache_from, pull, tags


def test_absent_cache_images_are_no_error_and_leave_the_engines_own_cache_in_use(
    make: Callable[..., BuiltImage], registry: str
) -> None:
    line = f"RUN echo {time.time_ns()}\n"
    first = make(line)
    second = make(line, cache_from=[f"{registry}/never:1", "localhost:1/never:2"])
    assert second.id == first.id
    assert f"cache_from: {registry}/never:1 is left out" in second.log


def test_layers_come_from_an_image_of_the_registry(
    make: Callable[..., BuiltImage], docker_engine: DockerEngine, registry: str, image_name: str
) -> None:
    """Another machine's build: the local one is wiped, so that only the pulled image can have the layer."""
    line = f"RUN echo {time.time_ns()} > /made\n"
    first = make(line)
    remote = f"{registry}/cache-{time.time_ns()}:1"
    docker_engine.client.tag(first.id, remote)
    docker_engine.client.push(remote)
    for name in (remote, image_name):
        docker_engine.client.remove_image(name)
    assert first.id not in inspect_engine(find_endpoint({"DOCKER_HOST": docker_engine.host})).ids
    second = make(line, cache_from=[remote])
    assert second.id == first.id
    assert "Using cache" in second.log
    third = make(line + "RUN true\n", cache_from=[remote])
    fourth = make(line + "RUN true\n", cache_from=[remote])
    assert third.id == fourth.id, "what stands under the tag is a cache as well"
    docker_engine.client.remove_image(remote)


def test_pull_gives_the_id_and_an_absent_image_is_one_line(
    endpoint: Endpoint, docker_engine: DockerEngine, docker_base: str, registry: str
) -> None:
    reference = f"{registry}/pulled"
    docker_engine.client.tag(docker_base, reference)
    docker_engine.client.push(f"{reference}:latest")
    docker_engine.client.remove_image(reference)
    assert pull(endpoint, reference) == docker_engine.client.inspect_image(docker_base)["Id"]
    docker_engine.client.remove_image(reference)
    with pytest.raises(BuildFailed) as caught:
        pull(endpoint, f"{registry}/absent:1")
    assert str(caught.value).startswith(f"{registry}/absent:1: ")
    assert "\n" not in str(caught.value)


def test_a_tag_is_removed_only_from_the_image_it_was_put_on(
    make: Callable[..., BuiltImage], endpoint: Endpoint, docker_engine: DockerEngine, docker_base: str, image_name: str
) -> None:
    built = make(f"RUN echo {time.time_ns()}\n")
    tag(endpoint, docker_base, image_name)
    assert remove_tag(endpoint, image_name, only_if_id=built.id) is False
    assert docker_engine.client.images(image_name)
    tag(endpoint, built.id, image_name)
    assert remove_tag(endpoint, image_name, only_if_id=built.id) is True
    assert docker_engine.client.images(image_name) == []
    assert built.id not in inspect_engine(endpoint).ids
    assert remove_tag(endpoint, image_name, only_if_id=built.id) is False


def test_an_image_that_a_container_uses_is_not_removed_and_said(
    make: Callable[..., BuiltImage], endpoint: Endpoint, docker_engine: DockerEngine, image_name: str
) -> None:
    built = make(f"RUN echo {time.time_ns()}\n")
    container = docker_engine.client.create_container(image_name, ["true"])["Id"]
    try:
        with pytest.raises(BuildFailed, match=r"container [0-9a-f]+ is using"):
            remove_tag(endpoint, image_name, only_if_id=built.id)
    finally:
        docker_engine.client.remove_container(container)


# --- a death in the middle


@pytest.mark.slow
def test_a_killed_build_leaves_no_container_and_no_tag(
    docker_engine: DockerEngine, docker_base: str, image_name: str
) -> None:
    mark = f"buildlib-mark-{time.time_ns()}"
    code = f"""
import functools
from buildlib.image.build import build
from buildlib.image.context import context_tar
from buildlib.image.endpoint import find_endpoint
context, name = context_tar([], b"FROM {docker_base}\\nRUN echo {mark} && sleep 100\\n")
endpoint = find_endpoint({{"DOCKER_HOST": "{docker_engine.host}"}})
say = functools.partial(print, flush=True)
build(endpoint, context=context, dockerfile_name=name, tag="{image_name}", on_output=say)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any(line.strip() == mark for line in process.stdout)
    assert list(_containers(docker_engine, mark))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    end = time.monotonic() + 20
    while list(_containers(docker_engine, mark)) and time.monotonic() < end:
        time.sleep(0.1)
    assert list(_containers(docker_engine, mark)) == []
    assert docker_engine.client.images(image_name) == []


def _containers(engine: DockerEngine, mark: str) -> Iterator[str]:
    return (item["Id"] for item in engine.client.containers(all=True) if mark in item["Command"])
