"""Whether staged wheels fit each other, and the image they are meant for.

What metadata says before a build is not all: a version may come from a tag, dependencies from a hook, a platform from
a compiler. Here the wheels themselves are asked. Knows wheels' names and METADATA (core metadata specification).
Does not know how they are made.
"""

import io
import zipfile
from collections.abc import Collection, Iterator, Mapping

from buildlib.errors import BuildlibError
from buildlib.workspace.graph import admits
from buildlib.workspace.locks import Target
from buildlib.workspace.locks.base import marker_holds
from buildlib.workspace.model import Project


def check(wheels: Mapping[str, tuple[str, bytes]], projects: Mapping[str, Project], target: Target) -> None:
    """Return if the wheels can be installed together, beside nothing else of this workspace, on `target`.

    Args:
        wheels: by project name: file name and content.
        projects: all of the workspace.

    Raises:
        BuildlibError: one is for another platform; one wants a project that is not among them, or another version.
    """
    from buildlib.steps.tags import fits

    versions = {name: _version(file) for name, (file, _) in wheels.items()}
    for name, (file, data) in wheels.items():
        if not fits(file, target.python, target.platform):
            raise _unfit(projects[name], file, target)
        for needed, specifier in _local_needs(data, projects.keys(), target):
            if needed in versions and not admits(specifier, versions[needed]):
                cause = (
                    f"its wheel wants {needed}{specifier}, but {projects[needed].pyproject} built {versions[needed]}"
                )
                raise BuildlibError(projects[name].pyproject, cause, "change one of the two")
            if needed not in versions and projects[needed].package:
                raise _unstaged(projects[name], needed)


def _unfit(project: Project, file: str, target: Target) -> BuildlibError:
    cause = f"its wheel {file} does not run on Python {target.python} on {target.platform}"
    cure = "let [tool.buildlib.image] python and platforms name what it is built on, or build it there"
    return BuildlibError(project.pyproject, cause, cure)


def _unstaged(project: Project, needed: str) -> BuildlibError:
    cause = f"its wheel needs {needed}, which neither its pyproject.toml nor its lock says"
    return BuildlibError(project.pyproject, cause, f"add {needed} to its dependencies, or renew the lock")


def _version(file: str) -> str:
    return file.split("-")[1]


def _local_needs(data: bytes, local: Collection[str], target: Target) -> Iterator[tuple[str, str]]:
    """Yield name and versions of each local project that a wheel needs on `target`, extras aside."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    for line in requires(data):
        needed = Requirement(line)
        name = canonicalize_name(needed.name)
        if name in local and (needed.marker is None or marker_holds(str(needed.marker), target)):
            yield name, str(needed.specifier)


def requires(data: bytes) -> list[str]:
    """Return the requirements (PEP 508) that the wheel with this content states."""
    from email.parser import BytesParser

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
        message = BytesParser().parsebytes(archive.read(name), headersonly=True)
    return [str(value) for value in message.get_all("Requires-Dist", [])]
