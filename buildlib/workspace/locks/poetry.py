"""Reader of poetry.lock, lock-versions 1.0 and 1.1 (Poetry 1.0 to 1.2), 2.0 (1.3 to 1.8) and 2.1 (Poetry 2).

Knows how Poetry writes a resolution, its constraint language, and how it hashes the pyproject a lock was made from.
Does not know Poetry itself, the file system or other formats.

2.1 says of each package for which groups of the *lock's own* project it is, and under which markers: a filter answers.
The older ones do not (the `category` of 1.x is no answer: markers are on the edges only), and none says it of any other
project (one below a lock at the root): there the graph is walked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from buildlib.errors import BuildlibError
from buildlib.workspace.locks.base import (
    Member,
    Pin,
    Source,
    Target,
    any_of,
    in_default_index,
    inside,
    mentions_extra,
    read_toml,
    requirement,
    said,
    same_marker,
    sole_versions,
    target_pythons,
)

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

FILE = "poetry.lock"
COMMAND = "poetry lock"
_VERSIONS = ("1.0", "1.1", "2.0", "2.1")
_WITH_GROUPS = "2.1"
_WISH = re.compile(r"([\w.-]+)\s*(?:\[([^\]]*)\])?\s*(?:\(([^)]*)\))?\s*(?:;\s*(.+))?")  # an extra's dependency
_ALGORITHMS = ("sha256:", "sha384:", "sha512:")  # those that poetry export prints, and pip accepts


@dataclass(frozen=True)
class _Edge:
    name: str
    constraint: str  # in Poetry's language; "*" for a path, a URL or git, which have one candidate
    marker: str
    extras: tuple[str, ...]
    optional: bool


@dataclass(frozen=True)
class _Package:
    name: str
    version: str
    pythons: str
    in_main: bool  # 2.1 only: whether it is there for the main dependencies of the lock's project …
    marker: str  # … and under which marker; 1.0: under which it is there at all, which its edges leave out
    hashes: tuple[str, ...]
    origin: Mapping[str, str]
    edges: tuple[_Edge, ...]
    extras: Mapping[str, frozenset[str]]  # extra -> names it adds
    wishes: Mapping[str, tuple[str, ...]]  # extra -> what it adds, nearly as PEP 508 has it

    @property
    def is_local(self) -> bool:
        return self.origin.get("type") == "directory"

    def meets(self, needed: Requirement) -> bool:
        """Whether it may be what is needed: from an index (`legacy` is a further one) by version, else as given."""
        from_index = self.origin.get("type", "") in ("", "legacy")
        return not from_index or needed.specifier.contains(self.version, prereleases=True)


@dataclass(frozen=True)
class PoetryLock:
    """A parsed poetry.lock; see `Lock`."""

    source: Source
    packages: Mapping[str, tuple[_Package, ...]]
    version: str
    pythons: str
    content_hash: str
    kind: str = field(default=FILE, init=False)
    is_list: bool = field(default=False, init=False)

    @property
    def path(self) -> str:
        return self.source.path

    def knows(self, member: Member) -> bool:
        """See `Lock.knows`."""
        return self._is_of(member) or any(package.is_local for package in self.packages.get(member.name, ()))

    def slice(self, member: Member, target: Target) -> tuple[Pin, ...]:
        """See `Lock.slice`."""
        pythons = (python for python in target_pythons(target) if self._allows(self.pythons, python))
        self.source.covers(pythons, target, self.pythons)
        if self._is_of(member) and self.version == _WITH_GROUPS:
            chosen = self._filtered(target)
        else:
            chosen = _Walk(self, member, target).packages()
        return sole_versions(self.source, filter(None, (self._pin(package, member) for package in chosen)))

    def check(self, member: Member, target: Target | None = None) -> None:
        """See `Lock.check`: Poetry's content-hash for the lock's own project, else what the lock holds of it."""
        del target
        if not self._is_of(member):
            self._check_other(member)
        elif self.content_hash not in content_hashes(member.pyproject, self.version):
            raise self.source.fault(f"it is older than {member.place} (the content-hash differs)")

    def requires(self, name: str) -> tuple[str, ...] | None:
        """See `Lock.requires`: what the lock holds of a path package."""
        for package in self.packages.get(name, ()):
            if package.is_local:
                main = [self._pep508(edge, edge.marker) for edge in package.edges if not edge.optional]
                return (*main, *self._optional(package))
        return None

    def _optional(self, package: _Package) -> Iterator[str]:
        """What a package's extras add. Lock-version 1.x has no edges for those that nobody asked for."""
        edges = {edge.name: edge for edge in package.edges if edge.optional}
        for extra, texts in package.wishes.items():
            for text in texts:
                found = _WISH.fullmatch(text)
                if found is None:
                    raise self.source.fault(f"the extra {extra} of {package.name} has {text!r}")
                name, extras, constraint, marker = (part or "" for part in found.groups())
                wish = _Edge(name, constraint or "*", marker, tuple(filter(None, extras.split(","))), optional=True)
                edge = edges.get(self.source.name(name, "an extra"), wish)
                marker = "" if mentions_extra(edge.marker) else edge.marker
                condition = f"extra == '{extra}'"
                yield self._pep508(edge, f"({marker}) and {condition}" if marker else condition)

    def _pep508(self, edge: _Edge, marker: str) -> str:
        try:
            allowed = specifiers(edge.constraint)
        except ValueError:
            raise self.source.fault(f"{edge.constraint!r} is no version constraint") from None
        extras = f"[{','.join(edge.extras)}]" if edge.extras else ""
        specifier = allowed[0] if len(allowed) == 1 else ""  # alternatives are no PEP 440
        return f"{edge.name}{extras}{specifier}" + (f"; {marker}" if marker else "")

    def _is_of(self, member: Member) -> bool:
        return inside(self.source.directory, ".") == inside(member.path, ".")

    def _filtered(self, target: Target) -> list[_Package]:
        every = (package for candidates in self.packages.values() for package in candidates)
        return [package for package in every if package.in_main and self.source.holds(package.marker, target)]

    def _check_other(self, member: Member) -> None:
        """Each requirement is met by a locked version; the member's own entry, if there is one, has the same names."""
        declared: dict[str, list[str]] = {}
        for needed in (requirement(member, text) for text in member.requires):
            name, marker = self.source.name(needed.name, "a dependency"), str(needed.marker or "")
            if mentions_extra(marker):
                continue
            declared.setdefault(name, []).append(marker)
            locked = self.packages.get(name, ())
            if not any(each.meets(needed) for each in locked):
                raise self._stale(member, f"{needed} is not in it")
        for package in self.packages.get(member.name, ()):
            if package.is_local:
                self.source.same_version(member, package.version)
            if not said(member):
                continue
            edges: dict[str, list[str]] = {}
            for edge in package.edges:
                if not edge.optional and not mentions_extra(edge.marker):
                    edges.setdefault(edge.name, []).append(edge.marker)
            self._compare(member, declared, edges)

    def _compare(self, member: Member, declared: Mapping[str, list[str]], locked: Mapping[str, list[str]]) -> None:
        for name in sorted(declared.keys() ^ locked.keys()):
            raise self._stale(member, f"{name} is not in it" if name in declared else f"it still has {name}")
        for name in sorted(declared):
            self.source.holds(any_of(locked[name]), Target("3.12", "linux/amd64"))
            if not same_marker(any_of(declared[name]), any_of(locked[name])):
                raise self._stale(member, f"{name} has another marker in it")

    def _stale(self, member: Member, how: str) -> BuildlibError:
        return self.source.fault(f"it is older than {member.place}: {how}")

    def _allows(self, constraint: str, version: Version) -> bool:
        try:
            return allows(constraint, version)
        except ValueError:
            raise self.source.fault(f"{constraint!r} is no version constraint") from None

    def _pin(self, package: _Package, member: Member) -> Pin | None:
        kind, url = package.origin.get("type", ""), package.origin.get("url", "")
        if package.is_local:
            if package.name not in member.local and package.name != member.name:
                raise self.source.no_project(package.name, url)
            return None
        if package.name in member.local:
            raise self.source.confused(package.name, package.version)
        if kind == "git":
            raise self.source.not_from_git(package.name)
        if kind in ("", "legacy"):
            index = url.rstrip("/")
            pin = Pin(package.name, package.version, package.hashes, "" if in_default_index(index) else index)
        else:
            where = self.source.file(package.name, url) if kind == "file" else url
            part = package.origin.get("subdirectory", "")
            where += f"#subdirectory={part}" if part else ""
            pin = Pin(package.name, package.version, package.hashes, where, direct=True)
        return self.source.pin(pin, f"run `poetry cache clear --all .`, then `{self.source.relock}`")


