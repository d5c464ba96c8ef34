"""Whether staged wheels fit each other, and the image they are meant for.

What metadata says before a build is not all: a version may come from a tag, dependencies from a hook, a platform from
a compiler. Here the wheels themselves are asked. Knows wheels' names and METADATA (core metadata specification).
Does not know how they are made.
"""

import io
import zipfile
from collections.abc import Iterator, Mapping

from buildlib.errors import BuildlibError
from buildlib.steps.buildneeds import local_name
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
        for needed, specifier in _local_needs(data, projects, target):
            if specifier and needed in versions and not admits(specifier, versions[needed]):
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


def _local_needs(data: bytes, projects: Mapping[str, Project], target: Target) -> Iterator[tuple[str, str]]:
    """Yield name and versions of each local project that a wheel needs on `target`, extras aside."""
    for line in requires(data):
        name = local_name(line, projects)
        if name is not None and (wanted := _where_it_holds(line, target)) is not None:
            yield name, wanted


def _where_it_holds(requirement: str, target: Target) -> str | None:
    """Return the versions that a requirement asks for; None where its marker does not hold."""
    if requirement.replace("-", "").replace("_", "").replace(".", "").isalnum():
        return ""  # a bare name, as most are: nothing to parse
    from packaging.requirements import Requirement

    needed = Requirement(requirement)
    holds = needed.marker is None or marker_holds(str(needed.marker), target)
    return str(needed.specifier) if holds else None


def requires(data: bytes) -> list[str]:
    """Return the requirements (PEP 508) that the wheel with this content states."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
        head = archive.read(name).decode().replace("\r\n", "\n").partition("\n\n")[0]
    # One line each: `email`, which reads any header, takes longer to import than a stage to make.
    fields = (line.partition(":") for line in head.split("\n"))
    return [value.strip() for key, _, value in fields if key.lower() == "requires-dist"]
