"""A lock that only lists packages: what pylock.toml and a hashed requirements.txt have in common.

Such a file says neither what it was made from nor who needs which package: all of it is for whoever it belongs to, and
its freshness is judged by meaning: every requirement of a project, and of each library in its closure, is met by an
entry whose marker holds. Knows entries. Does not know a format, a file system, a tool or an index.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from buildlib.errors import BuildlibError
from buildlib.workspace.locks import files
from buildlib.workspace.locks.base import (
    Member,
    Pin,
    Source,
    Target,
    inside,
    mentions_extra,
    requirement,
    said,
    sole_versions,
    target_pythons,
)
from buildlib.workspace.locks.poetry import allows, alternatives

if TYPE_CHECKING:
    from packaging.requirements import Requirement


@dataclass(frozen=True)
class Entry:
    """One package of a list.

    Attributes:
        name: normalised; "" for a local project that is named by its directory. version: "" where nothing says it.
        marker: under which it is for a target; "" for all.
        pin: what is installed; None for a local project, and where the file depends on the target.
        choices: then the files by name, one of which is installed.
        wheels: the names of its wheels where it has no sdist: one must fit the target.
        extras: as the list says them; most tools leave them out.
        fault: why it cannot be pinned; said only where it is needed.
    """

    name: str
    version: str = ""
    marker: str = ""
    pin: Pin | None = None
    choices: tuple[tuple[str, Pin], ...] = ()
    wheels: tuple[str, ...] = ()
    extras: frozenset[str] = frozenset()
    is_local: bool = False
    fault: BuildlibError | None = None

    def meets(self, needed: Requirement, constraint: str) -> bool:
        """Whether it is what a requirement asks for; `constraint` is Poetry's, where PEP 440 does not say it."""
        from packaging.version import InvalidVersion, Version

        if self.is_local or not self.version or (self.pin is not None and self.pin.direct):
            return True
        try:
            version = Version(self.version)
            if constraint and not allows(constraint, version):
                return False
        except (InvalidVersion, ValueError):
            return True  # its own fault is said where it is pinned
        return needed.specifier.contains(version, prereleases=True)


