"""What all lock formats share: the target, the pin, the member, reading TOML safely, markers, comparing requirements.

Knows PEP 508 markers and the shape of data. Does not know a format, a file system, a tool that writes locks, or an
index. packaging and tomli are imported where they are used: runs that have nothing to do import this module too.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from buildlib.errors import BuildlibError

if TYPE_CHECKING:
    from packaging.markers import Marker
    from packaging.requirements import Requirement
    from packaging.version import Version

DEFAULT_INDEX = "https://pypi.org/simple"  # the index that pip and every lock format mean when nothing is said
MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}  # OCI os/arch -> what `uname -m` says there
_PYTHON = re.compile(r"\d+\.\d+(\.\d+)?")
_HASH = re.compile(r"(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})")  # what pip's hash mode takes
_EXTRA = re.compile(r"\bextra\b")


@dataclass(frozen=True)
class Target:
    """What the image will run: a Python ("3.12" or "3.12.4") on a platform ("linux/amd64", "linux/arm64").

    Raises:
        BuildlibError: for a Python or a platform that is not of that form.
    """

    python: str
    platform: str

    def __post_init__(self) -> None:
        if not _PYTHON.fullmatch(self.python):
            cause = f"{self.python!r} is no Python version"
            raise BuildlibError("[tool.buildlib.image] python", cause, 'write "3.12" or "3.12.4"')
        if self.platform not in MACHINES:
            cause = f"{self.platform!r} is not supported"
            raise BuildlibError("[tool.buildlib.image] platforms", cause, f"use one of {', '.join(MACHINES)}")

    @property
    def full_python(self) -> str:
        """The version with three numbers: "3.12" means "3.12.0", so that no machine's own patch level matters."""
        return self.python if self.python.count(".") == 2 else self.python + ".0"

    def environment(self) -> dict[str, str]:
        """The PEP 508 marker environment of CPython there; the same on every machine.

        `platform_release` and `platform_version` describe a running kernel, which a build cannot know: "0" and "".
        """
        return {
            "implementation_name": "cpython",
            "implementation_version": self.full_python,
            "os_name": "posix",
            "platform_machine": MACHINES[self.platform],
            "platform_python_implementation": "CPython",
            "platform_release": "0",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.full_python,
            "python_version": self.python if self.python.count(".") == 1 else self.python.rpartition(".")[0],
            "sys_platform": "linux",
        }


@dataclass(frozen=True)
class Pin:
    """One third-party package, exact.

    Attributes:
        name: normalised (PEP 503).
        hashes: `sha256:…` (or sha384, sha512) of every file that may be installed, sorted, never empty.
        version: as the lock says it; of a direct pin "" where it says none.
        source: "" for the default index; the URL of another index, or of several with spaces between, in the lock's
            order; `https://…` of a file (then `direct` is true); `file:PATH` of a file in the workspace, PATH relative
            to its root (also direct).
        direct: whether `source` is the file itself rather than an index.
    """

    name: str
    version: str
    hashes: tuple[str, ...]
    source: str = ""
    direct: bool = False


@dataclass(frozen=True)
class Member:
    """One project of the workspace as its pyproject says it.

    Attributes:
        name: normalised (PEP 503).
        path: its directory, relative to the workspace root; "" or "." for the root.
        requires: PEP 508 strings of its main dependencies, from `[project]` or Poetry's table.
        local: normalised names of all projects of the workspace: never third-party, never pinned.
        pyproject: its parsed pyproject.toml.
        needs: normalised names of all third-party packages that it and its local closure need on the target; None where
            nobody worked them out. A format that only lists packages cannot tell by itself.
    """

    name: str
    path: str
    requires: tuple[str, ...]
    local: frozenset[str]
    pyproject: Mapping[str, Any]
    needs: frozenset[str] | None = None

    @property
    def place(self) -> str:
        """Its pyproject.toml, relative to the workspace root."""
        return inside(self.path, "pyproject.toml")


