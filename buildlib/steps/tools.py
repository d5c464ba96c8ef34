"""The toolchain of each project: pinned build requirements from `buildlib.lock`, resolved once where one is missing,
and the repository that a backend may take a version from.

Knows the lock file and when it may grow. Does not know how to resolve or install (that is `toolchain/`).
"""

import os
import threading
from collections.abc import Iterable, Mapping
from functools import cached_property

from buildlib.errors import BuildlibError
from buildlib.steps.buildneeds import BuildNeeds, build_needs, check_acyclic, local_name
from buildlib.steps.committed import write
from buildlib.steps.vcs import ASKING, Repository, find_repository
from buildlib.toolchain import lockfile
from buildlib.toolchain.lockfile import Pin, ToolLock
from buildlib.workspace.metadata import parse_toml
from buildlib.workspace.model import Project
from buildlib.workspace.tree import Tree

LOCK = "buildlib.lock"


class Tools:
    """The pins of build requirements.

    Args:
        tree: where `buildlib.lock` is read.
        projects: all local projects by name; an index is never asked for one.
        environ: what the resolver is configured by. cache: the cache directory.
        extend: whether a missing requirement may be resolved and written down (a plan only looks).
        lock: instead of the one in the tree: then nothing is written before `save`.
    """

    def __init__(
        self,
        tree: Tree,
        projects: Mapping[str, Project],
        environ: Mapping[str, str],
        cache: str,
        extend: bool,
        lock: ToolLock | None = None,
    ) -> None:
        self._tree, self._projects, self._environ = tree, projects, environ
        self._cache, self._extend = cache, extend
        self._guard = threading.RLock()
        self._failed: dict[tuple[str, ...], BuildlibError] = {}
        self._unreachable: BuildlibError | None = None
        self._collects = lock is not None
        self._before = lockfile.parse(tree.read(LOCK)) if tree.entry(LOCK) else ToolLock()
        self.lock: ToolLock = self._before if lock is None else lock

    def collecting(self, anew: bool) -> "Tools":
        """Return tools that resolve what is missing, and keep it to themselves until `save`.

        Args:
            anew: whether everything is missing, so that all of it moves to its newest release.
        """
        lock = ToolLock() if anew else self.lock
        return Tools(self._tree, self._projects, self._environ, self._cache, extend=True, lock=lock)

    def save(self, keep: Iterable[Project]) -> list[str]:
        """Write what was collected; return what changed, a line a package.

        Args:
            keep: projects of which what was locked before stays, for want of anything newer.
        """
        with self._guard:
            for project in keep:
                dynamic = self._before.dynamic_for(project.name)
                requires = build_needs({*project.build_requires, *dynamic}, self._projects).third_party
                pins = self._before.pins(requires)
                if pins and self.lock.pins(requires) is None:
                    self.lock = self.lock.with_environment(requires, pins).with_dynamic(project.name, dynamic)
            if self.lock != self._before or self._tree.entry(LOCK) is None:
                self._store()
            return _changes(self._before.versions(), self.lock.versions())

    def requires(self, project: Project) -> tuple[str, ...]:
        """Return all build requirements of `project`: declared, and asked for by its backend before."""
        return tuple(sorted({*project.build_requires, *self.lock.dynamic_for(project.name)}))

    def local(self, project: Project) -> tuple[str, ...]:
        """Return the names of the local projects whose wheels the build of `project` runs with, sorted.

        Raises:
            BuildlibError: it would need itself, or one that is no package.
        """
        local = self._needs(project).local
        if local:
            check_acyclic(project, self.requires, self._projects)
        for name in local:
            if self._projects[name].package is False:
                cause = f"its build needs {name}, which is no package"
                raise BuildlibError(project.pyproject, cause, f"let {self._projects[name].pyproject} be one")
        return local

    def _needs(self, project: Project) -> BuildNeeds:
        return build_needs(self.requires(project), self._projects)

    def pins(self, project: Project) -> tuple[Pin, ...]:
        """Return the pins of what the build of `project` needs, those that its local build requirements need included.

        Raises:
            BuildlibError: there can be none.
        """
        requires = self._needs(project).third_party
        with self._guard:
            pins = self.lock.pins(requires)
            return pins if pins is not None else self._resolved(project, requires)

    def grow(self, project: Project, requires: Iterable[str]) -> None:
        """Write down that the backend of `project` asks for `requires` as well (`get_requires_for_build_wheel`).

        Raises:
            BuildlibError: one is no requirement, or is a local project that is not declared, and so was not built yet.
        """
        requires = tuple(requires)
        _check_valid(project, requires)
        declared = {local_name(text, self._projects) for text in project.build_requires}
        for text in requires:
            name = local_name(text, self._projects)
            if name not in {*declared, None}:
                cause = f"its backend asks for the local project {name}, which is not built before it"
                raise BuildlibError(project.pyproject, cause, f"add {name} to build-system.requires")
        with self._guard:
            self.lock = self.lock.with_dynamic(project.name, tuple({*self.lock.dynamic_for(project.name), *requires}))
            self._write()

    def parts(self, project: Project) -> dict[str, str]:
        """Return the toolchain of `project` as parts: the interpreter, each pinned requirement that applies, and what
        of git its version comes from."""
        from buildlib.toolchain.environment import applicable, interpreter_identity

        found = {"tool:python": interpreter_identity().replace(" ", "-")}
        for pin in applicable(self.pins(project)):
            found[f"tool:{pin.name}"] = f"{pin.version} {' '.join(pin.hashes)}"
        if self.asks_git(project) and self.repository is not None:
            self._tree.watch(self.repository.watched)
            found |= self.repository.parts
        return found

    def asks_git(self, project: Project) -> bool:
        """Return whether something in the build of `project` may ask git for a version."""
        if project.backend.startswith("pdm.") and _is_pdm_scm(project, self._tree):
            return True
        return any(pin.name in ASKING for pin in self.pins(project))

    @cached_property
    def repository(self) -> Repository | None:
        """Return the git repository around the workspace; None where there is none."""
        return find_repository(os.getcwd())

    def _resolved(self, project: Project, requires: tuple[str, ...]) -> tuple[Pin, ...]:
        if not self._extend:
            raise BuildlibError(
                project.pyproject, "its build requirements are not in buildlib.lock yet", "a build adds them"
            )
        if requires in self._failed:
            raise _of_project(project, self._failed[requires])
        try:
            pins = self._resolve(requires, self.lock.versions())
        except BuildlibError as error:
            self._failed[requires] = error
            raise _of_project(project, error) from None
        self.lock = self.lock.with_environment(requires, pins)
        self._write()
        return pins

    def _resolve(self, requires: tuple[str, ...], prefer: Mapping[str, str]) -> tuple[Pin, ...]:
        """Resolve; once no index could be reached, only with what is in the cache: nobody waits for it twice."""
        from buildlib.toolchain.resolve import resolve
        from buildlib.toolchain.uv import NETWORK

        environ = {**self._environ, "UV_OFFLINE": "1"} if self._unreachable else self._environ
        try:
            return resolve(requires, LOWEST_PYTHON, environ, prefer, self._cache)
        except BuildlibError as error:
            if error.cure == NETWORK and self._unreachable is None:
                self._unreachable = error
            raise self._unreachable or error from None

    def _write(self) -> None:
        if not self._collects:
            self._store()

    def _store(self) -> None:
        write(LOCK, lockfile.dump(self.lock).encode())


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return [
        f"{name} {before.get(name, '(new)')} -> {after.get(name, '(removed)')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _is_pdm_scm(project: Project, tree: Tree) -> bool:
    """Return whether pdm-backend takes the version from git (`[tool.pdm.version] source = "scm"`)."""
    table: object = parse_toml(project.pyproject, tree.read(project.pyproject))
    for key in ("tool", "pdm", "version", "source"):
        table = table.get(key) if isinstance(table, Mapping) else None
    return table == "scm"


def _check_valid(project: Project, requires: Iterable[str]) -> None:
    from packaging.requirements import InvalidRequirement, Requirement

    for requirement in requires:
        try:
            Requirement(requirement)
        except InvalidRequirement:
            cause = f"its backend asks for {requirement!r}, which is no requirement"
            raise BuildlibError(project.pyproject, cause, "mend the backend's get_requires_for_build_wheel") from None


def _of_project(project: Project, error: BuildlibError) -> BuildlibError:
    """Return `error` as one of the project that asks, unless it is nobody's: no network is the same for all."""
    from buildlib.toolchain.uv import NETWORK

    return error if error.cure == NETWORK else BuildlibError(project.pyproject, error.cause, error.cure, error.detail)


LOWEST_PYTHON = "3.11"
"""The oldest Python whose teammates must get valid pins: the oldest that runs buildlib."""
