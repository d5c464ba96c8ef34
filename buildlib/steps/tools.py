"""The toolchain of each project: pinned build requirements from `buildlib.lock`, resolved once where one is missing.

Knows the lock file and when it may grow. Does not know how to resolve or install (that is `toolchain/`).
"""

import os
import threading
from collections.abc import Collection, Iterable, Mapping

from buildlib.errors import BuildlibError
from buildlib.toolchain import lockfile
from buildlib.toolchain.lockfile import Pin, ToolLock
from buildlib.workspace.model import Project
from buildlib.workspace.tree import Tree

LOCK = "buildlib.lock"


class Tools:
    """The pins of build requirements.

    Args:
        tree: where `buildlib.lock` is read.
        local: names of all local projects; an index is never asked for one.
        environ: what the resolver is configured by. cache: the cache directory.
        extend: whether a missing requirement may be resolved and written down (a plan only looks).
    """

    def __init__(
        self, tree: Tree, local: Collection[str], environ: Mapping[str, str], cache: str, extend: bool
    ) -> None:
        self._local, self._environ, self._cache, self._extend = frozenset(local), environ, cache, extend
        self._guard = threading.RLock()
        self._failed: dict[tuple[str, ...], BuildlibError] = {}
        self._unreachable: BuildlibError | None = None
        self.lock: ToolLock = lockfile.parse(tree.read(LOCK)) if tree.entry(LOCK) else lockfile.parse(b"version = 1\n")

    def requires(self, project: Project) -> tuple[str, ...]:
        """Return all build requirements of `project`: declared, and asked for by its backend before."""
        return tuple(sorted({*project.build_requires, *self.lock.dynamic_for(project.name)}))

    def pins(self, project: Project) -> tuple[Pin, ...]:
        """Return the pins of the build requirements of `project`. Raises `BuildlibError` where there can be none."""
        requires = self.requires(project)
        with self._guard:
            pins = self.lock.pins(requires)
            return pins if pins is not None else self._resolved(project, requires)

    def grow(self, project: Project, requires: Iterable[str]) -> None:
        """Write down that the backend of `project` asks for `requires` as well (`get_requires_for_build_wheel`)."""
        with self._guard:
            self.lock = self.lock.with_dynamic(project.name, tuple({*self.lock.dynamic_for(project.name), *requires}))
            self._write()

    def parts(self, project: Project) -> dict[str, str]:
        """Return the toolchain of `project` as parts: the interpreter, and each pinned requirement that applies."""
        from buildlib.toolchain.environment import applicable, interpreter_identity

        found = {"tool:python": interpreter_identity().replace(" ", "-")}
        for pin in applicable(self.pins(project)):
            found[f"tool:{pin.name}"] = f"{pin.version} {' '.join(pin.hashes)}"
        return found

    def _resolved(self, project: Project, requires: tuple[str, ...]) -> tuple[Pin, ...]:
        self._refuse_local(project, requires)
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

    def _refuse_local(self, project: Project, requires: Iterable[str]) -> None:
        from packaging.requirements import InvalidRequirement, Requirement
        from packaging.utils import canonicalize_name

        for requirement in requires:
            try:
                name = canonicalize_name(Requirement(requirement).name)
            except InvalidRequirement:  # the backend asked for it: the declared ones were checked
                cause = f"its backend asks for {requirement!r}, which is no requirement"
                raise BuildlibError(
                    project.pyproject, cause, "mend the backend's get_requires_for_build_wheel"
                ) from None
            if name in self._local:
                cause = f"build-system.requires names the local project {name}, which no index may answer for"
                raise BuildlibError(project.pyproject, cause, "use backend-path, or rename one of the two")

    def _write(self) -> None:
        temporary = f".buildlib/tmp/{LOCK}"
        try:
            os.makedirs(".buildlib/tmp", exist_ok=True)
            with open(temporary, "w", encoding="utf-8", newline="\n") as file:
                file.write(lockfile.dump(self.lock))
            os.replace(temporary, LOCK)
        except OSError as error:
            cause = f"cannot be written ({error.strerror or error})"
            raise BuildlibError(LOCK, cause, "make room for it, and let it be a file that you may write") from None

    def upgrade(self, wanted: Iterable[Project]) -> list[str]:
        """Resolve all build requirements of `wanted` anew, drop what nobody needs; return what changed, a line each."""
        with self._guard:
            before = self.lock.versions()
            lock = lockfile.parse(b"version = 1\n")
            for project in wanted:
                dynamic = self.lock.dynamic_for(project.name)
                requires = self.requires(project)
                self._refuse_local(project, requires)
                lock = lock.with_dynamic(project.name, dynamic) if dynamic else lock
                if lock.pins(requires) is None:
                    chosen = lock.versions()
                    lock = lock.with_environment(requires, self._resolve(requires, chosen))
            self.lock = lock
            self._write()
            after = lock.versions()
        return [
            f"{name} {before.get(name, '(new)')} -> {after.get(name, '(removed)')}"
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
        ]


def _of_project(project: Project, error: BuildlibError) -> BuildlibError:
    """Return `error` as one of the project that asks, unless it is nobody's: no network is the same for all."""
    from buildlib.toolchain.uv import NETWORK

    return error if error.cure == NETWORK else BuildlibError(project.pyproject, error.cause, error.cure, error.detail)


LOWEST_PYTHON = "3.11"
"""The oldest Python whose teammates must get valid pins: the oldest that runs buildlib."""