class Lock(Protocol):
    """A parsed lock, used for many projects: what a format's reader returns."""

    @property
    def kind(self) -> str:
        """The format, by its file name."""

    @property
    def path(self) -> str:
        """The file, relative to the workspace root."""

    def knows(self, member: Member) -> bool:
        """Whether the lock was made for the member or has it as a local project; one further up may be for others."""

    def slice(self, member: Member, target: Target) -> tuple[Pin, ...]:
        """The third-party packages of the member's main dependencies on the target, transitively, sorted by name.

        Raises:
            BuildlibError: when the lock does not cover the member or the target, or cannot pin something with a hash.
        """

    @property
    def is_list(self) -> bool:
        """Whether it only lists packages: then it is for whole closures, and `check` answers for every project."""

    def requires(self, name: str) -> tuple[str, ...] | None:
        """The PEP 508 strings that the local project `name` declares, by the lock; those of extras have their marker.

        None where the lock does not say. In place of `[project] dependencies` that are `dynamic`.
        """

    def check(self, member: Member, target: Target | None = None) -> None:
        """Return when the lock was made from what the member's pyproject says now.

        The member may be any project that the lock knows: a service, or a local library in its closure; for a list,
        any project in the closure of the one whose lock it is. A list is judged for the target; without one, as far as
        can be said for all.

        Raises:
            BuildlibError: when the lock is stale, with the command that renews it.
        """


def inside(directory: str, name: str) -> str:
    """A normalised POSIX path, relative to the workspace root."""
    return posixpath.normpath(posixpath.join(directory, name))


def command_in(directory: str, command: str) -> str:
    """A command line to paste at the workspace root.

    >>> command_in("services/web", "uv lock")
    'cd services/web && uv lock'
    """
    import shlex

    return command if directory in ("", ".") else f"cd {shlex.quote(directory)} && {command}"


