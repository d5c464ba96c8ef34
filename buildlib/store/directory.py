"""Results by key and blobs by digest, in one directory that several builds, users and machines may share.

One layout, Bazel's, for two directories (the cache, and the store of results). Over HTTP it is `/ac/<sha256>` and
`/cas/<sha256>`; on a disk

    ac/ab/<sha256>    a result: the list of the files that an action made, as JSON
    cas/ab/<sha256>   a blob: the bytes of one file; `ab` are the first two digits of the name
    tmp/              files that are still being written

A store is never needed: what is missing, damaged or unreadable is a miss, what cannot be written is not stored, and the
build goes on. What it hands out was verified. Knows no project, no action, no doit: keys are opaque.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

GIB = 1024**3
FORMAT = 1  # of the text in ac/
PRUNE_EVERY = 24 * 3600  # seconds between two prunings that nobody asked for
ABANDONED = 24 * 3600  # seconds after which an unlockable temp file has no writer any more


@dataclass(frozen=True)
class Blob:
    """Bytes by what they are: hex sha256 and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class StoredFile:
    """One file of a result: where it goes (relative, `/` between the parts) and which bytes it has."""

    path: str
    sha256: str
    size: int
    executable: bool


class Store(Protocol):
    """What every store does, near or far. No method raises for what the store's disk, network or content is like."""

    def get_result(self, key: str) -> tuple[StoredFile, ...] | None:
        """The files of the result stored as `key` (hex sha256); None if there is none that can be trusted."""

    def put_result(self, key: str, files: Sequence[StoredFile]) -> bool:
        """Offer a result whose blobs are all there; whether it is stored now."""

    def get_blob(self, blob: Blob) -> bytes | None:
        """The bytes, verified by digest and size; None if they are not there or are not those."""

    def put_blob(self, data: bytes) -> Blob | None:
        """Offer bytes; what they are, or None if they could not be stored."""


