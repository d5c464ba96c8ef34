"""The working tree as a `Tree`: files on disk, with a memory of what was read before.

A file is read again only if its signature differs from the remembered one; a directory is listed again only if one of
the directories below it, a `.gitignore` or git's index does. Knows `lstat`, the listing and the memory. Does not know
projects.
"""

import hashlib
import os
import stat
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from buildlib.errors import BuildlibError
from buildlib.fingerprint import signature
from buildlib.fingerprint.listing import Git, is_input, is_pruned, scan, walk
from buildlib.workspace.tree import Entry, parents


@dataclass
class Memory:
    """What earlier runs read, in plain values that `marshal` can keep.

    Attributes:
        base: signatures of what every listing depends on: git's index and the `.gitignore` files above all projects.
        files: path → (signature, sha256, size, executable, target).
        listings: directory → (nested, watched paths, their signatures, inputs).
    """

    base: dict[str, int] = field(default_factory=dict)
    files: dict[str, tuple[int, str, int, bool, str | None]] = field(default_factory=dict)
    listings: dict[str, tuple[Any, ...]] = field(default_factory=dict)


class WorkingTree:
    """The files below `root` as they are now.

    Args:
        root: absolute path; where the process stands in it, its files are looked up faster.
        memory: what earlier runs read; replaced piece by piece by what this one reads.
    """

    def __init__(self, root: str, memory: Memory | None = None) -> None:
        self.root = root
        # Relative paths are looked up faster, where the process stands in the root anyway.
        self._prefix = "" if os.path.realpath(root) == os.getcwd() else f"{root}/"
        self.memory = memory or Memory()
        self.looked_ns = time.time_ns()
        self._entries: dict[str, Entry | None] = {}
        self._git: Git | None = None
        self._listings: dict[str, tuple[str, ...]] = {}
        self._ready = False
        self.seen: dict[str, int] = {}
        """Directories and files of git's that mattered since this was emptied, with signatures: what is new shows."""

    def entry(self, path: str) -> Entry | None:
        """Return the file or link at `path`; None where there is none (or a directory, a socket, …)."""
        if path not in self._entries:
            self._entries[path] = self._look(path)
        return self._entries[path]

    def look_again(self, paths: Iterable[str], directory: str) -> None:
        """Read `paths` and list `directory` anew when asked the next time: they changed while we were reading."""
        for path in paths:
            self._entries.pop(path, None)
            self.memory.files.pop(path, None)
        self._listings.pop(directory, None)
        self.memory.listings.pop(directory, None)

    def wrote(self, path: str, sha256: str, size: int, executable: bool) -> None:
        """Take note of a file that we wrote ourselves: what it holds is known, and an edit of it will show."""
        status = os.lstat(self._prefix + path)
        self._entries[path] = Entry(path, sha256, size, executable)
        self.memory.files[path] = (signature.of_stat(status), sha256, size, executable, None)

    def signature(self, path: str) -> int:
        """Return the signature to watch `path` by from now on: `UNSURE` where it is too young to be trusted."""
        try:
            status = os.lstat(self._prefix + path)
        except (OSError, ValueError):
            return signature.ABSENT
        return signature.of_stat(status) if signature.settled(status, self.looked_ns) else signature.UNSURE

    def watch(self, paths: Iterable[str]) -> None:
        """Take note that what is asked for depends on `paths` too, relative to the root or absolute."""
        self.seen.update((path, self.signature(path)) for path in paths)

    def is_directory(self, path: str) -> bool:
        """Return whether `path` is a directory."""
        return os.path.isdir(self._prefix + path)

    def read(self, path: str) -> bytes:
        """Return the content of the file at `path`. Raises `BuildlibError` where there is none."""
        try:
            with open(self._prefix + path, "rb") as file:
                return file.read()
        except OSError as error:
            raise _unreadable(path, error) from None

    def directories(self, pattern: str) -> tuple[str, ...]:
        """Return the directories that match a glob (`libs/*`; `**` for any depth), sorted."""
        return tuple(
            sorted(n for n in self._matching(pattern, hidden=False) if os.path.isdir(self._prefix + (n or ".")))
        )

    def files(self, pattern: str) -> tuple[str, ...]:
        """Return the files that match a glob, git-ignored ones too, sorted."""
        self.seen.update((here, self.signature(here)) for here in self._searched(pattern))
        return tuple(sorted(n for n in self._matching(pattern, hidden=True) if self.entry(n) is not None))

    def _searched(self, pattern: str) -> set[str]:
        """Return the directories that are there and in which a new match of a glob would appear."""
        names = pattern.split("/")
        heads = ("/".join(names[:i]) for i in range(1, len(names)))
        found = (n for head in heads for n in self._matching(head, hidden=True))
        return {".", *(n for n in found if n and os.path.isdir(self._prefix + n))}

    def _matching(self, pattern: str, hidden: bool) -> Iterable[str]:
        """Yield what matches a glob. Below `**` no link is followed: one that leads upwards would have no end."""
        import glob

        asked = pattern.rstrip("/").split("/")
        if "**" not in asked:
            return (n.rstrip("/") for n in glob.glob(pattern, root_dir=self.root, include_hidden=hidden))
        fixed = "/".join(asked[: asked.index("**")])
        starts = glob.glob(fixed, root_dir=self.root, include_hidden=hidden) if fixed else [""]
        walked = (names for start in starts for names in walk(self.root, start))
        below = {n for here, files, folders in walked for n in (here, *files, *folders)}
        return (n for n in below if _matches(n.split("/") if n else [], asked, hidden))

    def listings(self, directories: Iterable[str], nested: Collection[str]) -> Mapping[str, tuple[str, ...]]:
        """Return, for each directory, the sorted paths of all inputs below it (see `Tree.listings`)."""
        wanted = list(directories)
        fresh = [d for d in wanted if d not in self._listings]
        if fresh:
            self._prepare()
            inner = _inner(fresh, nested)
            stale = [d for d in fresh if not self._remembered(d, inner[d])]
            if stale:
                self._list(stale, inner)
        for directory in wanted:
            _, folders, signatures, _ = self.memory.listings[directory]
            self.seen.update(zip(folders, signatures, strict=True))
        return {d: self._listings[d] for d in wanted}

    # -- files

    def _look(self, path: str) -> Entry | None:
        try:
            status = os.lstat(self._prefix + path)
        except (OSError, ValueError):
            self.memory.files.pop(path, None)
            return None
        now = signature.of_stat(status)
        known = self.memory.files.get(path)
        if known is not None and known[0] == now:
            return Entry(path, *known[1:])
        entry = self._read_entry(path, status)
        if entry is not None:
            trusted = now if signature.settled(status, self.looked_ns) else signature.UNSURE
            self.memory.files[path] = (trusted, entry.sha256, entry.size, entry.executable, entry.target)
        return entry

    def _read_entry(self, path: str, status: os.stat_result) -> Entry | None:
        if stat.S_ISLNK(status.st_mode):
            return Entry(path, "", 0, False, os.readlink(self._prefix + path))
        if not stat.S_ISREG(status.st_mode):
            return None
        content = self.read(path)
        return Entry(path, hashlib.sha256(content).hexdigest(), len(content), bool(status.st_mode & stat.S_IXUSR))

    # -- listings

    def _prepare(self) -> None:
        """Find git, and drop all remembered listings if what they all depend on changed."""
        if self._ready:
            return
        self._ready = True
        remembered = self.memory.base
        if not remembered or signature.changed(list(remembered), list(remembered.values())):
            self._git = Git.find(self.root)
            self.memory.listings.clear()
            self.memory.base = {p: self.signature(p) for p in self._base_paths()}

    def _base_paths(self) -> list[str]:
        if self._git is None:
            return [".git"]
        return [self._git.index, *(os.path.join(above, ".gitignore") for above in self._git.above)]

    def _repository(self) -> Git | None:
        if self._git is None and list(self.memory.base) != [".git"]:
            self._git = Git.find(self.root)
        return self._git

    def _remembered(self, directory: str, nested: tuple[str, ...]) -> bool:
        known = self.memory.listings.get(directory)
        if known is None or known[0] != nested or signature.changed(known[1], known[2]):
            return False
        self._listings[directory] = known[3]
        return True

    def _list(self, directories: list[str], nested: Mapping[str, tuple[str, ...]]) -> None:
        git = self._repository()
        listed = _split(directories, git.list(directories)) if git else {}
        ignored = _Ignored(git, directories)
        # Git also obeys the ignore files between the root and a directory.
        between = {f"{above}/.gitignore" for directory in directories for above in parents(directory) if above}
        self.memory.base.update((path, self.signature(path)) for path in between if git)
        for directory in directories:
            inner = nested[directory]
            tracked = listed.get(directory)  # None without git
            watched = self._watched_directories(directory, inner, tracked, ignored)
            paths = self._walked(directory, inner) if tracked is None else self._expanded(directory, tracked, inner)
            self._listings[directory] = paths
            self.memory.listings[directory] = (inner, watched, tuple(self.signature(p) for p in watched), paths)

    def _expanded(self, directory: str, tracked: Mapping[str, bool], nested: tuple[str, ...]) -> tuple[str, ...]:
        """Keep the inputs among git's answers; a repository within (a submodule, a clone) is one name there: ask it."""
        found: set[str] = set()
        start = len(directory) + 1 if directory else 0
        for path, known in tracked.items():
            if any(path == n or path.startswith(f"{n}/") for n in nested) or not is_input(
                path.rstrip("/")[start:], known
            ):
                continue
            if path.endswith("/") or (self.is_directory(path) and not os.path.islink(self._prefix + path)):
                found.update(self._of_repository(path.rstrip("/"), directory, nested))
            elif os.path.lexists(self._prefix + path):
                found.add(path)
        return tuple(sorted(found))

    def _of_repository(self, place: str, directory: str, nested: tuple[str, ...]) -> tuple[str, ...]:
        """Return the inputs of a repository within, by its own index and ignore files; all files without git."""
        if not os.path.lexists(f"{self._prefix}{place}/.git"):
            return tuple(f for _, files, _ in walk(self.root, place, nested) for f in files)
        git = Git.find(os.path.join(self.root, place))
        listed = git.list([""]) if git else {}
        return self._expanded(directory, {f"{place}/{path}": tracked for path, tracked in listed.items()}, nested)

    def _walked(self, directory: str, nested: tuple[str, ...]) -> tuple[str, ...]:
        start = len(directory) + 1 if directory else 0
        every = (f for _, files, _ in walk(self.root, directory, nested) for f in files)
        return tuple(sorted(f for f in every if is_input(f[start:], tracked=False)))

    def _watched_directories(
        self, directory: str, nested: tuple[str, ...], tracked: Mapping[str, bool] | None, ignored: "_Ignored"
    ) -> tuple[str, ...]:
        """Return every directory in which a new input may appear, empty ones too, and their `.gitignore` files."""
        full = {p for path in tracked or () for p in parents(path)}
        found: list[str] = []
        todo = [directory]
        for here in todo:
            found.append(here or ".")
            files, folders = scan(self.root, here)
            found += [f for f in files if f.rpartition("/")[2] == ".gitignore"]
            open_ = [f for f in folders if f not in nested and not is_pruned(f, directory)]
            todo += [f for f in open_ if f in full or f not in ignored]
        return tuple(sorted(found))


