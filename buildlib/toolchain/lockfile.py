"""The text of `buildlib.lock`: which release of every build requirement the team uses, with its hashes.

The file has one table for each different set of requirements, with a line for each package of its closure, and one for
each release that any of them has, with its hashes. So projects with equal requirements share an entry, an upgrade is a
changed line and its hashes, and two branches that add different requirements touch different lines. Written by hand,
read with tomli. Knows no project but by name, no resolver and no disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from buildlib.errors import BuildlibError

VERSION = 1
HEADER = f"""\
# buildlib.lock: the build backends of this workspace and all that they need, resolved once, with hashes. Commit it.
# buildlib extends it when a project asks for something new; `doit lock --upgrade` moves it to the newest releases.
# Do not edit it by hand.

version = {VERSION}
"""
UPGRADE = "restore it from git, or run `doit lock --upgrade`"
HASH = re.compile(r"sha(?:256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})")
SPECIFIER = r"(?:[<>]=?|[=!~]=)[0-9][0-9a-z.]*"
PLAIN = re.compile(rf"([a-z0-9]+(?:-[a-z0-9]+)*)((?:{SPECIFIER}(?:,{SPECIFIER})*)?)")
PIN = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)==([A-Za-z0-9.!+_-]+)(?: ; (\S.*))?")


@dataclass(frozen=True)
class Pin:
    """One release: normalised name, version, hashes of its files (`sha256:…`), where it applies (PEP 508 marker)."""

    name: str
    version: str
    hashes: tuple[str, ...]
    marker: str = ""


@dataclass(frozen=True)
class ToolLock:
    """The lock as a value.

    Attributes:
        environments: sets of requirements (normalised, sorted) with the pins of their closure, sorted.
        dynamic: project names with what their backends asked for at run time (`get_requires_for_build_wheel`), sorted.
    """

    environments: tuple[tuple[tuple[str, ...], tuple[Pin, ...]], ...] = ()
    dynamic: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def pins(self, requires: Iterable[str]) -> tuple[Pin, ...] | None:
        """The closure of these requirements, however they are written; None if it is not locked yet."""
        wanted = normal_requirements(requires)
        return dict(self.environments).get(wanted, None if wanted else ())

    def dynamic_for(self, project: str) -> tuple[str, ...]:
        """What the project's backend asked for when it last ran, normalised; nothing if it was not asked yet."""
        return dict(self.dynamic).get(project, ())

    def with_environment(self, requires: Iterable[str], pins: Iterable[Pin]) -> ToolLock:
        """This lock and one more closure; a release that two indexes have in different files has the hashes of both."""
        environments = dict(self.environments) | {normal_requirements(requires): tuple(pins)}
        hashes = _hashes_by_release(pin for closure in environments.values() for pin in closure)
        shared = {wanted: _sorted(closure, hashes) for wanted, closure in environments.items()}
        return replace(self, environments=tuple(sorted(shared.items())))

    def with_dynamic(self, project: str, requires: Iterable[str]) -> ToolLock:
        """This lock with what a project's backend asked for; asking for nothing takes the line away."""
        entries = dict(self.dynamic) | {project: normal_requirements(requires)}
        return replace(self, dynamic=tuple(sorted(entry for entry in entries.items() if entry[1])))

    def versions(self) -> dict[str, str]:
        """The newest locked version of each package, for a resolver to prefer, so that adding moves nothing else."""
        from packaging.version import Version

        found: dict[str, str] = {}
        for _, pins in self.environments:
            for pin in pins:
                found[pin.name] = max(pin.version, found.get(pin.name, pin.version), key=Version)
        return found


def normal_requirements(requires: Iterable[str]) -> tuple[str, ...]:
    """Requirement strings that mean the same as the same strings: normalised, sorted, each once."""
    return tuple(sorted({_normal_requirement(text) for text in requires}))


def dump(lock: ToolLock) -> str:
    """The text of `buildlib.lock`: the same for equal locks."""
    parts = [HEADER]
    for requires, pins in lock.environments:
        parts.append(f"[[environment]]\nrequires = {_line(requires)}\npins = {_lines(map(_pin_text, pins))}\n")
    releases = _hashes_by_release(pin for _, pins in lock.environments for pin in pins)
    for (name, version), hashes in sorted(releases.items()):
        head = f"[[package]]\nname = {_quote(name)}\nversion = {_quote(version)}\n"
        parts.append(head + f"hashes = {_lines(hashes)}\n")
    if lock.dynamic:
        rows = (f"{_quote(project)} = {_line(requires)}\n" for project, requires in lock.dynamic)
        parts.append("# What backends asked for when they ran.\n[dynamic]\n" + "".join(rows))
    return "\n".join(parts)


def parse(data: bytes, place: str = "buildlib.lock") -> ToolLock:
    """The lock in the bytes of a file.

    Raises:
        BuildlibError: it is not one that `dump` would write, up to order and layout.
    """
    document = _document(data, place)
    try:
        hashes = _packages(document.pop("package", []))
        environments = _environments(document.pop("environment", []), hashes)
        dynamic = document.pop("dynamic", {})
        _check(isinstance(dynamic, dict), "`dynamic` is not a table")
        entries = {project: normal_requirements(_strings(value, project)) for project, value in dynamic.items()}
        _check(not document, f"there is no key {', '.join(sorted(document))!r} in version {VERSION}")
    except _MalformedError as error:
        raise BuildlibError(place, str(error), UPGRADE) from None
    return ToolLock(tuple(sorted(environments.items())), tuple(sorted(entries.items())))


class _MalformedError(Exception):
    """What is wrong with the document; `parse` knows where."""