@dataclass(frozen=True)
class Source:
    """A lock file while it is read: says where a fault is and what cures it; takes values only in their right shape."""

    path: str
    command: str

    @property
    def directory(self) -> str:
        return posixpath.dirname(self.path)

    @property
    def relock(self) -> str:
        return command_in(self.directory, self.command)

    def fault(self, cause: str, cure: str = "") -> BuildlibError:
        return BuildlibError(self.path, cause, cure or f"run `{self.relock}`")

    def table(self, value: object, what: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.fault(f"{what} is not a table")
        return value

    def array(self, value: object, what: str) -> list[Any]:
        if not isinstance(value, list):
            raise self.fault(f"{what} is not an array")
        return value

    def tables(self, value: object, what: str) -> list[dict[str, Any]]:
        return [self.table(item, what) for item in self.array(value, what)]

    def text(self, value: object, what: str) -> str:
        if not isinstance(value, str):
            raise self.fault(f"{what} is missing" if value is None else f"{what} is not a string")
        return value

    def texts(self, value: object, what: str) -> tuple[str, ...]:
        return tuple(self.text(item, what) for item in self.array(value, what))

    def name(self, value: object, what: str) -> str:
        """A project name, normalised (PEP 503)."""
        from packaging.utils import InvalidName, canonicalize_name

        try:
            return canonicalize_name(self.text(value, what), validate=True)
        except InvalidName:
            raise self.fault(f"{what} is no project name: {value!r}") from None

    def holds(self, marker: str, target: Target, extra: str = "") -> bool:
        """Whether a marker ("" holds always) is true on the target with that extra."""
        if not marker:
            return True
        try:
            return marker_holds(marker, target, extra)
        except ValueError as error:  # every exception of packaging.markers is one
            raise self.fault(f"the marker {marker!r} cannot be evaluated ({_first_line(error)})") from None

    def covers(self, allowed: Iterable[Version], target: Target, locked_for: str) -> None:
        """Raise unless one of the target's Python versions is allowed: elsewhere the lock's markers mean nothing."""
        if not list(allowed):
            cause = f"it is locked for Python {locked_for}, the image runs {target.python}"
            raise self.fault(cause, f"change [tool.buildlib.image] python, or requires-python and run `{self.relock}`")

    def pin(self, pin: Pin, no_hash: str) -> Pin:
        """The pin, once all that it writes into a requirements file is of the right form."""
        if not pin.hashes:
            raise self.fault(f"{pin.name} {pin.version} has no hash", no_hash)
        wrong = _wrong_in(pin)
        if wrong:
            raise self.fault(wrong)
        return pin

    def same_version(self, member: Member, version: str) -> None:
        """Raise when the version that a lock has of a local project ("" for none) is not the one of its pyproject."""
        declared = static_version(member)
        if declared and version and not _is_same_version(declared, version):
            raise self.fault(f"it has {member.name} {version}, whose version is {declared}")

    def not_from_git(self, name: str) -> BuildlibError:
        return self.fault(
            f"{name} comes from git, which has no hash",
            f"depend on a release of it from an index or on an archive by URL, then run `{self.relock}`",
        )

    def confused(self, name: str, version: str) -> BuildlibError:
        return self.fault(
            f"{name} is a project of this workspace, but the lock pins {version} from outside (dependency confusion)",
            f"declare it as a local dependency, then run `{self.relock}`",
        )

    def no_project(self, name: str, directory: str) -> BuildlibError:
        where = inside(self.directory, directory)
        return self.fault(
            f"{name} is the directory {where}, which is no project of this workspace",
            "add it to libs in [tool.buildlib], or depend on a release of it",
        )

    def file(self, name: str, path: str) -> str:
        """The source of a pin that is a file, `file:PATH`; the lock says its path relative to itself."""
        where = inside(self.directory, path)
        if posixpath.isabs(where) or where.startswith("../"):
            raise self.fault(f"{name} is the file {where}, outside the workspace", "move it into the workspace")
        return f"file:{where}"


def sole_versions(source: Source, pins: Iterable[Pin]) -> tuple[Pin, ...]:
    """The pins sorted by name; two versions of one package on one target are a fault of the lock."""
    found: dict[str, Pin] = {}
    for pin in pins:
        other = found.setdefault(pin.name, pin)
        if other != pin:
            raise source.fault(f"two of {pin.name} are locked for one target: {other.version} and {pin.version}")
    return tuple(found[name] for name in sorted(found))


def read_toml(source: Source, data: bytes) -> dict[str, Any]:
    """The document of a lock file.

    Raises:
        BuildlibError: for what is no UTF-8, no TOML, or an unfinished merge.
    """
    import tomli

    cure = f"restore it from version control, or delete it and run `{source.relock}`"
    if b"\n<<<<<<< " in data or data.startswith(b"<<<<<<< "):
        raise source.fault("it holds the conflict markers of a merge", f"take either side, then run `{source.relock}`")
    try:
        return tomli.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise source.fault(f"it is not UTF-8 (byte {error.start})", cure) from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError; absurd numbers raise plain ones
        raise source.fault(f"it is no valid TOML ({_first_line(error)})", cure) from None


def in_default_index(url: str) -> bool:
    """Whether a URL is the index that needs no mention."""
    return url.rstrip("/") == DEFAULT_INDEX


def requirement(member: Member, text: str) -> Requirement:
    """A PEP 508 requirement of a member.

    Raises:
        BuildlibError: when it is none, or its marker compares what cannot be compared.
    """
    try:
        return _requirement(text)
    except ValueError as error:  # every exception of packaging is one
        cause = f"the dependency {text!r} is no PEP 508 requirement ({_first_line(error)})"
        raise BuildlibError(member.place, cause, "correct it") from None


def said(member: Member) -> bool:
    """Whether its pyproject says what it depends on; else only the build backend could."""
    project = member.pyproject.get("project", {})
    if not isinstance(project, dict) or "dependencies" not in _dynamic(project):
        return True
    tool = member.pyproject.get("tool", {})
    poetry = tool.get("poetry", {}) if isinstance(tool, dict) else {}
    return isinstance(poetry, dict) and "dependencies" in poetry  # Poetry's way of saying more than `[project]` can


def _dynamic(project: Mapping[str, Any]) -> list[Any]:
    dynamic = project.get("dynamic", [])
    return dynamic if isinstance(dynamic, list) else []


def static_version(member: Member) -> str:
    """The version in its pyproject; "" where the build works it out."""
    project, tool = (member.pyproject.get(key, {}) for key in ("project", "tool"))
    if not isinstance(project, dict) or not isinstance(tool, dict) or "version" in _dynamic(project):
        return ""
    poetry = tool.get("poetry", {})
    if "poetry-dynamic-versioning" in tool or not isinstance(poetry, dict):  # replaces what stands there
        return ""
    version = project.get("version", poetry.get("version", ""))
    return version if isinstance(version, str) else ""


def _is_same_version(one: str, other: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def target_pythons(target: Target) -> list[Version]:
    """The Python versions that the target may be: one if it names a patch level, else the first and a last of its line.

    Both ends, because a lock for `>=3.12.3` fits an image of 3.12, which has a later patch level in fact.
    """
    from packaging.version import Version

    full = [target.full_python] if target.python.count(".") == 2 else [target.full_python, target.python + ".999"]
    return [Version(python) for python in full]


# --- what is locked against what is declared: by meaning, since each tool writes markers and specifiers its own way ---

Wanted = dict[tuple[str, frozenset[str], str], list[str]]  # (name, extras, specifier) -> markers, any of which may hold


def wish(wanted: Wanted, name: str, extras: Iterable[str], specifier: str, marker: str) -> None:
    """Add one requirement to a collection that `difference` compares."""
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name

    # Specifiers compare by meaning of each clause (1.0 == 1.0.0) but print differently: the key has trailing zeros cut.
    clauses = sorted(_clause(str(clause)) for clause in SpecifierSet(specifier))
    key = (canonicalize_name(name), frozenset(canonicalize_name(extra) for extra in extras), ",".join(clauses))
    wanted.setdefault(key, []).append(marker)


def difference(declared: Wanted, locked: Wanted) -> str:
    """The first requirement in which the two sides differ, said for people; "" when both mean the same."""
    for key in sorted(declared, key=_order):
        if key not in locked:
            return f"{_label(key)} is not in it"
        if not same_marker(any_of(declared[key]), any_of(locked[key])):
            return f"{_label(key)} has another marker in it"
    gone = sorted(locked.keys() - declared.keys(), key=_order)
    return f"it still has {_label(gone[0])}" if gone else ""


def mentions_extra(marker: str) -> bool:
    """Whether a marker looks at extras: its requirement is optional."""
    return bool(_EXTRA.search(marker))


@lru_cache(maxsize=4096)
def same_marker(one: str, other: str) -> bool:
    """Whether two markers agree in a grid of environments that includes every value they name ("" holds always)."""
    if one == other:
        return True
    return all(_in_environment(one, each) == _in_environment(other, each) for each in _environments(one + " " + other))


def same_pythons(one: str, other: str) -> bool:
    """Whether two requires-python specifiers allow the same Pythons: 3.0 to 3.30, 4.0, and all that they name."""
    from packaging.specifiers import SpecifierSet

    named = re.findall(r"\d+(?:\.\d+)+", one + " " + other)
    grid = [f"3.{minor}.{patch}" for minor in range(31) for patch in (0, 5)] + ["4.0", *named]
    return all(
        SpecifierSet(one).contains(python, prereleases=True) == SpecifierSet(other).contains(python, prereleases=True)
        for python in grid
    )


def _order(key: tuple[str, frozenset[str], str]) -> tuple[str, list[str], str]:
    return key[0], sorted(key[1]), key[2]


def _label(key: tuple[str, frozenset[str], str]) -> str:
    name, extras, specifier = key
    return name + (f"[{','.join(sorted(extras))}]" if extras else "") + specifier


def any_of(markers: list[str]) -> str:
    """The marker that holds where one of them does ("" holds always)."""
    return "" if "" in markers else " or ".join(f"({marker})" for marker in markers)


def _clause(clause: str) -> str:
    from packaging.utils import canonicalize_version

    operator, version = re.fullmatch(r"([<>=!~]+)(.*)", clause).groups()  # type: ignore[union-attr]
    if operator in ("~=", "===") or version.endswith(".*"):
        return operator + version.strip()
    return operator + canonicalize_version(version)


def _environments(text: str) -> list[dict[str, str]]:
    """Environments in which the markers in `text` could differ."""
    named = re.findall(r"""['"]([^'"]*)['"]""", text)
    pythons = [f"3.{minor}.{patch}" for minor in range(8, 16) for patch in (0, 5)]
    pythons += [value if value.count(".") == 2 else value + ".0" for value in named if _PYTHON.fullmatch(value)]
    places = [("linux", "Linux", "posix", "x86_64"), ("linux", "Linux", "posix", "aarch64")]
    places += [("darwin", "Darwin", "posix", "arm64"), ("win32", "Windows", "nt", "AMD64")]
    places += [(value, value, value, value) for value in named if value and not _PYTHON.fullmatch(value)]
    extras = ["", *named] if mentions_extra(text) else [""]
    return [
        _environment(python, place, implementation, extra)
        for python in dict.fromkeys(pythons)
        for place in dict.fromkeys(places)
        for implementation in ("CPython", "PyPy")
        for extra in dict.fromkeys(extras)
    ]


def _environment(python: str, place: tuple[str, str, str, str], implementation: str, extra: str) -> dict[str, str]:
    return {
        "implementation_name": implementation.lower(),
        "implementation_version": python,
        "os_name": place[2],
        "platform_machine": place[3],
        "platform_python_implementation": implementation,
        "platform_release": "0",
        "platform_system": place[1],
        "platform_version": "",
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": place[0],
        "extra": extra,
    }


def _in_environment(marker: str, environment: dict[str, str]) -> bool:
    return not marker or _marker(marker).evaluate(environment)


@lru_cache(maxsize=8192)
def marker_holds(marker: str, target: Target, extra: str = "") -> bool:
    """Whether a PEP 508 marker is true on the target. Raises `ValueError` (of packaging) where it cannot be said."""
    return _marker(marker).evaluate({**target.environment(), "extra": extra})


@lru_cache(maxsize=16384)
def _wrong_in(pin: Pin) -> str:
    """What of a pin must not get into a requirements file; "" for nothing."""
    from packaging.version import InvalidVersion, Version

    try:
        if pin.version or not pin.direct:
            Version(pin.version)
    except InvalidVersion:
        return f"the version of {pin.name} is {pin.version!r}"
    for value in pin.hashes:
        if not _HASH.fullmatch(value):
            return f"{pin.name} {pin.version} has a hash that is none: {value!r}"
    if not pin.source.isprintable() or (pin.direct and " " in pin.source):
        return f"{pin.name} {pin.version} comes from {pin.source!r}, which is no URL"
    return ""


@lru_cache(maxsize=4096)
def _marker(text: str) -> Marker:
    from packaging.markers import Marker

    return Marker(text)


@lru_cache(maxsize=4096)
def _requirement(text: str) -> Requirement:
    from packaging.requirements import Requirement

    needed = Requirement(text)
    if needed.marker:
        needed.marker.evaluate({**Target("3.12", "linux/amd64").environment(), "extra": ""})
    return needed


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
