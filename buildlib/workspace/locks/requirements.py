"""Reader of a hashed requirements.txt (pip's format, https://pip.pypa.io/en/stable/reference/requirements-file-format/).

Knows lines, options and hashes as pip, uv and pip-compile write them. Does not know those tools, the file system (what
a file includes is asked for) or other formats. Not every requirements.txt is meant as a lock: what makes it none is
said only to a project that needs it.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from buildlib.errors import BuildlibError
from buildlib.workspace.locks.base import DEFAULT_INDEX, Pin, Source, in_default_index, inside
from buildlib.workspace.locks.files import name_and_version
from buildlib.workspace.locks.listed import Entry, ListedLock, by_name, said_command

if TYPE_CHECKING:
    from packaging.requirements import Requirement

FILE = "requirements.txt"
COMMAND = "uv pip compile --universal --generate-hashes pyproject.toml -o requirements.txt"

Read = Callable[[str], bytes | None]
"""Gives the bytes of a file, by its path relative to the workspace root; None where there is none."""

_HASH = re.compile(r"\s--hash[= ](\S+)")
_COMMENT = re.compile(r"(^|\s)#.*$")  # pip's: a "#" inside a URL is none
_ARCHIVES = (".whl", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
_INCLUDE = re.compile(rb"^[ \t]*(?:-r|--requirement)\b", re.M)
# What says nothing of which packages these are, or is of no use to an installer that has versions and hashes.
_IGNORED = ("-c", "--constraint", "--require-hashes", "--pre", "--prefer-binary", "--trusted-host", "--use-feature")
_BUILD = ("--no-binary", "--only-binary")
_EDITABLE = ("-e", "--editable")
_INDEX, _FURTHER = ("-i", "--index-url", "--pypi-url"), ("--extra-index-url",)
_WITH_VALUE = {
    *("-c", "--constraint", "--trusted-host", "--use-feature", "-r", "--requirement", "-f", "--find-links"),
    *(*_BUILD, *_EDITABLE, *_INDEX, *_FURTHER),
}


@dataclass(frozen=True)
class _Line:
    path: str
    number: int
    text: str

    @property
    def place(self) -> str:
        return f"{self.path}:{self.number}"


@dataclass
class _Found:
    """What the lines of a file and of those it includes say."""

    entries: list[Entry] = field(default_factory=list)
    index: str = DEFAULT_INDEX
    further: list[str] = field(default_factory=list)
    included: list[str] = field(default_factory=list)
    fault: BuildlibError | None = None


def parse(path: str, data: bytes, read: Read | None = None) -> ListedLock:
    """A lock from the bytes of the file at `path` (relative to the workspace root). What is wrong is kept as its fault.

    Args:
        read: gives the files that it includes.
    """
    source = Source(path, said_command(data, COMMAND))
    found = _Found(included=[path])
    _read_file(source, path, data, read, found)
    sources = _sources(found)
    entries = (_with_source(entry, sources) for entry in found.entries)
    return ListedLock(FILE, source, by_name(entries), fault=found.fault)


def included(path: str, data: bytes, read: Read) -> tuple[str, ...]:
    """The files that a requirements.txt includes, at any depth, those that are not there too."""
    if not _INCLUDE.search(data):
        return ()
    found = _Found(included=[path])
    _read_file(Source(path, COMMAND), path, data, read, found)
    return tuple(found.included[1:])


def _read_file(source: Source, path: str, data: bytes, read: Read | None, found: _Found) -> None:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found.fault = found.fault or BuildlibError(path, f"it is not UTF-8 (byte {error.start})", "save it as UTF-8")
        return
    if re.search(r"^(<<<<<<<|>>>>>>>) ", text, re.M):
        cure = f"take either side, then run `{source.relock}`"
        found.fault = found.fault or BuildlibError(path, "it holds the conflict markers of a merge", cure)
        return
    for line in _lines(path, text):
        try:
            _read_line(source, line, read, found)
        except BuildlibError as error:
            found.fault = found.fault or error


def _lines(path: str, text: str) -> Iterator[_Line]:
    """The lines that say something: continued ones joined, comments dropped (in this order, as pip does)."""
    held, first = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        is_comment = raw.lstrip().startswith("#")
        first = first if held else number
        if raw.endswith("\\") and not is_comment:
            held += raw[:-1] + " "
            continue
        said, held = _COMMENT.sub("", held + ("" if is_comment else raw)).strip(), ""
        if said:
            yield _Line(path, first, said)
    if said := _COMMENT.sub("", held).strip():
        yield _Line(path, first, said)


def _read_line(source: Source, line: _Line, read: Read | None, found: _Found) -> None:
    if not line.text.startswith("-"):
        found.entries.append(_entry(source, line))
        return
    try:
        words = shlex.split(line.text)
    except ValueError:
        raise _fault(line, f"{line.text!r} is no line of a requirements file", "correct it") from None
    while words:
        word, equals, value = words.pop(0).partition("=")
        if not equals and len(word) > 2 and not word.startswith("--"):  # -rother.txt
            word, value = word[:2], word[2:]
        elif not equals and word in _WITH_VALUE:
            value = words.pop(0) if words else ""
        _read_option(source, line, word, value, read, found)


def _read_option(source: Source, line: _Line, word: str, value: str, read: Read | None, found: _Found) -> None:
    if word in ("-r", "--requirement"):
        _include(source, line, value, read, found)
    elif word in _INDEX:
        found.index = value.rstrip("/")
    elif word in _FURTHER:
        found.further += [value.rstrip("/")] if value.rstrip("/") not in found.further else []
    elif word in _EDITABLE:
        found.entries.append(_local(line, value))
    elif word not in (*_IGNORED, *_BUILD):
        known = "name an index with --index-url or --extra-index-url, or a file with `NAME @ URL`"
        raise _fault(line, f"{word} is not supported in a lock", known)


def _include(source: Source, line: _Line, value: str, read: Read | None, found: _Found) -> None:
    where = inside(posixpath.dirname(line.path), value)
    outside = posixpath.isabs(where) or where.startswith("../") or "://" in value
    if where in found.included:
        return
    found.included += [] if outside else [where]
    data = None if outside or read is None else read(where)
    if data is None:
        cause = f"it includes {value}, which is not in the workspace"
        raise _fault(line, cause, f"correct it, or run `{source.relock}`")
    _read_file(source, where, data, read, found)


def _entry(source: Source, line: _Line) -> Entry:
    hashes = tuple(sorted(set(_HASH.findall(line.text))))
    what = _HASH.split(line.text, maxsplit=1)[0].strip()
    if re.match(r"(\.{0,2}/|file:)", what) or ("://" in what and "@" not in what.partition("://")[0]):
        return _placed(source, line, what, hashes)
    needed = _requirement(line, what)
    from packaging.utils import canonicalize_name

    name, marker = canonicalize_name(needed.name), str(needed.marker or "")
    extras = frozenset(canonicalize_name(extra) for extra in needed.extras)
    if needed.url:
        return replace(_at(source, line, name, needed.url, hashes), marker=marker, extras=extras)
    version = _exact(needed)
    fault = None if version and hashes else _unhashed(source, line, name, version)
    pin = Pin(name, version, hashes) if fault is None else None
    return Entry(name, version, marker, pin, extras=extras, fault=fault)


def _requirement(line: _Line, what: str) -> Requirement:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(what)
    except InvalidRequirement as error:
        cause = f"{what!r} is no requirement ({str(error).splitlines()[0]})"
        raise _fault(line, cause, "write it as PEP 508 says") from None


def _exact(needed: Requirement) -> str:
    """The one version that a requirement allows; "" where it allows several."""
    clauses = list(needed.specifier)
    if len(clauses) != 1 or clauses[0].operator not in ("==", "===") or clauses[0].version.endswith("*"):
        return ""
    return clauses[0].version


def _placed(source: Source, line: _Line, what: str, hashes: tuple[str, ...]) -> Entry:
    """A line that is a path or a URL without a name: a local project, or a file whose name says what it is."""
    place, _, marker = (part.strip() for part in re.sub(r"\s;", "\0;", what).partition("\0;"))
    file = posixpath.basename(re.split(r"[#?]", place)[0])
    if not file.endswith(_ARCHIVES):
        return replace(_local(line, place), marker=marker)
    name, version = name_and_version(file)
    if not name:
        raise _fault(line, f"{file} does not say which package it is", f"write `NAME @ {place}`")
    if "://" not in place:
        here = posixpath.relpath(posixpath.dirname(line.path) or ".", source.directory or ".")
        place = source.file(name, inside(here, place))
    return replace(_at(source, line, name, place, hashes), version=version, marker=marker)


def _at(source: Source, line: _Line, name: str, url: str, hashes: tuple[str, ...]) -> Entry:
    """`NAME @ URL`: a directory is a project of the workspace, a version control URL has no hash, else it is a file."""
    if url.startswith(("git+", "hg+", "svn+", "bzr+")):
        return Entry(name, fault=_fault(line, *_cause(source.not_from_git(name))))
    if url.startswith("file:") and not url.startswith("file:///") and not url.endswith(_ARCHIVES):
        return Entry(name, is_local=True)
    given = re.findall(r"(sha256|sha384|sha512)=([0-9a-f]+)", url.partition("#")[2])
    hashes = tuple(sorted({*hashes, *(f"{kind}:{value}" for kind, value in given)}))
    version = name_and_version(posixpath.basename(re.split(r"[#?]", url)[0]))[1]
    part = re.search(r"subdirectory=[^&]+", url.partition("#")[2])
    where = url.partition("#")[0] + (f"#{part[0]}" if part else "")
    fault = None if hashes else _unhashed(source, line, name, version)
    pin = Pin(name, version, hashes, where, direct=True) if hashes else None
    return Entry(name, version, pin=pin, fault=fault)


def _local(line: _Line, place: str) -> Entry:
    """A line that is a directory. Its name is not said: what needs it, needs a project of the workspace."""
    if place.startswith(("git+", "hg+", "svn+", "bzr+")):
        cure = "depend on a release of it from an index or on an archive by URL"
        raise _fault(line, f"{place} comes from version control, which has no hash", cure)
    return Entry("", is_local=True)


def _unhashed(source: Source, line: _Line, name: str, version: str) -> BuildlibError:
    """The error for a line that is no pin, with the command that makes it one, of the tool that wrote the file."""
    command = source.command
    if command == COMMAND:  # nobody says what the file was made from: then its own lines are
        file = posixpath.basename(source.path)
        command = f"uv pip compile --universal --generate-hashes {file} -o {file}"
    elif "--generate-hashes" not in command and command.startswith(("uv pip compile", "pip-compile")):
        command = re.sub(r"^(uv pip compile|pip-compile)", r"\1 --generate-hashes", command)
    cause = f"{name} {version} has no hash" if version else f"{name} has no exact version and no hash"
    return _fault(line, cause, f"run `{replace(source, command=command).relock}`")


def _cause(error: BuildlibError) -> tuple[str, str]:
    return error.cause, error.cure


def _fault(line: _Line, cause: str, cure: str) -> BuildlibError:
    return BuildlibError(line.place, cause, cure)


def _sources(found: _Found) -> str:
    """The indexes that every line may come from, in the file's order; "" for the default one alone."""
    every = [found.index, *found.further]
    return "" if all(map(in_default_index, every)) else " ".join(dict.fromkeys(filter(None, every)))


def _with_source(entry: Entry, source: str) -> Entry:
    if entry.pin is None or entry.pin.direct or not source:
        return entry
    return replace(entry, pin=replace(entry.pin, source=source))