class _Walk:
    """The packages that one member needs on one target, found along the edges from its requirements.

    A name may be locked several times (once for each region of markers). Which one is meant is known only when all
    edges to it are: so the graph is walked again until no new constraint appears, choosing under all of them.
    """

    def __init__(self, lock: PoetryLock, member: Member, target: Target) -> None:
        self.lock, self.member, self.target = lock, member, target
        self.pythons = target_pythons(target)
        self.constraints: dict[str, set[str]] = {}

    def packages(self) -> list[_Package]:
        roots = list(self._roots())
        while True:
            before = {name: set(seen) for name, seen in self.constraints.items()}
            reached = self._reach(roots)
            if before == self.constraints:
                return reached

    def _roots(self) -> Iterator[_Edge]:
        for needed in (requirement(self.member, text) for text in self.member.requires):
            name = self.lock.source.name(needed.name, "a dependency")
            extras = tuple(self.lock.source.name(extra, "an extra") for extra in sorted(needed.extras))
            yield _Edge(name, str(needed.specifier) or "*", str(needed.marker or ""), extras, optional=False)

    def _reach(self, roots: list[_Edge]) -> list[_Package]:
        reached: dict[int, _Package] = {}
        visited: set[tuple[int, str]] = set()
        waiting = [(edge, "") for edge in reversed(roots)]
        while waiting:
            edge, extra = waiting.pop()
            if not self.lock.source.holds(edge.marker, self.target, extra):
                continue
            self.constraints.setdefault(edge.name, set()).add(edge.constraint)
            package = self._choose(edge.name)
            if self.lock.version == "1.0" and not self.lock.source.holds(package.marker, self.target):
                continue
            reached[id(package)] = package
            for each in ("", *edge.extras):
                if (id(package), each) not in visited:
                    visited.add((id(package), each))
                    waiting += [(further, each) for further in package.edges if _belongs(package, further, each)]
        return list(reached.values())

    def _choose(self, name: str) -> _Package:
        from packaging.version import Version

        candidates = self.lock.packages.get(name, ())
        if len(candidates) != 1:
            candidates = tuple(each for each in candidates if self._fits(each))
        if not candidates:
            raise self.lock.source.fault(f"it has no {name} that fits {self.member.name}")
        try:
            return max(candidates, key=lambda each: Version(each.version))
        except ValueError:
            raise self.lock.source.fault(f"a version of {name} is none") from None

    def _fits(self, package: _Package) -> bool:
        from packaging.version import InvalidVersion, Version

        allowed = self.lock._allows
        if not any(allowed(package.pythons, python) for python in self.pythons):
            return False
        try:
            version = Version(package.version)
        except InvalidVersion:
            raise self.lock.source.fault(f"the version of {package.name} is {package.version!r}") from None
        return all(allowed(constraint, version) for constraint in self.constraints[package.name])


