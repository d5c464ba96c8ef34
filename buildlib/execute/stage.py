"""The room of one action: its declared inputs copied in, its declared outputs read out.

Knows files and what an action declares. Does not know processes.

ROOM/root is the input root, ROOM/home and ROOM/tmp are the command's HOME and TMPDIR. ROOM may lie inside a repository,
so two markers end every tool's search for one: git itself is stopped by GIT_CEILING_DIRECTORIES, while hatchling looks
for `.gitignore` and `.hgignore` upwards until it meets something called `.git` or `.hg`.

hatchling also matches those files' patterns against the absolute path of what it builds, and obeys none of them if one
does: `.buildlib/`, or `tmp/`, would do it to every room. So the room has a `.hgignore`, whose patterns come last: it
takes back, of all paths, only those that lead to the input root.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping

from buildlib.errors import BuildlibError
from buildlib.execute.action import Action, ActionFailed, InputChanged, InputFile, InvalidAction, OutputFile

FIXED_TIME_NS = 315_619_200 * 10**9  # 1980-01-02: a day after zip's first one, so that no timezone falls below it
LINK_HOPS = 40  # as Linux's own limit


def check_action(action: Action) -> None:
    """Refuses what would reach outside the input root, or cannot be laid out in it.

    Raises:
        InvalidAction: a path is absolute or has `..` in it, comes twice, or lies below a file or link; or a link's
            target leaves the input root.
    """
    entries = [file.path for file in action.files] + [link.path for link in action.links]
    outputs = [output.removesuffix("/") for output in action.outputs]
    for path in (*entries, *outputs, *([action.directory] if action.directory else [])):
        if not _is_plain(path):
            raise InvalidAction(path, "is no plain path below the input root")
    taken = set(entries)
    if len(taken) != len(entries):
        twice = next(path for path in entries if entries.count(path) > 1)
        raise InvalidAction(twice, "is an input twice")
    for path in (*entries, *outputs, posixpath.join(action.directory, "x")):
        for parent in _parents(path):
            if parent in taken:
                raise InvalidAction(path, f"lies below {parent}, which is no directory")
    links = {link.path: link.target for link in action.links}
    for link in action.links:
        _check_link(link.path, links)


def _is_plain(path: str) -> bool:
    return "\0" not in path and not any(part in ("", ".", "..") for part in path.split("/"))


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path


def _check_link(path: str, links: Mapping[str, str]) -> None:
    """Follows the link as the kernel would, through other declared links: no step may leave the input root."""
    at: list[str] = []
    todo = path.split("/")[::-1]
    hops = 0
    while todo:
        part = todo.pop()
        if part == ".." and not at:
            raise InvalidAction(path, f"links to {links[path]}, outside the input root", "copy the file, or declare it")
        if part == "..":
            at.pop()
        elif part not in ("", "."):
            at.append(part)
        target = links.get("/".join(at)) if at and part != ".." else None
        if target is None:
            continue
        hops += 1
        if target.startswith("/") or hops > LINK_HOPS:
            cause = f"links to {links[path]}, " + ("in a circle" if hops > LINK_HOPS else "by an absolute path")
            raise InvalidAction(path, cause, "make it a relative link to an existing file")
        at.pop()
        todo.extend(target.split("/")[::-1])


def stage(action: Action, read: Callable[[str], bytes], room: str) -> str:
    """Makes the room anew and copies the inputs in; the absolute path of its input root.

    Args:
        read: gives an input's bytes, by its declared path.
        room: an absolute path; whatever is there goes away.

    Raises:
        InvalidAction, InputChanged.
        BuildlibError: an input cannot be read, or the room not written.
    """
    check_action(action)
    try:
        return _fill_room(action, read, room)
    except OSError as error:
        cause = f"its build room cannot be written ({error.strerror})"
        raise BuildlibError(action.directory or ".", cause, "free some space, then run again") from error


def _fill_room(action: Action, read: Callable[[str], bytes], room: str) -> str:
    remove_room(room)
    os.makedirs(room)
    room = os.path.realpath(room)
    _mark_boundaries(room)
    root = os.path.join(room, "root")
    for name in ("root", "home", "tmp"):
        _make_directory(os.path.join(room, name))
    _make_directories(root, _needed_directories(action))
    for file in action.files:
        _copy(root, file.path, _verified(read, file), 0o755 if file.executable else 0o644)
    for link in action.links:
        os.symlink(link.target, os.path.join(root, link.path))
    return root


def _mark_boundaries(room: str) -> None:
    with open(os.path.join(room, ".git"), "w", encoding="ascii") as marker:
        marker.write("gitdir: none\n")  # names no repository: whoever looks here stops here
    os.mkdir(os.path.join(room, ".hg"))
    root = re.sub(r"([\\*?\[\]!# ])", r"\\\1", os.path.join(room, "root"))
    with open(os.path.join(room, ".hgignore"), "w", encoding="utf-8", errors="surrogateescape") as ignore:
        ignore.write(f"syntax: glob\n!{root}\n!{root}/**\n")


def _needed_directories(action: Action) -> list[str]:
    """Parents come before what is in them. The parents of outputs are made too, as REAPI does."""
    paths = [file.path for file in action.files] + [link.path for link in action.links]
    paths += [output.removesuffix("/") for output in action.outputs] + [posixpath.join(action.directory, "x")]
    return sorted({parent for path in paths for parent in _parents(path)})


def _make_directories(root: str, directories: Iterable[str]) -> None:
    for directory in directories:
        _make_directory(os.path.join(root, directory))


def _make_directory(path: str) -> None:
    os.mkdir(path)
    os.chmod(path, 0o755)  # whatever our own umask is: it is one for the whole process, threads included


def _verified(read: Callable[[str], bytes], file: InputFile) -> bytes:
    cure = "run again once nothing writes there"
    try:
        content = read(file.path)
    except FileNotFoundError:
        raise InputChanged(file.path, "was removed while the build read it", cure) from None
    except OSError as error:
        raise BuildlibError(file.path, f"cannot be read ({error.strerror})", "make it readable") from error
    if len(content) != file.size or hashlib.sha256(content).hexdigest() != file.sha256:
        raise InputChanged(file.path, "was edited while the build read it", cure)
    return content


def _copy(root: str, path: str, content: bytes, mode: int) -> None:
    descriptor = os.open(os.path.join(root, path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fchmod(descriptor, mode)
        os.utime(descriptor, ns=(FIXED_TIME_NS, FIXED_TIME_NS))
    finally:
        os.close(descriptor)


def remove_room(room: str) -> None:
    """Removes a room, even where the command left directories unwritable or a killed process still ends."""
    for last in (False, False, True):
        try:
            shutil.rmtree(room)
        except FileNotFoundError:
            return
        except OSError:
            if last:
                raise
            _make_removable(room)


def _make_removable(room: str) -> None:
    os.chmod(room, 0o700)
    for directory, names, _ in os.walk(room):
        for name in names:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)


def collect(action: Action, root: str) -> tuple[OutputFile, ...]:
    """The declared outputs that are there, sorted by path.

    Raises:
        ActionFailed: one is missing, or is no regular file (a link could lead anywhere).
    """
    found: list[OutputFile] = []
    for declared in action.outputs:
        for path in _walk(root, declared) if declared.endswith("/") else [declared]:
            found.append(_read_output(root, path))
    return tuple(sorted(set(found), key=lambda output: output.path))


def _walk(root: str, declared: str) -> list[str]:
    directory = declared.removesuffix("/")
    try:
        names = sorted(os.listdir(os.path.join(root, directory)))
    except OSError:
        raise ActionFailed(declared, "is declared as an output and was not made") from None
    paths: list[str] = []
    for name in names:
        path = posixpath.join(directory, name)
        is_directory = stat.S_ISDIR(os.lstat(os.path.join(root, path)).st_mode)
        paths += _walk(root, path + "/") if is_directory else [path]
    return paths


def _read_output(root: str, path: str) -> OutputFile:
    full = os.path.join(root, path)
    if os.path.realpath(full) != full:
        raise ActionFailed(path, "is an output reached by a link")
    if not os.path.isfile(full):
        raise ActionFailed(path, "is declared as an output and was not made")
    with open(full, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        info = os.fstat(file.fileno())
    return OutputFile(path, digest, info.st_size, bool(info.st_mode & 0o100))
