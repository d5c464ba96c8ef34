"""Reader of pylock.toml and pylock.NAME.toml (PEP 751, packaging.python.org/en/latest/specifications/pylock-toml).

Knows the format, which `packaging.pylock` checks, and what is installed from an entry. Does not know the tools that
write it, the file system or other formats. `packages.dependencies` are not read: the PEP forbids installers to do so.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from buildlib.workspace.locks.base import Pin, Source, in_default_index, read_toml
from buildlib.workspace.locks.listed import Entry, ListedLock, by_name, said_command

if TYPE_CHECKING:
    from packaging.pylock import Package, PackageArchive, PackageSdist, PackageWheel

FILE = "pylock.toml"
COMMAND = "uv pip compile --universal --generate-hashes pyproject.toml -o {}"
_COMMANDS = {"pip": "pip lock . -o {}", "pdm": "pdm lock && pdm export --format pylock --output {}"}  # by `created-by`
_ALGORITHMS = ("sha256", "sha384", "sha512")  # those that pip's hash mode takes
_NAMED = re.compile(r"pylock\.([^.]+)\.toml")
_OF_PYPI = "https://files.pythonhosted.org/"  # where the default index has its files


def parse(path: str, data: bytes) -> ListedLock:
    """A lock from the bytes of the file at `path` (relative to the workspace root).

    Raises:
        BuildlibError: for bad TOML, an unknown version, or what PEP 751 does not allow.
    """
    from packaging.pylock import Pylock, PylockUnsupportedVersionError, PylockValidationError
    from packaging.utils import canonicalize_name

    file = posixpath.basename(path)
    source = Source(path, said_command(data, COMMAND.format(file)))
    document = read_toml(source, data)
    maker = document.get("created-by")
    if source.command == COMMAND.format(file) and isinstance(maker, str) and maker in _COMMANDS:
        source = Source(path, _COMMANDS[maker].format(file))
    try:
        lock = Pylock.from_dict(document)
    except PylockUnsupportedVersionError as error:
        raise source.fault(str(error), "lock with a tool that writes lock-version 1.0") from None
    except (PylockValidationError, ValueError) as error:
        raise source.fault(f"PEP 751 does not allow it: {error}") from None
    named = _NAMED.fullmatch(file)
    return ListedLock(
        FILE,
        source,
        by_name(_entry(source, package) for package in lock.packages),
        owner=canonicalize_name(named[1]) if named else "",
        pythons=str(lock.requires_python or ""),
        environments=tuple(map(str, lock.environments or ())),
        groups=frozenset(lock.default_groups or ()),
    )


def _entry(source: Source, package: Package) -> Entry:
    name, version, marker = package.name, str(package.version or ""), str(package.marker or "")
    if package.directory is not None:
        fault = source.no_project(name, package.directory.path)
        return Entry(name, version, marker, is_local=True, fault=fault)
    if package.vcs is not None:
        return Entry(name, version, marker, fault=source.not_from_git(name))
    if package.archive is not None:
        return _direct(source, package, package.archive)
    files = {file.filename: file for file in _files(package)}
    needs_wheel = () if package.sdist is not None else tuple(files)
    if package.index is None and not all((file.url or "").startswith(_OF_PYPI) for file in files.values()):
        choices = tuple((each, _pin(source, name, version, file)) for each, file in files.items())
        return Entry(name, version, marker, choices=choices)
    index = "" if package.index is None or in_default_index(package.index) else package.index
    hashes = {value for file in files.values() for value in _hashes(file.hashes)}
    return Entry(name, version, marker, Pin(name, version, tuple(sorted(hashes)), index), wheels=needs_wheel)


def _direct(source: Source, package: Package, archive: PackageArchive) -> Entry:
    version = str(package.version or "")
    pin = _pin(source, package.name, version, archive, archive.subdirectory or "")
    return Entry(package.name, version, str(package.marker or ""), pin)


def _files(package: Package) -> list[PackageWheel | PackageSdist]:
    wheels: list[PackageWheel | PackageSdist] = list(package.wheels or ())
    return [*wheels, package.sdist] if package.sdist is not None else wheels


def _pin(
    source: Source,
    name: str,
    version: str,
    file: PackageWheel | PackageSdist | PackageArchive,
    subdirectory: str = "",
) -> Pin:
    """One file as a pin: at its URL, or in the workspace."""
    where = file.url or source.file(name, file.path or "")
    where += f"#subdirectory={subdirectory}" if subdirectory else ""
    return Pin(name, version, _hashes(file.hashes), where, direct=True)


def _hashes(hashes: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(f"{kind}:{value}" for kind, value in hashes.items() if kind in _ALGORITHMS))
