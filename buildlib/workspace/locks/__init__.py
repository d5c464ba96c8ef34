"""Third-party requirements from lock files: one reader a format, all with the interface of `Lock`.

Knows which formats there are and where their files are looked for. Does not read files, run tools or ask an index:
bytes come in. A new format is a new file beside `uv.py` with COMMAND and `parse`, and one entry in `_READERS`.
A reader is imported when the first lock of its kind is read.

A requirements.txt comes last, after the locks of all directories: not every one is meant as a lock.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Protocol, cast

from buildlib.errors import BuildlibError
from buildlib.workspace.locks.base import DEFAULT_INDEX, Lock, Member, Pin, Target, command_in, requirement

__all__ = ["Lock", "Member", "Pin", "Target", "included", "lock_files", "may_include", "missing"]
__all__ += ["parse", "requirements_text"]

_REQUIREMENTS = "requirements.txt"
_READERS = {"uv.lock": "uv", "poetry.lock": "poetry", "pylock.toml": "pylock", _REQUIREMENTS: "requirements"}
_NAMED = re.compile(r"pylock\.[^.]+\.toml")  # PEP 751, "File Name"


class _Reader(Protocol):
    COMMAND: str

    def parse(self, path: str, data: bytes) -> Lock: ...


def _reader(name: str) -> _Reader:
    return cast(_Reader, import_module(f"{__name__}.{name}"))


def lock_files(project: str) -> tuple[str, ...]:
    """Where a project's lock may be, best first: in its own directory, then in each one above, up to the root.

    A `pylock.NAME.toml` is one with the name of the project's directory, in there or at the root, and so is a
    requirements.txt.

    >>> lock_files("a")[:5]
    ('a/uv.lock', 'a/poetry.lock', 'a/pylock.a.toml', 'a/pylock.toml', 'uv.lock')
    >>> lock_files("a")[5:]
    ('poetry.lock', 'pylock.a.toml', 'pylock.toml', 'a/requirements.txt', 'requirements.txt')
    """
    own = posixpath.normpath(project) if project else "."
    named = f"pylock.{posixpath.basename(own)}.toml" if "." not in posixpath.basename(own) else ""
    locks = [name for name in _READERS if name != _REQUIREMENTS]
    ends = [*locks[:-1], *([named] if named else []), locks[-1]]
    found = [posixpath.join(directory, name) for directory in _between(own) for name in locks]
    if own == ".":
        return (*locks, _REQUIREMENTS)
    return (*(f"{own}/{name}" for name in ends), *found, *ends, f"{own}/{_REQUIREMENTS}", _REQUIREMENTS)


def _between(directory: str) -> Iterator[str]:
    """The directories above one, without the root."""
    while directory := posixpath.dirname(directory):
        yield directory


def parse(path: str, data: bytes, read: Callable[[str], bytes | None] | None = None) -> Lock:
    """The lock in `data`; its format is told by the file name of `path`, which is relative to the workspace root.

    Args:
        read: gives the files that a requirements.txt includes, by their paths relative to the root; None where there is
            none. (See `included`.)

    Raises:
        BuildlibError: for an unknown file name, bad TOML, an unknown version, or values of a wrong shape.
    """
    file = posixpath.basename(path)
    if file == _REQUIREMENTS:
        from buildlib.workspace.locks import requirements

        return requirements.parse(path, data, read)
    name = "pylock" if _NAMED.fullmatch(file) else _READERS.get(file)
    if name is None:
        raise BuildlibError(path, "no lock format has this file name", f"use {' or '.join(_READERS)}")
    return _reader(name).parse(path, data)


def may_include(path: str) -> bool:
    """Whether a lock of that name may be read from further files: `included` says which."""
    return posixpath.basename(path) == _REQUIREMENTS


def included(path: str, data: bytes, read: Callable[[str], bytes | None]) -> tuple[str, ...]:
    """The further files that the lock in `data` is read from: those that a requirements.txt includes."""
    if not may_include(path):
        return ()
    from buildlib.workspace.locks import requirements

    return requirements.included(path, data, read)


def requirements_text(pins: Iterable[Pin]) -> str:
    """A requirements file for `pip install --require-hashes`: sorted, LF, "" for no pins.

    Other indexes come first: as --extra-index-url beside the default one, else the first of them as --index-url. Those
    that a lock names together keep its order.
    A pin that is a file of the workspace is written `./PATH`, as uv does, relative to the workspace root: pip takes no
    relative path after `NAME @`.
    """
    ordered = sorted(pins, key=lambda pin: (pin.name, pin.version, pin.source))
    sources = {pin.source for pin in ordered if pin.source and not pin.direct}
    every = dict.fromkeys(url for source in sorted(sources, key=_many_first) for url in source.split())
    default = DEFAULT_INDEX in every or any(not pin.source for pin in ordered)
    indexes = [url for url in every if url != DEFAULT_INDEX]
    lines = [f"--{'extra-' if default or index != indexes[0] else ''}index-url {index}\n" for index in indexes]
    return "".join(lines + [_lines(pin) for pin in ordered])


def _many_first(source: str) -> tuple[int, str]:
    return -source.count(" "), source


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
