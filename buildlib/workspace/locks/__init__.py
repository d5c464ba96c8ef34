"""Third-party requirements from lock files: one reader a format, all with the interface of `Lock`.

Knows which formats there are and where their files are looked for. Does not read files, run tools or ask an index:
bytes come in. A new format is a new file beside `uv.py` with COMMAND and `parse`, and one entry in `_READERS`.
A reader is imported when the first lock of its kind is read.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from importlib import import_module
from typing import Protocol, cast

from buildlib.errors import BuildlibError
from buildlib.workspace.locks.base import Lock, Member, Pin, Target, command_in, requirement

__all__ = ["Lock", "Member", "Pin", "Target", "lock_files", "missing", "parse", "requirements_text"]

_READERS = {"uv.lock": "uv", "poetry.lock": "poetry"}  # file name → module, best first


class _Reader(Protocol):
    COMMAND: str

    def parse(self, path: str, data: bytes) -> Lock: ...


def _reader(name: str) -> _Reader:
    return cast(_Reader, import_module(f"{__name__}.{name}"))


def lock_files(project: str) -> tuple[str, ...]:
    """Where a project's lock may be, best first: in its own directory, then in each one above, up to the root.

    >>> lock_files("services/a")[:3]
    ('services/a/uv.lock', 'services/a/poetry.lock', 'services/uv.lock')
    """
    directory = posixpath.normpath(project) if project else "."
    found: list[str] = []
    while directory != ".":
        found += [f"{directory}/{file}" for file in _READERS]
        directory = posixpath.dirname(directory) or "."
    return (*found, *_READERS)


def parse(path: str, data: bytes) -> Lock:
    """The lock in `data`; its format is told by the file name of `path`, which is relative to the workspace root.

    Raises:
        BuildlibError: for an unknown file name, bad TOML, an unknown version, or values of a wrong shape.
    """
    name = _READERS.get(posixpath.basename(path))
    if name is None:
        raise BuildlibError(path, "no lock format has this file name", f"use {' or '.join(_READERS)}")
    return _reader(name).parse(path, data)


def requirements_text(pins: Iterable[Pin]) -> str:
    """A requirements file for `pip install --require-hashes`: sorted, LF, "" for no pins.

    Other indexes come first: as --extra-index-url beside the default one, else the first of them as --index-url.
    A pin that is a file of the workspace is written `./PATH`, as uv does, relative to the workspace root: pip takes no
    relative path after `NAME @`.
    """
    ordered = sorted(pins, key=lambda pin: (pin.name, pin.version, pin.source))
    indexes = sorted({pin.source for pin in ordered if pin.source and not pin.direct})
    default = any(not pin.source for pin in ordered)
    lines = [f"--{'extra-' if default or index != indexes[0] else ''}index-url {index}\n" for index in indexes]
    return "".join(lines + [_lines(pin) for pin in ordered])


def _lines(pin: Pin) -> str:
    what = f"{pin.name} @ {pin.source}" if pin.direct else f"{pin.name}=={pin.version}"
    if pin.direct and pin.source.startswith("file:"):
        what = "./" + pin.source.removeprefix("file:")
    return " \\\n    ".join([what, *(f"--hash={value}" for value in sorted(pin.hashes))]) + "\n"


def missing(member: Member) -> BuildlibError:
    """The error for a project that needs third-party packages and has no lock, with the command that makes one.

    A project with a `[tool.poetry]` table and none of uv's gets Poetry's command, any other uv's: poetry-core alone is
    a build backend, which uv's users have too.
    """
    tool = member.pyproject.get("tool", {})
    is_poetrys = isinstance(tool, dict) and "poetry" in tool and "uv" not in tool
    command = _reader("poetry" if is_poetrys else "uv").COMMAND
    names = sorted({requirement(member, text).name for text in member.requires} - member.local)
    needs = ", ".join(names[:3]) + (" and more" if len(names) > 3 else "") or "third-party packages"
    cause = f"it needs {needs}, and there is no lock"
    return BuildlibError(member.place, cause, f"run `{command_in(member.path, command)}`")