def _belongs(package: _Package, edge: _Edge, extra: str) -> bool:
    """Whether an edge is one of the extra's ("" = the main ones)."""
    if not extra:
        return not edge.optional
    return edge.name in package.extras.get(extra, ()) or mentions_extra(edge.marker)


def parse(path: str, data: bytes) -> PoetryLock:
    """A lock from the bytes of the file at `path` (relative to the workspace root).

    Raises:
        BuildlibError: for bad TOML, an unknown version, or values of a wrong shape.
    """
    source = Source(path, COMMAND)
    document = read_toml(source, data)
    metadata = source.table(document.get("metadata", {}), "metadata")
    # Poetry 1.0 did not write it yet, but already had `files`.
    version = source.text(metadata.get("lock-version", "1.0" if "files" in metadata else None), "metadata.lock-version")
    if version not in _VERSIONS:
        cause = f"its lock-version is {version!r}, this reads {', '.join(_VERSIONS[:-1])} and {_VERSIONS[-1]}"
        raise source.fault(cause, f"run `{source.relock}` with Poetry 2")
    files = _files(source, metadata)
    packages: dict[str, list[_Package]] = {}
    for table in source.tables(document.get("package", []), "package"):
        package = _package(source, table, version, files)
        packages.setdefault(package.name, []).append(package)
    return PoetryLock(
        source,
        {name: tuple(found) for name, found in packages.items()},
        version,
        source.text(metadata.get("python-versions", "*"), "metadata.python-versions"),
        source.text(metadata.get("content-hash"), "metadata.content-hash"),
    )


def _files(source: Source, metadata: dict[str, Any]) -> dict[str, object]:
    """The files by package of lock-version 1.x; of one locked twice those of both, as `poetry export` has it."""
    files = source.table(metadata.get("files", {}), "metadata.files")
    return {source.name(name, "a name in metadata.files"): entries for name, entries in files.items()}


