"""A Docker build context: exactly the given files, the same bytes every time.

Knows the tar format and how the classic builder hides a Dockerfile and a `.dockerignore` from `COPY . .`. Does not
know where the files come from or what they are.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from buildlib.errors import BuildlibError

DOCKERFILE_NAME = ".buildlib.Dockerfile"
IGNORE_NAME = ".dockerignore"
# The builder takes both out of the context when the ignore file names them (docker/cli does the same for a Dockerfile
# from outside the context): `COPY . .` does not see them and its cached layer does not depend on them.
IGNORE = f"{DOCKERFILE_NAME}\n{IGNORE_NAME}\n".encode()
# 1 January 1980, the first moment that a zip can say: someone may zip what was copied into an image.
MTIME = 315532800


@dataclass(frozen=True)
class ContextFile:
    """One file of a context.

    Attributes:
        path: relative, with `/`, without `.` and `..`.
        source: its bytes, or a function that gives them when they are sent (called once a tar).
        executable: mode 0755 instead of 0644.
    """

    path: str
    source: bytes | Callable[[], bytes]
    executable: bool = False

    def __post_init__(self) -> None:
        parts = self.path.split("/")
        if self.path != PurePosixPath(self.path).as_posix() or self.path.startswith("/") or {"", ".", ".."} & {*parts}:
            raise ValueError(f"{self.path!r} is no path inside a build context")


def context_tar(files: Sequence[ContextFile], dockerfile: bytes) -> tuple[Iterator[bytes], str]:
    """A tar of the files and the Dockerfile, and the Dockerfile's name inside.

    The tar comes in pieces, one file in memory at a time. GNU format (engines read pax headers differently), members
    sorted, parents before children, owner 0, one fixed time: the same input gives the same bytes.

    Raises:
        BuildlibError: a file has one of the two names that are needed here, or two files have one path.
        Whatever a file's source raises, while the pieces are taken.
    """
    seen = {DOCKERFILE_NAME, IGNORE_NAME}
    for file in files:
        if file.path in seen:
            cause = "two files of the build context have this path, or it is one that the build needs for itself"
            raise BuildlibError(file.path, cause, "rename or leave out one of them")
        seen.add(file.path)
    own = [ContextFile(DOCKERFILE_NAME, dockerfile), ContextFile(IGNORE_NAME, IGNORE)]
    return _pieces([*files, *own]), DOCKERFILE_NAME


def _pieces(files: Sequence[ContextFile]) -> Iterator[bytes]:
    members: dict[str, ContextFile | None] = {file.path: file for file in files}
    for file in files:
        # Explicit directories: the engine would make missing ones with a mode and a time of its own.
        members |= {str(parent): None for parent in PurePosixPath(file.path).parents if str(parent) != "."}
    for path in sorted(members):
        yield from _member(path, members[path])
    # Two empty blocks, filled up to a record: what every tar ends with (tar(5)).
    yield bytes(tarfile.RECORDSIZE)


def _member(path: str, file: ContextFile | None) -> Iterator[bytes]:
    member = tarfile.TarInfo(path)
    member.mtime, member.mode, data = MTIME, 0o755, b""
    if file is None:
        member.type = tarfile.DIRTYPE
    else:
        data = file.source if isinstance(file.source, bytes) else file.source()
        member.size, member.mode = len(data), 0o755 if file.executable else 0o644
    yield member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    if data:
        yield data
        yield bytes(-len(data) % tarfile.BLOCKSIZE)
