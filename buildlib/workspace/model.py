"""The words of a workspace as frozen values: projects, their dependencies, and what is wrong with them.

Knows no files: everything here was read elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from buildlib.errors import BuildlibError
from buildlib.workspace.config import ProjectConfig, RootConfig


@dataclass(frozen=True)
class Problem:
    """An error kept as data: it stops the steps that need what is wrong, and no others."""

    place: str
    cause: str
    cure: str

    @classmethod
    def of(cls, error: BuildlibError) -> "Problem":
        """Keep `error` for later."""
        return cls(error.place, error.cause, error.cure)

    def error(self) -> BuildlibError:
        """Return the error to raise."""
        return BuildlibError(self.place, self.cause, self.cure)


@dataclass(frozen=True)
class Dependency:
    """A requirement of a project by its PEP 503 name: extras asked for, the marker under which it holds, versions, and
    where it is to be had, if that is no index (PEP 508)."""

    name: str
    extras: tuple[str, ...] = ()
    marker: str = ""
    specifier: str = ""
    url: str = ""

    def __str__(self) -> str:
        """Return it as PEP 508 writes it."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        what = f" @ {self.url}" if self.url else self.specifier
        return f"{self.name}{extras}{what}" + (f" ; {self.marker}" if self.marker else "")


@dataclass(frozen=True)
class Project:
    """A directory with a `pyproject.toml` (PEP 517, 518, 621, or Poetry's tables).

    Attributes:
        name: PEP 503 normalised; path: directory relative to the root; kind: `library` or `service`.
        package: whether a wheel is made of it; None until `graph.checked` decided where nothing says so.
        version: as the metadata says it; empty where only the build knows. dynamic: what `[project]` leaves to the
            backend (PEP 621: `version`, `dependencies`, …).
        backend, backend_path, build_requires: `[build-system]`, with PEP 518's default where it is absent.
        requires_python: a PEP 440 specifier; where Poetry's has alternatives, those, with ` || ` between them.
        requires: main dependencies as PEP 508 strings (of Poetry's tables: names, extras and markers).
        dependencies, optional: the same as values, main and by extra.
        declared_paths: the directory (relative to the root) of each path dependency, those of development groups too.
        members: names that uv is told to look for in its own workspace.
        outside: files that the metadata names and that lie outside the project's folder.
    """

    name: str
    path: str
    kind: str
    package: bool | None = True
    version: str = ""
    dynamic: frozenset[str] = frozenset()
    requires_python: str = ""
    backend: str = "setuptools.build_meta:__legacy__"
    backend_path: tuple[str, ...] = ()
    build_requires: tuple[str, ...] = ("setuptools>=40.8.0",)
    requires: tuple[str, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    optional: Mapping[str, tuple[Dependency, ...]] = field(default_factory=dict)
    declared_paths: Mapping[str, str] = field(default_factory=dict)
    members: frozenset[str] = frozenset()
    outside: tuple[str, ...] = ()
    warm: bool = False
    config: ProjectConfig = field(default_factory=ProjectConfig)
    problem: Problem | None = None

    @property
    def pyproject(self) -> str:
        """Return the path of its `pyproject.toml`, relative to the root."""
        return self.inner("pyproject.toml")

    def inner(self, name: str) -> str:
        """Return the path, relative to the root, of what is `name` in the project's folder (which may be the root)."""
        return f"{self.path}/{name}" if self.path else name


@dataclass(frozen=True)
class Workspace:
    """All projects of a repository by name, its configuration, and the paths whose change may change what is here.

    Attributes:
        looked: every path that reading depended on besides the projects' own files (configuration, globs' directories).
        problems: what is skipped though it looks like a project (a template), and why.
        is_uvs: whether uv manages it (`[tool.uv.workspace]`): then uv's rule says what is a package.
    """

    config: RootConfig
    projects: Mapping[str, Project]
    looked: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    is_uvs: bool = False

    @property
    def paths(self) -> frozenset[str]:
        """Return the directories of all projects."""
        return frozenset(p.path for p in self.projects.values())
