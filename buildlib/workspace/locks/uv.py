"""Reader of uv.lock, version 1 (https://docs.astral.sh/uv/concepts/projects/layout/#the-lockfile).

Knows how uv writes a resolution: packages, edges with markers and extras, forks, conflicts, what each member required.
Does not know uv itself, the file system or other formats. Revisions of version 1 only add keys, by uv's own rule.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from buildlib.errors import BuildlibError
from buildlib.workspace.locks.base import (
    Member,
    Pin,
    Source,
    Target,
    Wanted,
    command_in,
    difference,
    in_default_index,
    inside,
    mentions_extra,
    read_toml,
    requirement,
    said,
    same_pythons,
    sole_versions,
    target_pythons,
    wish,
)
from buildlib.workspace.locks.poetry import alternatives

FILE = "uv.lock"
COMMAND = "uv lock"
_LOCAL = ("editable", "virtual", "directory")
_SOURCES = (*_LOCAL, "registry", "url", "path", "git")


@dataclass(frozen=True)
class _Edge:
    name: str
    version: str  # "" where the lock has one version only
    origin: tuple[str, str] | None
    marker: str
    extras: tuple[str, ...]


@dataclass(frozen=True)
class _Package:
    name: str
    version: str  # "" for a local project with a dynamic version
    origin: tuple[str, str]  # kind of source, value
    subdirectory: str
    forks: tuple[str, ...]
    edges: Mapping[str, tuple[_Edge, ...]]  # extra -> edges; "" are the main ones
    hashes: tuple[str, ...]
    metadata: Mapping[str, Any]

    @property
    def is_local(self) -> bool:
        return self.origin[0] in _LOCAL


@dataclass(frozen=True)
class UvLock:
    """A parsed uv.lock; see `Lock`."""

    source: Source
    packages: Mapping[str, tuple[_Package, ...]]
    requires_python: str
    members: frozenset[str]  # of the uv workspace; empty for a single project
    conflicts: frozenset[tuple[str, str]]  # (package, extra), extra "" for the package itself
    kind: str = field(default=FILE, init=False)
    is_list: bool = field(default=False, init=False)

    @property
    def path(self) -> str:
        return self.source.path

    def knows(self, member: Member) -> bool:
        """See `Lock.knows`."""
        return any(package.is_local for package in self.packages.get(member.name, ()))

    def slice(self, member: Member, target: Target) -> tuple[Pin, ...]:
        """See `Lock.slice`: the graph is walked from the member along the edges whose markers hold.

        Where the member itself is one side of a conflict (two services that never meet), uv's markers name it by the
        extra `project-LENGTH-NAME`. Any other side that is needed is refused: two such extras could hold at once.
        """
        self._check_python(target)
        reached: dict[int, _Package] = {}
        visited: set[tuple[int, str]] = set()
        waiting = [(self._of_member(member), "")]
        side = f"project-{len(member.name)}-{member.name}" if (member.name, "") in self.conflicts else ""
        while waiting:
            package, extra = waiting.pop()
            if (id(package), extra) in visited:
                continue
            visited.add((id(package), extra))
            reached[id(package)] = package
            self._refuse_conflict(package.name, extra, member)
            for edge in package.edges.get(extra, ()):
                for each in edge.extras:  # before the marker, which names the conflicting extra itself
                    self._refuse_conflict(edge.name, each, member)
                if self.source.holds(edge.marker, target, side):
                    found = self._find(edge, target)
                    waiting += [(found, each) for each in ("", *edge.extras)]
        return sole_versions(self.source, filter(None, (self._pin(package, member) for package in reached.values())))

    def check(self, member: Member, target: Target | None = None) -> None:
        """See `Lock.check`: requirements, optional ones, groups and requires-python against what the lock stored."""
        del target
        package = self._of_member(member)
        is_member = package.name in self.members or package.origin[1] == "."
        for what, declared, locked in _compared(self.source, member, package, is_member):
            found = difference(declared, locked)
            if found:
                raise self._stale(member, f"{what}{found}")
        python = _project(member).get("requires-python", "")
        if is_member and len(self.members) <= 1 and isinstance(python, str) and not self._same_python(member, python):
            raise self._stale(member, f"it is locked for Python {self.requires_python or 'any'}")
        self.source.same_version(member, package.version)

    def requires(self, name: str) -> tuple[str, ...] | None:
        """See `Lock.requires`: the `requires-dist` of a local project."""
        for package in self.packages.get(name, ()):
            if package.is_local and ("requires-dist" in package.metadata or not any(package.edges.values())):
                what = f"requires-dist of {name}"
                entries = self.source.tables(package.metadata.get("requires-dist", []), what)
                return tuple(_pep508(self.source, entry, what) for entry in entries)
        return None

    def _stale(self, member: Member, how: str) -> BuildlibError:
        return self.source.fault(f"it is older than {member.place}: {how}")

    def _same_python(self, member: Member, python: str) -> bool:
        from packaging.specifiers import InvalidSpecifier

        try:
            return not python or same_pythons(python, self.requires_python)
        except InvalidSpecifier:
            cause = f"requires-python is {python!r}"
            raise BuildlibError(member.place, cause, 'write a specifier like ">=3.11"') from None

    def _check_python(self, target: Target) -> None:
        from packaging.specifiers import SpecifierSet

        allowed = SpecifierSet(self.requires_python)
        pythons = (python for python in target_pythons(target) if allowed.contains(python, prereleases=True))
        self.source.covers(pythons, target, self.requires_python)

    def _of_member(self, member: Member) -> _Package:
        found = [package for package in self.packages.get(member.name, ()) if package.is_local]
        if not found:
            cure = f"make it a member of that uv workspace and run `{self.source.relock}`"
            if inside(self.source.directory, ".") == inside(member.path, "."):
                cure = f"run `{self.source.relock}`"
            elif not self.members:
                cure = f"give it a lock of its own: `{command_in(member.path, COMMAND)}`"
            raise self.source.fault(f"{member.name} is not in it", cure)
        return found[0]

    def _find(self, edge: _Edge, target: Target) -> _Package:
        found: list[_Package] = []
        for package in self.packages.get(edge.name, ()):
            if edge.version in ("", package.version) and edge.origin in (None, package.origin):
                found.append(package)
        if len(found) > 1:  # an edge that names no version means the one of the target's fork
            found = [each for each in found if any(self.source.holds(fork, target) for fork in each.forks)]
        if len(found) != 1:
            many = "several times" if found else "not at all"
            raise self.source.fault(f"{edge.name} {edge.version} is needed and is {many} in it".replace("  ", " "))
        return found[0]

    def _refuse_conflict(self, name: str, extra: str, member: Member) -> None:
        if (name, extra) in self.conflicts and (name, extra) != (member.name, ""):
            label = f"{name}[{extra}]" if extra else name
            raise self.source.fault(
                f"{label} is needed here and is one side of a conflict declared in [tool.uv] conflicts",
                "such a slice is not supported: depend on neither side, or give this project a lock of its own",
            )

    def _pin(self, package: _Package, member: Member) -> Pin | None:
        kind, value = package.origin
        if package.is_local:
            if package.name not in member.local and package.name != member.name:
                raise self.source.no_project(package.name, value)
            return None
        if package.name in member.local:
            raise self.source.confused(package.name, package.version)
        if kind == "git":
            raise self.source.not_from_git(package.name)
        if kind == "registry":
            pin = Pin(package.name, package.version, package.hashes, "" if in_default_index(value) else value)
        else:
            where = self.source.file(package.name, value) if kind == "path" else value
            where += f"#subdirectory={package.subdirectory}" if package.subdirectory else ""
            pin = Pin(package.name, package.version, package.hashes, where, direct=True)
        return self.source.pin(pin, f"use an index that gives hashes, then run `{self.source.relock}`")


def parse(path: str, data: bytes) -> UvLock:
    """A lock from the bytes of the file at `path` (relative to the workspace root).

    Raises:
        BuildlibError: for bad TOML, an unknown version, or values of a wrong shape.
    """
    source = Source(path, COMMAND)
    document = read_toml(source, data)
    version = document.get("version")
    if version != 1 or isinstance(version, bool):
        cause = "it has no version" if version is None else f"its version is {version!r}, this reads version 1"
        raise source.fault(cause, f"run `{source.relock}` with a uv that writes version 1")
    packages: dict[str, list[_Package]] = {}
    for table in source.tables(document.get("package", []), "package"):
        package = _package(source, table)
        packages.setdefault(package.name, []).append(package)
    members = source.table(document.get("manifest", {}), "manifest").get("members", [])
    return UvLock(
        source,
        {name: tuple(found) for name, found in packages.items()},
        _specifier(source, document.get("requires-python", ""), "requires-python"),
        frozenset(source.name(member, "manifest.members") for member in source.array(members, "manifest.members")),
        _conflicts(source, document.get("conflicts", [])),
    )


def _conflicts(source: Source, value: object) -> frozenset[tuple[str, str]]:
    """Sides of conflicts that main dependencies can reach: extras and whole packages (groups never are)."""
    sides = [side for conflict in source.array(value, "conflicts") for side in source.tables(conflict, "conflicts")]
    return frozenset(
        (source.name(side.get("package"), "conflicts.package"), _extra(source, side.get("extra", "")))
        for side in sides
        if "group" not in side
    )


def _extra(source: Source, value: object) -> str:
    return source.name(value, "an extra") if value else ""


def _package(source: Source, table: dict[str, Any]) -> _Package:
    name = source.name(table.get("name"), "the name of a package")
    optional = source.table(table.get("optional-dependencies", {}), f"optional-dependencies of {name}")
    edges = {"": _edges(source, table.get("dependencies", []), f"dependencies of {name}")}
    for extra, values in optional.items():
        edges[_extra(source, extra)] = _edges(source, values, f"optional-dependencies of {name}")
    where = source.table(table.get("source"), f"source of {name}")
    return _Package(
        name,
        source.text(table.get("version", ""), f"version of {name}"),
        _origin(source, where, name),
        source.text(where.get("subdirectory", ""), f"source of {name}"),
        source.texts(table.get("resolution-markers", []), f"resolution-markers of {name}"),
        edges,
        _hashes(source, table, name),
        source.table(table.get("metadata", {}), f"metadata of {name}"),
    )


def _edges(source: Source, value: object, what: str) -> tuple[_Edge, ...]:
    return tuple(
        _Edge(
            source.name(table.get("name"), what),
            source.text(table.get("version", ""), what),
            _origin(source, source.table(table["source"], what), what) if "source" in table else None,
            source.text(table.get("marker", ""), what),
            tuple(source.name(extra, what) for extra in source.array(table.get("extra", []), what)),
        )
        for table in source.tables(value, what)
    )


def _origin(source: Source, table: dict[str, Any], name: str) -> tuple[str, str]:
    for kind in _SOURCES:
        if kind in table:
            return kind, source.text(table[kind], f"source of {name}")
    raise source.fault(f"{name} comes from a kind of source that is not known ({', '.join(table) or 'none'})")


def _hashes(source: Source, table: dict[str, Any], name: str) -> tuple[str, ...]:
    files = source.tables(table.get("wheels", []), f"wheels of {name}")
    if "sdist" in table:
        files = [*files, source.table(table["sdist"], f"sdist of {name}")]
    return tuple(sorted({source.text(file["hash"], f"a hash of {name}") for file in files if "hash" in file}))


def _specifier(source: Source, value: object, what: str) -> str:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    text = source.text(value, what)
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        raise source.fault(f"{what} is no version specifier: {text!r}") from None
    return text


# --- staleness -------------------------------------------------------------------------------------------------------


def _project(member: Member) -> Mapping[str, Any]:
    project = member.pyproject.get("project", {})
    return project if isinstance(project, dict) else {}


def _dynamic(member: Member) -> list[Any]:
    dynamic = _project(member).get("dynamic", [])
    return dynamic if isinstance(dynamic, list) else []


def _compared(source: Source, member: Member, package: _Package, is_member: bool) -> list[tuple[str, Wanted, Wanted]]:
    """Pairs (label, declared, locked) that must mean the same."""
    dist = source.tables(package.metadata.get("requires-dist", []), f"requires-dist of {package.name}")
    direct = {source.name(entry.get("name"), "requires-dist") for entry in dist if _is_direct(entry)}
    direct |= (vague := alternatives(member).keys())
    optional = _optional(member)
    declared: Wanted = {}
    for text in (*member.requires, *(optional or ())):
        _declare(declared, member, text, direct)
    what = f"requires-dist of {package.name}"
    locked = _locked(source, dist, with_extras=optional is not None, what=what, vague=vague)
    compared = [("", declared, locked)] if said(member) else []
    groups = _groups(member)
    if is_member and groups is not None:
        dev = source.table(package.metadata.get("requires-dev", {}), f"requires-dev of {package.name}")
        stored = {
            source.name(group, "a group"): source.tables(entries, "requires-dev") for group, entries in dev.items()
        }
        compared += [
            _compared_group(source, member, group, groups.get(group, ()), stored.get(group, []))
            for group in sorted(groups.keys() | stored.keys())
        ]
    return compared


def _compared_group(
    source: Source, member: Member, group: str, texts: tuple[str, ...], entries: list[dict[str, Any]]
) -> tuple[str, Wanted, Wanted]:
    direct = {source.name(entry.get("name"), "requires-dev") for entry in entries if _is_direct(entry)}
    wanted: Wanted = {}
    for text in texts:
        _declare(wanted, member, text, direct)
    return f"group {group}: ", wanted, _locked(source, entries, with_extras=True, what="requires-dev")


def _is_direct(entry: Mapping[str, Any]) -> bool:
    """Whether uv dropped the specifier because a source replaces the index."""
    return any(kind in entry for kind in (*_LOCAL, "path", "url", "git"))


def _pep508(source: Source, entry: dict[str, Any], what: str) -> str:
    """An entry of requires-dist as PEP 508 has it; a project or file of the workspace by its name alone."""
    extras = ",".join(source.texts(entry.get("extras", []), what))
    text = source.name(entry.get("name"), what) + (f"[{extras}]" if extras else "")
    if "url" in entry or "git" in entry:
        kind = "url" if "url" in entry else "git"
        text += f" @ {'git+' if kind == 'git' else ''}{source.text(entry[kind], what)} "  # PEP 508 wants the space
    elif not _is_direct(entry):
        text += _specifier(source, entry.get("specifier", ""), what)
    marker = source.text(entry.get("marker", ""), what)
    return f"{text}; {marker}" if marker else text.strip()


def _declare(wanted: Wanted, member: Member, text: str, direct: set[str]) -> None:
    from packaging.utils import canonicalize_name

    needed = requirement(member, text)
    specifier = "" if canonicalize_name(needed.name) in direct else str(needed.specifier)
    wish(wanted, needed.name, needed.extras, specifier, str(needed.marker) if needed.marker else "")


def _locked(
    source: Source, entries: list[dict[str, Any]], *, with_extras: bool, what: str, vague: Collection[str] = ()
) -> Wanted:
    """What the lock stored, of `vague` names without their specifiers."""
    locked: Wanted = {}
    for entry in entries:
        marker = source.text(entry.get("marker", ""), what)
        source.holds(marker, Target("3.12", "linux/amd64"))  # says so when the marker cannot be read
        if with_extras or not mentions_extra(marker):
            specifier = _specifier(source, entry.get("specifier", ""), what)
            extras, name = source.texts(entry.get("extras", []), what), source.name(entry.get("name"), what)
            wish(locked, name, extras, "" if _is_direct(entry) or name in vague else specifier, marker)
    return locked


def _optional(member: Member) -> tuple[str, ...] | None:
    """The optional dependencies as PEP 508 strings with their extra; None where pyproject alone does not say them."""
    project = _project(member)
    table = project.get("optional-dependencies", {})
    if not project or "optional-dependencies" in _dynamic(member) or not isinstance(table, dict):
        return None
    return tuple(
        _with_extra(member, text, extra) for extra, texts in table.items() if isinstance(texts, list) for text in texts
    )


def _with_extra(member: Member, text: object, extra: str) -> str:
    from packaging.markers import Marker
    from packaging.requirements import Requirement
    from packaging.utils import InvalidName, canonicalize_name

    needed = Requirement(str(requirement(member, text if isinstance(text, str) else repr(text))))
    try:
        condition = f"extra == '{canonicalize_name(extra, validate=True)}'"
    except InvalidName:
        raise BuildlibError(member.place, f"the extra {extra!r} has no valid name", "rename it") from None
    needed.marker = Marker(f"({needed.marker}) and {condition}" if needed.marker else condition)
    return str(needed)


def _groups(member: Member) -> dict[str, tuple[str, ...]] | None:
    """The dependency groups (PEP 735, and uv's older dev-dependencies), includes resolved.

    None where `[tool.uv] dependency-groups` narrows their markers.
    """
    from packaging.utils import canonicalize_name

    tool = member.pyproject.get("tool", {})
    ours = tool.get("uv", {}) if isinstance(tool, dict) else {}
    table = member.pyproject.get("dependency-groups", {})
    if not isinstance(table, dict) or not isinstance(ours, dict) or "dependency-groups" in ours:
        return None
    raw: dict[str, list[Any]] = {
        canonicalize_name(name): entries for name, entries in table.items() if isinstance(entries, list)
    }
    groups = {name: _expanded(raw, name, ()) for name in raw}
    older = ours.get("dev-dependencies", [])
    if isinstance(older, list) and older:
        groups["dev"] = (*groups.get("dev", ()), *(text for text in older if isinstance(text, str)))
    return groups


def _expanded(groups: Mapping[str, list[Any]], name: str, above: tuple[str, ...]) -> tuple[str, ...]:
    """The requirements of a group and of those it includes; a cycle, which uv refuses to lock, ends."""
    from packaging.utils import canonicalize_name

    found: list[str] = []
    for entry in groups.get(name, ()) if name not in above else ():
        if isinstance(entry, str):
            found.append(entry)
        elif isinstance(entry, dict) and isinstance(entry.get("include-group"), str):
            found += _expanded(groups, canonicalize_name(entry["include-group"]), (*above, name))
    return tuple(found)
