"""buildlib.image.context: the same files give the same tar, and a Dockerfile that no COPY sees."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest
from docker_engine import DockerEngine

from buildlib.errors import BuildlibError
from buildlib.image.build import build
from buildlib.image.context import DOCKERFILE_NAME, MTIME, ContextFile, context_tar
from buildlib.image.endpoint import find_endpoint

LONG = "deps/" + "long" * 40 + ".whl"


def _tar(*files: ContextFile, dockerfile: bytes = b"FROM x\n") -> bytes:
    return b"".join(context_tar(files, dockerfile)[0])


def _listed(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar.getmembers()}


def test_the_order_of_files_and_how_they_are_given_change_no_byte() -> None:
    a, b = ContextFile("a.whl", b"1"), ContextFile(LONG, b"2", executable=True)
    later = ContextFile("a.whl", lambda: b"1")
    assert _tar(a, b) == _tar(b, a) == _tar(b, later)


def test_the_bytes_are_the_same_today_and_in_a_year() -> None:
    digest = hashlib.sha256(_tar(ContextFile("a.whl", b"1"), ContextFile("ö/x", b"2", executable=True))).hexdigest()
    assert digest == "76eab2768da241fd6da4a315ad872999a3e87d7da70a89b47edc376b924c4257"


def test_members_are_the_given_files_their_folders_and_the_two_that_the_builder_hides() -> None:
    members = _listed(_tar(ContextFile("deps/x.whl", b"123"), ContextFile("run", b"", executable=True)))
    assert sorted(members) == [DOCKERFILE_NAME, ".dockerignore", "deps", "deps/x.whl", "run"]
    assert {name: oct(member.mode) for name, member in members.items()} == {
        DOCKERFILE_NAME: "0o644",
        ".dockerignore": "0o644",
        "deps": "0o755",
        "deps/x.whl": "0o644",
        "run": "0o755",
    }
    assert {(member.uid, member.gid, member.mtime, member.uname) for member in members.values()} == {(0, 0, MTIME, "")}


def test_contents_of_all_sizes_come_back_and_long_names_without_pax_headers() -> None:
    sizes = [0, 1, 511, 512, 513, 10239, 10240, 100_000]
    data = _tar(ContextFile(LONG, b"x"), *(ContextFile(f"{size}", bytes(size)) for size in sizes))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert LONG in tar.getnames()
        assert not any(member.pax_headers for member in tar.getmembers())
        for size in sizes:
            stream = tar.extractfile(f"{size}")
            assert stream is not None
            assert stream.read() == bytes(size)


def test_a_source_is_asked_only_when_its_bytes_are_sent() -> None:
    asked: list[str] = []

    def source() -> bytes:
        asked.append("a")
        return b""

    pieces, _ = context_tar([ContextFile("a", source)], b"FROM x")
    assert asked == []
    b"".join(pieces)
    assert asked == ["a"]


@pytest.mark.parametrize("path", ["/a", "../a", "a/../b", "a//b", "./a", "", ".", "a/"])
def test_a_path_that_leaves_the_context_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is no path inside a build context"):
        ContextFile(path, b"")


@pytest.mark.parametrize("path", [DOCKERFILE_NAME, ".dockerignore", "twice"])
def test_a_name_used_twice_is_an_error_before_a_byte_is_sent(path: str) -> None:
    with pytest.raises(BuildlibError, match="two files of the build context have this path"):
        context_tar([ContextFile(path, b""), ContextFile("twice", b"")], b"FROM x")


@pytest.mark.docker
def test_copy_dot_sees_neither_the_dockerfile_nor_the_ignore_file(
    docker_engine: DockerEngine, docker_base: str, image_name: str
) -> None:
    files = [ContextFile("deps/a.whl", b"1"), ContextFile(LONG, b"1"), ContextFile("run", b"1", executable=True)]
    context, name = context_tar(files, f"FROM {docker_base}\nCOPY . /x\n".encode())
    endpoint = find_endpoint({"DOCKER_HOST": docker_engine.host})
    build(endpoint, context=context, dockerfile_name=name, tag=image_name)
    said = docker_engine.run(image_name, "find", "/x", "-printf", "%P %m %T@\n").split("\n")
    assert sorted(line for line in said if line.strip()) == sorted(
        [
            f"deps 755 {MTIME}.0000000000",
            f"deps/a.whl 644 {MTIME}.0000000000",
            f"{LONG} 644 {MTIME}.0000000000",
            f"run 755 {MTIME}.0000000000",
            *[line for line in said if line.startswith(" 755")],  # /x itself, made by the engine
        ]
    )