def _package(source: Source, table: dict[str, Any], version: str, older: Mapping[str, object]) -> _Package:
    name = source.name(table.get("name"), "the name of a package")
    older_marker = source.text(table.get("marker", ""), f"marker of {name}")
    in_main, marker = _main(source, table, name) if version == _WITH_GROUPS else (False, older_marker)
    files = source.tables(table.get("files", older.get(name, [])), f"files of {name}")
    hashes = {source.text(file.get("hash"), f"a hash of {name}") for file in files}
    extras = source.table(table.get("extras", {}), f"extras of {name}")
    origin = source.table(table.get("source", {}), f"source of {name}")
    return _Package(
        name,
        source.text(table.get("version"), f"version of {name}"),
        source.text(table.get("python-versions", "*"), f"python-versions of {name}"),
        in_main,
        marker,
        tuple(sorted(value for value in hashes if value.startswith(_ALGORITHMS))),
        {key: source.text(value, f"source of {name}") for key, value in origin.items()},
        tuple(_edges(source, source.table(table.get("dependencies", {}), f"dependencies of {name}"), name)),
        {source.name(extra, f"an extra of {name}"): _names(source, texts, name) for extra, texts in extras.items()},
        {source.name(extra, name): source.texts(texts, f"extras of {name}") for extra, texts in extras.items()},
    )


def _main(source: Source, table: dict[str, Any], name: str) -> tuple[bool, str]:
    """Whether a package is in the group main, and its marker there."""
    what = f"groups of {name}"
    groups = {source.name(group, what) for group in source.array(table.get("groups"), what)}
    markers = table.get("markers", "")
    if isinstance(markers, dict):
        markers = markers.get("main", "")
    return "main" in groups, _marker(source, markers, f"markers of {name}")


def _marker(source: Source, value: object, what: str) -> str:
    text = source.text(value, what)
    return "" if text == "*" else text


def _edges(source: Source, table: dict[str, Any], name: str) -> Iterator[_Edge]:
    what = f"dependencies of {name}"
    for key, values in table.items():
        for value in values if isinstance(values, list) else [values]:
            entry = {"version": value} if isinstance(value, str) else source.table(value, what)
            yield _Edge(
                source.name(key, what),
                source.text(entry.get("version", "*"), what),
                _edge_marker(source, entry, what),
                tuple(source.name(extra, what) for extra in source.array(entry.get("extras", []), what)),
                entry.get("optional") is True,
            )


def _edge_marker(source: Source, entry: dict[str, Any], what: str) -> str:
    """The marker of an edge; Poetry 1.0 wrote `python` and `platform` apart, as a pyproject has them."""
    markers = [_marker(source, entry.get("markers", ""), what)]
    try:
        markers.append(python_marker(source.text(entry.get("python", ""), what)))
    except ValueError:
        raise source.fault(f"{what} have the Python {entry['python']!r}, which is no version constraint") from None
    if platform := source.text(entry.get("platform", ""), what):
        markers.append(f"sys_platform == '{platform}'")
    found = [marker for marker in markers if marker]
    return found[0] if len(found) == 1 else " and ".join(f"({marker})" for marker in found)


def _names(source: Source, value: object, name: str) -> frozenset[str]:
    """The names in PEP 508 strings; only the names, since old locks hold strings that are not quite PEP 508."""
    found = (re.match(r"[A-Za-z0-9._-]+", text) for text in source.texts(value, f"extras of {name}"))
    return frozenset(source.name(match.group().rstrip(".-_"), f"extras of {name}") for match in found if match)


# --- Poetry's constraints --------------------------------------------------------------------------------------------


def allows(constraint: str, version: Version) -> bool:
    """Whether a constraint in Poetry's language allows a version: `^1.2`, `~1.2`, `1.*`, PEP 440 clauses, `||` as "or".

    Raises:
        ValueError: when the constraint cannot be read.
    """
    return any(alternative.contains(version, prereleases=True) for alternative in _alternatives(constraint))


@lru_cache(maxsize=4096)
def _alternatives(constraint: str) -> tuple[SpecifierSet, ...]:
    from packaging.specifiers import SpecifierSet

    return tuple(SpecifierSet(alternative) for alternative in specifiers(constraint))