class DirectoryStore:
    """A `Store` in a directory, made at the first put.

    Safe for any number of threads and processes. Bytes are copied in and out, never linked, so that an edit of an
    output cannot reach in here. Modes follow the umask of the writer.

    Args:
        root: the directory, absolute.
        limit: bytes that `prune` leaves, 5 GiB unless said otherwise.

    Attributes:
        refused: how many results and blobs were found here and did not verify.
    """

    def __init__(self, root: str, limit: int = 5 * GIB) -> None:
        self.root, self.limit, self.refused = root, limit, 0
        self._swept = False

    def get_result(self, key: str) -> tuple[StoredFile, ...] | None:
        """See `Store`. A hit counts as a use of the result and of its blobs; an entry without its blobs is dropped."""
        if not _is_digest(key):
            return None
        place = self._place("ac", key)
        text = _read(place)
        if text is None:
            return None
        files = _decode(key, text)
        if files is None:
            self._refuse(place)
            return None
        if not all(self._has(file.sha256, file.size) for file in files):
            _remove(place)
            return None
        _touch(place)
        return files

    def put_result(self, key: str, files: Sequence[StoredFile]) -> bool:
        """See `Store`. False for what `get_result` would not give back: a blob missing, a path that leads out."""
        if not _is_digest(key) or not _are_sound(files) or not all(self._has(file.sha256, file.size) for file in files):
            return False
        return self._write(self._place("ac", key), _encode(key, files))

    def get_blob(self, blob: Blob) -> bytes | None:
        """See `Store`. A damaged blob is dropped."""
        if not _is_digest(blob.sha256):
            return None
        place = self._place("cas", blob.sha256)
        data = _read(place)
        if data is None:
            return None
        if len(data) != blob.size or _sha256(data) != blob.sha256:
            self._refuse(place)
            return None
        _touch(place)
        return data

    def put_blob(self, data: bytes) -> Blob | None:
        """See `Store`. Bytes that are there are not written again; if those are damaged, `get_blob` will find out."""
        blob = Blob(_sha256(data), len(data))
        if self._has(blob.sha256, blob.size) or self._write(self._place("cas", blob.sha256), data):
            return blob
        return None

    def usage(self) -> tuple[int, int]:
        """How many results are here, and how many bytes they and all blobs take."""
        results, blobs = _scan(self.root, "ac"), _scan(self.root, "cas")
        return len(results), sum(entry.size for entry in (*results.values(), *blobs.values()))

    def prune_sometimes(self) -> None:
        """Prune to the store's own limit if that was not done for a day; one that cannot be written is left alone."""
        stamp = os.path.join(self.root, "pruned")
        with contextlib.suppress(OSError):
            if not os.path.exists(stamp) or time.time() - os.stat(stamp).st_mtime > PRUNE_EVERY:
                with open(stamp, "w"):
                    os.utime(stamp)
                self.prune()

    def prune(self, limit: int | None = None) -> tuple[int, int]:
        """Remove what was not used for longest until `limit` bytes (or the store's own) are left.

        A result goes as a whole, with the blobs that no younger result needs. Readers and writers may go on meanwhile:
        what is used while this runs stays, and whoever loses a race with a removal sees a miss.

        Returns:
            How many results and lone blobs went, and the bytes that they took.
        """
        self._sweep()
        results, blobs = _scan(self.root, "ac"), _scan(self.root, "cas")
        excess = sum(entry.size for entry in (*results.values(), *blobs.values()))
        excess -= self.limit if limit is None else limit
        removed = freed = 0
        for group in _by_last_use(results, blobs):
            if freed >= excess:
                break
            gone = sum(entry.size for entry in group if _remove_unused(entry))
            removed, freed = removed + (gone > 0), freed + gone
        return removed, freed

    def _place(self, kind: str, digest: str) -> str:
        return os.path.join(self.root, kind, digest[:2], digest)

    def _has(self, digest: str, size: int) -> bool:
        """Whether a blob of that name and size is here; being asked for is a use."""
        place = self._place("cas", digest)
        try:
            found = os.stat(place).st_size == size
        except OSError:
            return False
        if found:
            _touch(place)
        return found

    def _refuse(self, place: str) -> None:
        self.refused += 1
        _remove(place)

    def _write(self, place: str, data: bytes) -> bool:
        """Make `place` have `data`, at once or not at all."""
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            self._sweep()
            with _temporary(os.path.join(self.root, "tmp")) as (descriptor, name):
                _write_all(descriptor, data)
                os.replace(name, place)
        except OSError:
            return False
        return True

    def _sweep(self) -> None:
        """Once a process: remove the temp files of writers that were killed."""
        if self._swept:
            return
        self._swept = True
        folder = os.path.join(self.root, "tmp")
        for name in _names(folder):
            with contextlib.suppress(OSError):
                _remove_if_abandoned(os.path.join(folder, name))


def default_cache(environ: Mapping[str, str]) -> str:
    """Where downloads, environments and bases are: `BUILDLIB_CACHE`, else `buildlib` in the user's cache directory."""
    if chosen := environ.get("BUILDLIB_CACHE"):
        return os.path.abspath(os.path.expanduser(chosen))
    home = environ.get("HOME") or os.path.expanduser("~")
    if sys.platform == "darwin":
        return os.path.join(home, "Library", "Caches", "buildlib")
    xdg = environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification: a relative path is to be ignored.
    return os.path.join(xdg if os.path.isabs(xdg) else os.path.join(home, ".cache"), "buildlib")


def default_store(environ: Mapping[str, str]) -> str | None:
    """The directory of results: `BUILDLIB_STORE`, else `store` in the cache; None if it says `off`."""
    chosen = environ.get("BUILDLIB_STORE", "")
    if chosen == "off":
        return None
    return os.path.abspath(os.path.expanduser(chosen)) if chosen else os.path.join(default_cache(environ), "store")


# The text of a result ------------------------------------------------------------------------------------------------


def _encode(key: str, files: Sequence[StoredFile]) -> bytes:
    """The text of a result, with its key and a digest of itself: a disk's flipped bit must not move a file."""
    import json

    rows = [[file.path, file.sha256, file.size, file.executable] for file in files]
    body = json.dumps({"version": FORMAT, "key": key, "files": rows}, sort_keys=True)
    return f"{_sha256(body.encode())}\n{body}\n".encode()


