"""Files that make the next run cheap, and that may vanish at any time.

The *memory* (of the tree, of the workspace) holds what was read: signatures, digests, listings, projects, lock
slices. The *quick index* holds a conclusion: these steps were up to date while these paths had these signatures. It
is removed before any record changes and written last, under the lock; so a step of it whose paths still have their
signatures need not be looked at. All are checked by a checksum: a damaged file is no file. Knows paths, signatures
and step names. Does not know how a step is judged.
"""

import marshal
import os
import sys
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence

from buildlib.fingerprint.signature import changed

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any

DIRECTORY = ".buildlib"
QUICK = f"{DIRECTORY}/quick.index"
TREE = f"{DIRECTORY}/tree.index"
WORKSPACE = f"{DIRECTORY}/workspace.index"
RECORDS = f"{DIRECTORY}/state.db"
FORMAT = f"buildlib index 3 {sys.version} {sys.platform} {zlib.ZLIB_RUNTIME_VERSION}"

Watch = tuple[str, bytes]
"""Paths, each followed by a NUL byte, and their signatures (8 bytes each): two values load faster than thousands."""


def watch(paths: Sequence[str], signatures: Iterable[int]) -> Watch:
    """Return paths and their signatures as the index keeps them."""
    return "".join(f"{path}\0" for path in paths), array("q", signatures).tobytes()


def moved(watched: Watch) -> list[str]:
    """Return the watched paths whose signature is not the remembered one."""
    signatures = array("q")
    signatures.frombytes(watched[1])
    return changed(watched[0].split("\0")[:-1], signatures)


class Quick:
    """The conclusion of an earlier run. (A plain class: importing `dataclasses` costs as much as a tenth of a no-op.)

    Attributes:
        common: what every step depends on (configuration, git's index, the engine's own code).
        watches: by group name (what a step reads, its outputs), the paths to watch.
        steps: by name of each step found up to date: the steps it needs, and its groups.
        members: by name of each task that stands for steps (`build`, `build:x`, `wheel`): those, up to date or not.
        images: by image step: (tag, image id, ((base, id), …)) to ask the engine for; an empty id: it was skipped, for
            want of an engine.
        default: what a bare `doit` stands for; empty if only `dodo.py` can tell.
        records: inode of the database that the conclusion is about. (Its times say nothing: whoever changes a record
            removes this index first.)
    """

    FIELDS = ("common", "watches", "steps", "members", "images", "default", "records")

    def __init__(
        self,
        common: Watch,
        watches: dict[str, Watch],
        steps: dict[str, tuple[tuple[str, ...], tuple[str, ...]]],
        members: dict[str, tuple[str, ...]],
        images: dict[str, tuple[str, str, tuple[tuple[str, str], ...]]],
        default: tuple[str, ...],
        records: int,
    ) -> None:
        self.common, self.watches, self.steps, self.members = common, watches, steps, members
        self.images, self.default, self.records = images, default, records

    def reach(self, names: Iterable[str]) -> set[str] | None:
        """Return all steps that `names` stand for, with all that those are known to need; None if a name is unknown."""
        todo = [s for name in names for s in self.members.get(name, (name,))]
        every = set(self.members.get("build", ()))
        found: set[str] = set()
        while todo:
            name = todo.pop()
            if name not in found:
                if name not in every:
                    return None
                found.add(name)
                todo += self.steps[name][0] if name in self.steps else ()
        return found

    def proven(self, steps: set[str]) -> set[str]:
        """Return those of `steps` that are up to date still: no path they depend on moved, and no step they need did.

        Of an image that is only half the truth: the engine has to be asked.
        """
        groups = dict.fromkeys(g for name in steps if name in self.steps for g in self.steps[name][1])
        still = {g for g in groups if not moved(self.watches[g])}
        found: set[str] = set()
        for name, (needs, own) in self.steps.items():  # upstream first
            if name in steps and still.issuperset(own) and found.issuperset(needs):
                found.add(name)
        return found

    def stands(self) -> bool:
        """Return whether what every step depends on is as it was."""
        return inode(RECORDS) == self.records and not moved(self.common)


def inode(path: str) -> int:
    """Return the inode of the file at `path`, 0 where there is none."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def load_quick(path: str = QUICK) -> Quick | None:
    """Return the quick index; None if there is none that is whole and ours."""
    data = _load(path)
    try:
        return Quick(*marshal.loads(data)) if data is not None else None
    except (ValueError, EOFError, TypeError):
        return None


def save_quick(quick: Quick, path: str = QUICK) -> None:
    """Write the quick index, whole or not at all."""
    _save(path, marshal.dumps(tuple(getattr(quick, name) for name in Quick.FIELDS)))


def drop_quick(path: str = QUICK) -> None:
    """Remove the quick index: records are about to change."""
    try:  # noqa: SIM105  # `contextlib` would be imported by every no-op
        os.unlink(path)
    except FileNotFoundError:
        pass


def load_memory(path: str, package: str) -> "Mapping[str, Any]":
    """Return what earlier runs read, by name; empty if there is nothing whole, or other code wrote it.

    Args:
        path: `TREE` or `WORKSPACE`.
        package: directory of the engine's own code, whose values these are.
    """
    import pickle

    data = _load(path)
    try:
        code, memory = pickle.loads(data) if data is not None else ("", {})  # our own file, as private as dodo.py
    except Exception:  # classes of other code: any error means the same
        return {}
    return memory if code == _identity(package) else {}


def save_memory(memory: "Mapping[str, Any]", path: str, package: str) -> None:
    """Write what was read, whole or not at all (see `load_memory`)."""
    import pickle

    _save(path, pickle.dumps((_identity(package), dict(memory)), protocol=5))


def modules(package: str) -> list[str]:
    """Return the paths of the Python files of a package directory, sorted."""
    return sorted(os.path.join(here, n) for here, _, names in os.walk(package) for n in names if n.endswith(".py"))


def _identity(package: str) -> list[tuple[str, int, int]]:
    statuses = ((path, os.stat(path)) for path in modules(package))
    return [(path, status.st_mtime_ns, status.st_size) for path, status in statuses]


def _load(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return None
    head = _head(body := data[_HEAD_SIZE:])
    return body if data[:_HEAD_SIZE] == head else None


def _save(path: str, body: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{DIRECTORY}/tmp/{os.path.basename(path)}.{os.getpid()}"
    os.makedirs(os.path.dirname(temporary), exist_ok=True)
    with open(temporary, "wb") as file:
        file.write(_head(body) + body)
    os.replace(temporary, path)


def _head(body: bytes) -> bytes:
    return b"%08x%08x" % (zlib.crc32(FORMAT.encode()), zlib.crc32(body))


_HEAD_SIZE = 16