def _check(condition: bool, cause: str) -> None:
    if not condition:
        raise _MalformedError(cause)


def _document(data: bytes, place: str) -> dict[str, Any]:
    """The TOML document, without its version."""
    import tomli

    if re.search(rb"^(?:<{7}|>{7}|\|{7}|={7})(?:[ \r]|$)", data, re.MULTILINE):
        cure = f"take either side (`git checkout --ours {place}`) and build: what is missing is added again"
        raise BuildlibError(place, "it has the conflict markers of a merge", cure)
    try:
        document = tomli.loads(data.decode())
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise BuildlibError(place, f"not readable as TOML ({error})", UPGRADE) from None
    version = document.pop("version", None)
    if type(version) is int and version > VERSION:
        raise BuildlibError(place, f"written by a newer buildlib (version {version})", "upgrade buildlib")
    if type(version) is not int or version != VERSION:
        raise BuildlibError(place, f"`version` is not {VERSION}", UPGRADE)
    return document


def _packages(tables: Any) -> dict[tuple[str, str], tuple[str, ...]]:
    """The hashes of each release."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for table in _tables(tables, "package", {"name", "version", "hashes"}):
        name, version = table["name"], table["version"]
        _check(isinstance(name, str) and isinstance(version, str), "a package's name or version is no string")
        _check(bool(PIN.fullmatch(f"{name}=={version}")), f"no package is called {name!r} with version {version!r}")
        _check((name, version) not in found, f"{name} {version} is there twice")
        hashes = tuple(sorted(_strings(table["hashes"], f"hashes of {name}")))
        _check(bool(hashes) and all(map(HASH.fullmatch, hashes)), f"{name} {version} lacks good hashes")
        found[name, version] = hashes
    return found


def _environments(
    tables: Any, hashes: Mapping[tuple[str, str], tuple[str, ...]]
) -> dict[tuple[str, ...], tuple[Pin, ...]]:
    found: dict[tuple[str, ...], tuple[Pin, ...]] = {}
    for table in _tables(tables, "environment", {"requires", "pins"}):
        requires = normal_requirements(_strings(table["requires"], "requires"))
        _check(requires not in found, f"the requirements {', '.join(requires)} are there twice")
        pins = [_pin(text, hashes) for text in _strings(table["pins"], f"pins of {', '.join(requires)}")]
        found[requires] = _sorted(pins, hashes)
    return found


def _pin(text: str, hashes: Mapping[tuple[str, str], tuple[str, ...]]) -> Pin:
    found = PIN.fullmatch(text)
    if not found:
        raise _MalformedError(f"{text!r} does not read `name==version` or `name==version ; marker`")
    name, version, marker = found.groups(default="")
    _check((name, version) in hashes, f"{name} {version} has no [[package]] table with its hashes")
    _check(not marker or _is_marker(marker), f"{marker!r} is no environment marker")
    return Pin(name, version, hashes[name, version], marker)


def _is_marker(text: str) -> bool:
    from packaging.markers import InvalidMarker, Marker

    try:
        Marker(text)
    except InvalidMarker:
        return False
    return True


def _tables(value: Any, name: str, keys: set[str]) -> Iterator[dict[str, Any]]:
    """The tables of an array of tables that have exactly these keys."""
    _check(isinstance(value, list) and all(isinstance(table, dict) for table in value), f"{name!r} is no table array")
    for table in value:
        _check(set(table) == keys, f"a [[{name}]] table has not just the keys {', '.join(sorted(keys))}")
        yield table


def _strings(value: Any, what: str) -> list[str]:
    _check(isinstance(value, list) and all(isinstance(item, str) for item in value), f"{what!r} is no list of strings")
    return list(value)


def _hashes_by_release(pins: Iterable[Pin]) -> dict[tuple[str, str], tuple[str, ...]]:
    found: dict[tuple[str, str], set[str]] = {}
    for pin in pins:
        found.setdefault((pin.name, pin.version), set()).update(pin.hashes)
    return {release: tuple(sorted(hashes)) for release, hashes in found.items()}


def _sorted(pins: Iterable[Pin], hashes: Mapping[tuple[str, str], tuple[str, ...]]) -> tuple[Pin, ...]:
    """The pins in the order of the file, with all known hashes of their releases."""
    full = {replace(pin, hashes=hashes[pin.name, pin.version]) for pin in pins}
    return tuple(sorted(full, key=lambda pin: (pin.name, pin.version, pin.marker)))


@cache
def _normal_requirement(text: str) -> str:
    """`Poetry_Core >=1.0` as `poetry-core>=1.0`; what is no requirement as it is: the resolver will say so."""
    if plain := PLAIN.fullmatch(text):  # nearly all: without packaging, whose import costs more than a no-op may
        return plain[1] + ",".join(sorted(set(plain[2].split(","))))
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return " ".join(text.split())
    requirement.name = canonicalize_name(requirement.name)
    return str(requirement)


def _pin_text(pin: Pin) -> str:
    return f"{pin.name}=={pin.version}" + (f" ; {pin.marker}" if pin.marker else "")


def _line(items: Iterable[str]) -> str:
    return "[" + ", ".join(map(_quote, items)) + "]"


def _lines(items: Iterable[str]) -> str:
    """A list with a line for each item: a diff shows what changed."""
    rows = "".join(f"    {_quote(item)},\n" for item in items)
    return f"[\n{rows}]" if rows else "[]"


def _quote(text: str) -> str:
    """A TOML basic string (TOML 1.0, String): JSON's escapes, and DEL, which JSON does not escape."""
    import json

    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