@dataclass(frozen=True)
class ListedLock:
    """A parsed list; see `Lock`.

    Attributes:
        owner: the name of the one project it is for (`pylock.NAME.toml`); "" for whoever it fits.
        pythons: the specifier of the Pythons it is locked for; "" for any.
        environments: markers, one of which must hold; none: any environment.
        groups: the dependency groups that are installed by default (PEP 751).
        fault: what stops the whole file from being a lock; said when it is needed.
    """

    kind: str
    source: Source
    entries: Mapping[str, tuple[Entry, ...]]
    owner: str = ""
    pythons: str = ""
    environments: tuple[str, ...] = ()
    groups: frozenset[str] = frozenset()
    fault: BuildlibError | None = None
    is_list: bool = True

    @property
    def path(self) -> str:
        return self.source.path

    def knows(self, member: Member) -> bool:
        """See `Lock.knows`: it belongs to the project in whose folder it lies, and to those below that it serves."""
        if self.owner:
            return self.owner in (member.name, _folder(member))
        if self._is_of(member):
            return True
        has_all = member.needs is None or member.needs <= self.entries.keys()
        return has_all and bool(member.requires) and self._lacks(member, None) == ""

    def requires(self, name: str) -> tuple[str, ...] | None:
        """See `Lock.requires`: a list does not say."""
        del name
        return None

    def slice(self, member: Member, target: Target) -> tuple[Pin, ...]:
        """See `Lock.slice`: all of the list that is for the target; nothing for a member that needs nothing."""
        if member.needs is not None and not member.needs:
            return ()
        if self.fault is not None:
            raise self.fault
        self._check_target(target)
        chosen = [entry for entries in self.entries.values() for entry in entries if self._holds(entry, target)]
        pins = sole_versions(self.source, filter(None, (self._pin(entry, member, target) for entry in chosen)))
        lost = sorted((member.needs or frozenset()) - {pin.name for pin in pins})
        if lost:
            raise self._stale(member, f"{lost[0]} is not in it")
        return pins

    def check(self, member: Member, target: Target | None = None) -> None:
        """See `Lock.check`: each requirement is met by an entry; a local project in it has its version."""
        for entry in self.entries.get(member.name, ()):
            if entry.is_local:
                self.source.same_version(member, entry.version)
        if self.fault is None and (lacks := self._lacks(member, target)):
            raise self._unlike_a_lock() or self._stale(member, lacks)

    def _unlike_a_lock(self) -> BuildlibError | None:
        """What is wrong with an entry: then somebody wrote the list by hand, and its age is not the matter."""
        return next((each.fault for every in self.entries.values() for each in every if each.fault), None)

    def _is_of(self, member: Member) -> bool:
        return inside(self.source.directory, ".") == inside(member.path, ".")

    def _stale(self, member: Member, how: str) -> BuildlibError:
        return self.source.fault(f"it is older than {member.place}: {how}")

    def _lacks(self, member: Member, target: Target | None) -> str:
        """The first requirement of the member that is not met, said for people; "" for none."""
        constraints = alternatives(member) if said(member) else {}
        for text in member.requires if said(member) or member.needs is None else ():
            needed = requirement(member, text)
            name, marker = self.source.name(needed.name, "a dependency"), str(needed.marker or "")
            if name in member.local or mentions_extra(marker):
                continue
            if target is not None and not self.source.holds(marker, target):
                continue
            found = [entry for entry in self.entries.get(name, ()) if target is None or self._holds(entry, target)]
            certain = target is not None or not marker
            if certain and not any(entry.meets(needed, constraints.get(name, "")) for entry in found):
                return f"{needed} is not in it" + (f", which has {name} {found[0].version}" if found else "")
            if missing := self._missing_extras(needed, found):
                return f"{name}[{missing}] is not in it"
        return ""

    def _missing_extras(self, needed: Requirement, found: list[Entry]) -> str:
        """Extras that a list which names extras does not have of a package; most lists leave all of them out."""
        from packaging.utils import canonicalize_name

        if not found or not any(entry.extras for entries in self.entries.values() for entry in entries):
            return ""
        wanted = {canonicalize_name(extra) for extra in needed.extras}
        return ",".join(sorted(wanted - {extra for entry in found for extra in entry.extras}))

    def _holds(self, entry: Entry, target: Target) -> bool:
        return self._true(entry.marker, target)

    def _true(self, marker: str, target: Target) -> bool:
        try:
            return not marker or _marker_holds(marker, target, self.groups)
        except ValueError as error:  # every exception of packaging.markers is one
            cause = f"the marker {marker!r} cannot be evaluated ({str(error).splitlines()[0]})"
            raise self.source.fault(cause) from None

    def _check_target(self, target: Target) -> None:
        from packaging.specifiers import SpecifierSet

        allowed = SpecifierSet(self.pythons)
        pythons = (python for python in target_pythons(target) if allowed.contains(python, prereleases=True))
        self.source.covers(pythons, target, self.pythons)
        if self.environments and not any(self._true(each, target) for each in self.environments):
            cause = f"none of its environments is Python {target.python} on {target.platform}"
            raise self.source.fault(cause, f"add that environment and run `{self.source.relock}`")

    def _pin(self, entry: Entry, member: Member, target: Target) -> Pin | None:
        if entry.is_local:
            if entry.name and entry.name not in member.local and entry.name != member.name:
                raise entry.fault or self.source.no_project(entry.name, entry.name)
            return None
        if entry.name in member.local:
            raise self.source.confused(entry.name, entry.version)
        if entry.fault is not None:
            raise entry.fault
        if entry.wheels and not files.best(entry.wheels, target):
            raise self._no_wheel(entry, target)
        return self.source.pin(entry.pin or self._chosen(entry, target), f"run `{self.source.relock}`")

    def _chosen(self, entry: Entry, target: Target) -> Pin:
        """The file that an installer takes on the target: the best wheel, else the sdist."""
        pins = dict(entry.choices)
        others = [name for name in pins if not name.endswith(".whl")]
        name = files.best([*pins], target) or (others[0] if others else "")
        if not name:
            raise self._no_wheel(entry, target)
        return pins[name]

    def _no_wheel(self, entry: Entry, target: Target) -> BuildlibError:
        where = f"Python {target.python} on {target.platform}"
        cause = f"{entry.name} {entry.version} has neither a wheel for {where} nor an sdist"
        return self.source.fault(cause, f"change [tool.buildlib.image], or run `{self.source.relock}` for {where}")


def by_name(entries: Iterable[Entry]) -> dict[str, tuple[Entry, ...]]:
    """The entries of a list by their names."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.name, []).append(entry)
    return {name: tuple(each) for name, each in found.items()}


def said_command(data: bytes, command: str) -> str:
    """The command that a list says it was made by (uv's and pip-compile's first comment lines), else `command`.

    It is quoted anew: what is pasted at a prompt is that one command, whatever the file says.
    """
    import re
    import shlex

    head = data[:2000].decode("utf-8", "replace")
    tools = "uv pip compile|uv export|pip-compile|pdm lock|pdm export|pip lock"
    found = re.search(rf"^#[ \t]+((?:{tools}) [^\n]*)$", head, re.MULTILINE)
    try:
        words = shlex.split(found[1]) if found and found[1].isprintable() else []
    except ValueError:
        words = []
    return shlex.join(words) if words and "-" not in words else command  # what came from stdin is not to be had again


def _folder(member: Member) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(posixpath.basename(member.path))


@lru_cache(maxsize=8192)
def _marker_holds(marker: str, target: Target, groups: frozenset[str]) -> bool:
    from packaging.markers import Marker

    environment: dict[str, str | frozenset[str]] = {**target.environment(), "extra": "", "dependency_groups": groups}
    return Marker(marker).evaluate(environment, context="lock_file")
