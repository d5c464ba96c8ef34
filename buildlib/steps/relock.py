"""`lock = "auto"`: a service's lock made by uv, and made anew when its dependencies change.

The lock is a `pylock.toml` (PEP 751) in the service's folder: a file to commit, like any lock. Knows what is locked and
when. Does not know how to resolve (that is `toolchain/`).
"""

from collections.abc import Callable, Mapping

from buildlib.errors import BuildlibError
from buildlib.steps.committed import write
from buildlib.steps.workshop import Facts
from buildlib.workspace import graph
from buildlib.workspace.model import Project

LOCK = "pylock.toml"

OURS = b'# Made by buildlib (lock = "auto"), and made anew when what is needed changes.\n'
"""How a lock begins that is ours to renew."""

Compile = Callable[[list[str], str, bytes | None], bytes]
"""Makes a lock of PEP 508 requirements, for a Python, that keeps to what an earlier lock has where it can."""


def relock(project: Project, facts: Facts, compiled: Compile) -> str:
    """Write the lock of a service with `lock = "auto"` where it lacks one that fits; what others wrote stays.

    Returns:
        The path that was written, relative to the root; empty if none had to be.

    Raises:
        BuildlibError: the image's Python is excluded, uv finds no solution, or the file cannot be written. What was
            there stays.
    """
    path = project.inner(LOCK)
    if not _lacks(project, facts, path):
        return ""
    local = facts.workspace.projects.keys()
    wanted = sorted({str(d) for d in graph.needs(facts.workspace, project.name) if d.name not in local})
    write(path, OURS + compiled(wanted, facts.slices.target(project).python, _previous(facts, path)))
    return path


def _lacks(project: Project, facts: Facts, path: str) -> bool:
    """Return whether `project` needs a lock and has none, or has one of ours that does not fit any more.

    A requirements.txt may be anything; one that is no lock, or an old one, is none.
    """
    lock = facts.slices.lock_path(project)
    if lock not in ("", path) and not lock.endswith("requirements.txt"):
        return False
    if not (_previous(facts, path) or OURS).startswith(OURS):
        return False
    facts.slices.check_pythons(project)  # no lock would cure that
    try:
        facts.slices.of(project)
    except BuildlibError:
        return True
    return False


def _previous(facts: Facts, path: str) -> bytes | None:
    return facts.tree.read(path) if facts.tree.entry(path) else None


def compiler(environ: Mapping[str, str], cache: str) -> Compile:
    """Return what makes locks with uv."""

    def compiled(requirements: list[str], python: str, previous: bytes | None) -> bytes:
        from buildlib.toolchain.compile import compile_lock

        return compile_lock(requirements, python, environ, previous, cache)

    return compiled