def specifiers(constraint: str) -> tuple[str, ...]:
    """A constraint in Poetry's language as PEP 440 specifier sets, one of which must hold; "" allows everything.

    Raises:
        ValueError: when the constraint cannot be read.
    """
    joined = re.sub(r"([<>=!~^]+)\s+", r"\1", constraint)
    alternatives = re.split(r"\s*\|\|?\s*", joined.strip())
    clauses = ([_clause(part) for part in re.split(r"[,\s]+", each) if part] for each in alternatives)
    return tuple(",".join(filter(None, each)) for each in clauses)


def python_marker(constraint: str) -> str:
    """The marker of a constraint on Python in Poetry's language; "" where it allows every Python.

    Raises:
        ValueError: when the constraint cannot be read.
    """
    alternatives = specifiers(constraint)
    if "" in alternatives:
        return ""
    return " or ".join(" and ".join(map(_python_clause, each.split(","))) for each in alternatives)


def _python_clause(clause: str) -> str:
    operator, version = re.fullmatch(r"([<>=!~]+)(.*)", clause).groups()  # type: ignore[union-attr]
    return f"python_full_version {operator} '{version}'"


def alternatives(member: Member) -> dict[str, str]:
    """The constraints of a member's dependencies, by name, that are alternatives: no requirement of PEP 508 says them.

    What cannot be read is left out: whoever reads the member's metadata says so.
    """
    from packaging.utils import canonicalize_name

    found: dict[str, str] = {}
    poetry = _table(_table(member.pyproject, "tool"), "poetry")
    for name, value in _table(poetry, "dependencies").items():
        constraint = value.get("version") if isinstance(value, dict) else value
        if isinstance(constraint, str) and "|" in constraint:
            found[canonicalize_name(name)] = constraint
    return found


def _clause(part: str) -> str:
    """One clause of Poetry's language as PEP 440 clauses (https://python-poetry.org/docs/dependency-specification/)."""
    if part in ("*", "x", "X"):
        return ""
    if part[0] == "^" or (part[0] == "~" and part[1:2] != "="):
        return _range(part[1:], caret=part[0] == "^")
    operator, version = re.fullmatch(r"([<>=!~]*)(.*)", part).groups()  # type: ignore[union-attr]
    version = re.sub(r"\.[xX*](\.[xX*])*$", ".*", version)
    return {"": "==", "=": "=="}.get(operator, operator) + version


def _range(text: str, *, caret: bool) -> str:
    from packaging.version import Version

    release = Version(text).release
    keep = 0 if len(release) == 1 else 1  # ~1.2.3 and ~1.2 keep 1.2, ~1 keeps 1
    if caret:  # the first number that is not 0 may not change, nor what stands before it
        keep = next((index for index, number in enumerate(release) if number), len(release) - 1)
    upper = [*release[:keep], release[keep] + 1]
    return f">={text},<{'.'.join(map(str, upper))}"


# --- staleness -------------------------------------------------------------------------------------------------------

_LEGACY = ("dependencies", "source", "extras", "dev-dependencies")
_PROJECT = ("requires-python", "dependencies", "optional-dependencies")


def content_hashes(pyproject: Mapping[str, Any], lock_version: str) -> frozenset[str]:
    """The content-hashes that a lock of this pyproject may carry, by the Poetry version that made it.

    Poetry 2.3 and later hash `[project]`, `[dependency-groups]` and `[tool.poetry]`; 2.0 to 2.2 leave out the groups;
    Poetry 1, which writes lock-version 2.0, knows `[tool.poetry]` only. Source: `_get_content_hash` in Poetry's
    `poetry/packages/locker.py`.
    """
    project = {key: value for key, value in _table(pyproject, "project").items() if key in _PROJECT}
    groups = dict(_table(pyproject, "dependency-groups"))
    poetry = _table(_table(pyproject, "tool"), "poetry")
    recipes = [(project, groups), (project, {})] + ([({}, {})] if lock_version == "2.0" else [])
    return frozenset(_content_hash(*recipe, poetry) for recipe in recipes)


def _content_hash(project: Mapping[str, Any], groups: Mapping[str, Any], poetry: Mapping[str, Any]) -> str:
    import hashlib
    import json

    # With nothing outside [tool.poetry] the older layout is kept: its keys at the top, null where absent.
    older = not project and not groups
    kept = {key: poetry.get(key) for key in (*_LEGACY, "group") if key in poetry or (older and key in _LEGACY)}
    around = {key: table for key, table in (("project", project), ("dependency-groups", groups)) if table}
    content = {**around, "tool": {"poetry": kept}} if around else kept
    # default=str: dates are no part of any dependency, but must not break the comparison
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _table(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key, {})
    return value if isinstance(value, dict) else {}
