"""The tree interface: how inputs are read, whatever holds them (the working tree now, a git commit later).

Knows what an entry of a tree is. Does not know where trees come from or what their files mean.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Entry:
    """One file or symbolic link of a tree.

    Attributes:
        path: relative to the root of the tree, POSIX separators.
        sha256: hex digest of the content; of a link, empty.
        size: bytes of the content; of a link, 0.
        executable: whether the owner may execute it.
        target: of a link, where it points, as `readlink` says; of a file, None.
    """

    path: str
    sha256: str
    size: int
    executable: bool
    target: str | None = None

    @property
    def part(self) -> tuple[str, str]:
        """Return this entry as a part of a fingerprint: its name and its value."""
        if self.target is not None:
            return f"link:{self.path}", self.target
        return f"file:{self.path}", self.sha256 + ("x" if self.executable else "")


class Tree(Protocol):
    """A tree of files, read once: what it said of a path it says for as long as it lives."""

    def entry(self, path: str) -> Entry | None:
        """Return the file or link at `path`; None where there is none (or a directory)."""

    def is_directory(self, path: str) -> bool:
        """Return whether `path` is a directory."""

    def read(self, path: str) -> bytes:
        """Return the content of the file at `path`. Raises `BuildlibError` where there is none."""

    def directories(self, pattern: str) -> tuple[str, ...]:
        """Return the directories that match a glob (`libs/*`; `**` for any depth), sorted."""

    def files(self, pattern: str) -> tuple[str, ...]:
        """Return the files that match a glob, git-ignored ones too, sorted."""

    def listings(self, directories: Iterable[str], nested: Collection[str]) -> Mapping[str, tuple[str, ...]]:
        """Return, for each directory, the sorted paths of all inputs below it.

        Inputs are what git knows or would know (tracked, or neither tracked nor ignored), without outputs, caches and
        the `nested` directories. Where there is no git, all files but those.
        """

    def watch(self, paths: Iterable[str]) -> None:
        """Take note that an answer depends on `paths`, which no listing has (git's own files): a change will show."""


def parents(path: str) -> Iterable[str]:
    """Yield the directories above `path`, nearest first, the root (`""`) last."""
    while path:
        path = path.rpartition("/")[0]
        yield path