def _decode(key: str, text: bytes) -> tuple[StoredFile, ...] | None:
    """The inverse of `_encode`; None for anything that it would not have written."""
    import json

    try:
        digest, body = text.decode().rstrip("\n").split("\n")
        value = json.loads(body)
        if digest != _sha256(body.encode()) or (value["version"], value["key"]) != (FORMAT, key):
            return None
        files = tuple(_file(row) for row in value["files"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return files if _are_sound(files) else None


def _file(row: Any) -> StoredFile:
    path, sha256, size, executable = row
    if not (isinstance(path, str) and isinstance(sha256, str) and type(size) is int and type(executable) is bool):
        raise TypeError(row)
    return StoredFile(path, sha256, size, executable)


def _are_sound(files: Sequence[StoredFile]) -> bool:
    """Whether each file stays below the folder it is unpacked in, and none is in another's way."""
    paths = {file.path for file in files}
    folders = {path[:at] for path in paths for at, sign in enumerate(path) if sign == "/"}
    good = all(_is_digest(file.sha256) and file.size >= 0 and _stays_inside(file.path) for file in files)
    return good and len(paths) == len(files) and not paths & folders


def _stays_inside(path: str) -> bool:
    parts = path.split("/")
    return not any(part in ("", ".", "..") for part in parts) and "\0" not in path and "\\" not in path


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(sign in "0123456789abcdef" for sign in text)


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


# Eviction ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    path: str
    size: int
    used: int  # mtime in nanoseconds: set when written and at each hit; atime is off on many systems


def _scan(root: str, kind: str) -> dict[str, _Entry]:
    """Every entry of `ac` or `cas` by its digest."""
    found = {}
    for shard in _names(os.path.join(root, kind)):
        for name in _names(os.path.join(root, kind, shard)):
            path = os.path.join(root, kind, shard, name)
            with contextlib.suppress(OSError):
                status = os.stat(path)
                found[name] = _Entry(path, status.st_size, status.st_mtime_ns)
    return found


def _by_last_use(results: Mapping[str, _Entry], blobs: Mapping[str, _Entry]) -> Iterator[list[_Entry]]:
    """What to remove together, what was unused for longest first."""
    last: dict[str, str] = {}  # blob → the result that needs it last
    oldest_first = sorted(results, key=lambda key: results[key].used)
    for key in oldest_first:
        for file in _decode(key, _read(results[key].path) or b"") or ():
            last[file.sha256] = key
    groups = {key: [results[key]] for key in oldest_first}
    for digest, entry in blobs.items():
        # Without a result: its writer was killed, or is about to put the result.
        groups.setdefault(last.get(digest, digest), []).append(entry)
    # The first entry of a group is its result, if it has one: blobs of several results are touched with each of them.
    yield from sorted(groups.values(), key=lambda group: group[0].used)


def _remove_unused(entry: _Entry) -> bool:
    """Remove it unless somebody used it since it was looked at."""
    try:
        if os.stat(entry.path).st_mtime_ns != entry.used:
            return False
        os.unlink(entry.path)
    except OSError:
        return False
    return True


# Files ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _temporary(folder: str) -> Iterator[tuple[int, str]]:
    """A new locked file in `folder`, open for writing, and its name; gone at the end unless it was moved away.

    The lock says that the writer lives. A sweep may take the file before it is locked: then another is made.
    """
    os.makedirs(folder, exist_ok=True)
    while True:
        name = os.path.join(folder, f"{os.getpid()}-{os.urandom(8).hex()}")
        # Not mkstemp: that makes private files whatever the umask says.
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        _lock(descriptor)
        if os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)
    try:
        yield descriptor, name
    finally:
        os.close(descriptor)
        _remove(name)


def _lock(descriptor: int) -> None:
    import fcntl

    with contextlib.suppress(OSError):  # some network file systems have no locks: there age decides (ABANDONED)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _remove_if_abandoned(path: str) -> None:
    """Remove a temp file whose writer is dead: nobody holds its lock, or, where there are no locks, it is a day old."""
    import fcntl
    import time

    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except BlockingIOError:
        pass
    except OSError:
        if time.time() - os.fstat(descriptor).st_mtime > ABANDONED:
            _remove(path)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _touch(path: str) -> None:
    with contextlib.suppress(OSError):  # a store that we may only read
        os.utime(path)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