class _Ignored:
    """The directories that git ignores as a whole; asked for once, and only if a directory without inputs turns up."""

    def __init__(self, git: Git | None, directories: list[str]) -> None:
        self._git, self._directories = git, directories
        self._found: frozenset[str] | None = None if git else frozenset()

    def __contains__(self, folder: str) -> bool:
        if self._found is None and self._git is not None:
            self._found = self._git.ignored_directories(self._directories)
        return folder in (self._found or ())


def _inner(directories: list[str], nested: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Give each directory those of `nested` that lie below it, in one pass over them."""
    inner: dict[str, list[str]] = {d: [] for d in directories}
    for path in sorted(nested):
        for above in parents(path):
            if above in inner:
                inner[above].append(path)
    return {d: tuple(found) for d, found in inner.items()}


def _split(directories: list[str], listed: Mapping[str, bool]) -> dict[str, dict[str, bool]]:
    """Give each directory the listed paths below it, in one pass over the paths."""
    split: dict[str, dict[str, bool]] = {d: {} for d in directories}
    for path, tracked in listed.items():
        place = path.rstrip("/")
        for above in (place, *parents(place)):  # a directory that git lists as one name is a repository of its own
            if above in split:
                split[above][path] = tracked
    return split


def _matches(names: list[str], pattern: list[str], hidden: bool) -> bool:
    """Return whether a path matches a glob, name by name; `**` stands for any number of directories."""
    from fnmatch import fnmatchcase

    if not pattern:
        return not names
    if pattern[0] == "**":
        if _matches(names, pattern[1:], hidden):
            return True
        return bool(names) and (hidden or not names[0].startswith(".")) and _matches(names[1:], pattern, hidden)
    return bool(names) and fnmatchcase(names[0], pattern[0]) and _matches(names[1:], pattern[1:], hidden)


def _unreadable(path: str, error: OSError) -> BuildlibError:
    return BuildlibError(path, f"cannot be read ({error.strerror or error})", "make it a readable file, or remove it")
