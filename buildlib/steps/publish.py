"""Publishing: products become files at their places, each whole or not at all, and older files of ours go.

A file is written under `.buildlib/tmp` and renamed into place. Its modification time is set a little into the past:
whoever edits it afterwards gives it a later one, even within the same tick of the clock. Foreign files are neither read
nor touched. Knows files. Does not know what they are.
"""

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable, Set
from typing import Protocol

from buildlib.errors import BuildlibError
from buildlib.plan import Output
from buildlib.steps.workshop import Product
from buildlib.workspace.tree import parents

IMAGE = "image:"


class Ledger(Protocol):
    """Who takes note of the files we wrote."""

    def wrote(self, path: str, sha256: str, size: int, executable: bool) -> None:
        """Take note of one file."""


Paths = Callable[[str], tuple[str, ...]]
"""Where the product of a name goes, relative to the root."""


def places(products: Iterable[Product], paths: Paths) -> tuple[str, ...]:
    """Return the paths of all files that `products` will become."""
    return tuple(path for product in products for path in paths(product.name) if not path.startswith(IMAGE))


def outputs_of(products: Iterable[Product], paths: Paths) -> tuple[Output, ...]:
    """Return what will be recorded of `products`; an image's content is its id."""
    return tuple(
        Output(p.name, path, _digest(path, p.data), 0 if path.startswith(IMAGE) else len(p.data), p.executable)
        for p in products
        for path in paths(p.name)
    )


def _digest(path: str, data: bytes) -> str:
    return data.decode() if path.startswith(IMAGE) else hashlib.sha256(data).hexdigest()


def publish(
    products: Collection[Product], paths: Paths, older: Iterable[str], owner: str, room: str, ledger: Ledger
) -> tuple[Output, ...]:
    """Put `products` in their places and remove those of `older` (paths that are ours) that are not among them.

    Args:
        owner: name of the step that made them.
        room: an absolute directory of this step alone, on the same file system.
        ledger: takes note of what was written.

    Raises:
        BuildlibError: a place cannot be written; what was there before stays.
    """
    outputs = outputs_of(products, paths)
    kept = {o.path for o in outputs}
    for path in _in_the_way(older := list(older), kept):
        remove(path)
    for product in products:
        for path in paths(product.name):
            if not path.startswith(IMAGE):
                _place(product, path, owner, room, ledger)
    for path in older:
        if path not in kept and not path.startswith(IMAGE):
            remove(path)
    return outputs


def _in_the_way(older: Iterable[str], kept: Set[str]) -> list[str]:
    """Return those of `older` that are a file where a directory has to be now, or the other way round."""
    folders = {above for path in kept for above in parents(path)}
    return [path for path in older if path in folders or not kept.isdisjoint(parents(path))]


def _place(product: Product, path: str, owner: str, room: str, ledger: Ledger) -> None:
    sha256 = hashlib.sha256(product.data).hexdigest()
    try:
        _make_parents(path)
        for _ in range(ATTEMPTS):
            time_ns = _time_if_there(path, product) or _write(path, product, room)
            _mark(path, owner)
            ledger.wrote(path, sha256, len(product.data), product.executable)
            if os.lstat(path).st_mtime_ns == time_ns:
                return
            # Somebody wrote to it before note was taken of it: that note may be of their file.
    except OSError as error:
        raise BuildlibError(path, f"cannot be written ({error.strerror or error})", _cure(path, error)) from None
    raise BuildlibError(path, "is written by somebody else all the time", "end what writes there, then build again")


ATTEMPTS = 5
"""How often a file may be edited in the moment after it was published before that is an error."""


def _cure(path: str, error: OSError) -> str:
    if isinstance(error, IsADirectoryError) or os.path.isdir(path):
        return "a directory is in its place: move it away"
    blocking = next((above for above in _own_folders(path) if os.path.isfile(above)), None)
    if blocking is not None:
        return f"{blocking} is a file where a directory belongs: move it away"
    return "check the disk's free space and the directory's permissions"


def _own_folders(path: str) -> list[str]:
    """Return the directories above `path` that are ours: `dist/` and what is below it, or all below `.buildlib/`."""
    folders = path.split("/")[:-1]
    first = folders.index("dist") if "dist" in folders else 1
    return ["/".join(folders[:n]) for n in range(first + 1, len(folders) + 1)]


def _make_parents(path: str) -> None:
    for above in _own_folders(path):
        if os.path.islink(above):
            raise BuildlibError(above, "is a link, and outputs are never written through links", "remove it")
    os.makedirs(os.path.dirname(path), exist_ok=True)


def _mode(product: Product) -> int:
    return 0o755 if product.executable else 0o644


def _time_if_there(path: str, product: Product) -> int | None:
    """Return the modification time of the file at `path` if it is `product` already; None if it has to be written."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) != _mode(product):
        return None
    if status.st_size != len(product.data) or time.time_ns() - status.st_mtime_ns < 1_000_000_000:
        return None  # too young for an edit to show: write it again
    with open(path, "rb") as file:
        return status.st_mtime_ns if file.read() == product.data else None


def _write(path: str, product: Product, room: str) -> int:
    """Write `product` to `path`, whole or not at all; return the modification time that it got."""
    os.makedirs(room, exist_ok=True)
    temporary = os.path.join(room, f"publish-{os.path.basename(path)}")
    with open(temporary, "wb") as file:
        file.write(product.data)
        os.fchmod(file.fileno(), _mode(product))
    past = time.time_ns() - 2_000_000_000
    os.utime(temporary, ns=(past, past))
    given = os.lstat(temporary).st_mtime_ns  # as the file system keeps it, which may be coarser
    os.replace(temporary, path)
    return given


MARK = "user.buildlib"
"""The extended attribute that names the step a file belongs to, and the file: one that was renamed is its renamer's."""


def _mark(path: str, owner: str) -> None:
    if hasattr(os, "setxattr"):
        with contextlib.suppress(OSError):  # no such attributes on this file system: the records alone know
            os.setxattr(path, MARK, f"{owner} {os.path.basename(path)}".encode(), follow_symlinks=False)


def marked(folder: str) -> list[str]:
    """Return the files below `folder` (a `dist/`) that a step made, as far as they say so.

    Only one step publishes there: what another made came with a project's folder that was moved or copied.
    """
    every = [f"{here}/{name}" for here, _, names in os.walk(folder) for name in names]
    return [path for path in every if _owner(path)]


def _owner(path: str) -> str:
    """Return the name of the step that the file at `path` says made it under this name; empty if it says nothing."""
    try:
        said = os.getxattr(path, MARK, follow_symlinks=False) if hasattr(os, "getxattr") else b""
    except OSError:
        return ""
    owner, _, name = os.fsdecode(said).partition(" ")
    return owner if name == os.path.basename(path) else ""


def remove(path: str) -> bool:
    """Remove a file of ours and the directories that it leaves empty (`dist/` and below it; `.buildlib/` stays).

    Returns:
        Whether it was there.
    """
    try:
        os.unlink(path)
    except OSError:
        return False
    for above in reversed(_own_folders(path)):
        try:
            os.rmdir(above)
        except OSError:
            break
    return True


def foreign(directory: str, ours: Collection[str]) -> list[str]:
    """Return the paths below `directory` (a `dist/`) that are not ours nor say that any step made them, sorted."""
    every = (f"{here}/{name}" for here, _, names in os.walk(directory) for name in names)
    return sorted(path for path in every if path not in ours and not _owner(path))
