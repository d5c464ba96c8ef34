"""Which of a package's files fits a target: the tags of wheels (PEP 425, PEP 600), the versions in file names.

Knows file names. Does not know locks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from buildlib.workspace.locks.base import MACHINES, Target

if TYPE_CHECKING:
    from packaging.tags import Tag

_GLIBC = 28  # glibc 2.28, the oldest that Debian, RHEL and their Python images of today have; uv assumes the same
_OLDER = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


def best(wheels: Sequence[str], target: Target) -> str:
    """The file name of the wheel that an installer takes on the target; "" where none fits."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    order = _tags(target)
    ranked = []
    for name in wheels:
        try:
            fitting = [order[tag] for tag in parse_wheel_filename(name)[3] if tag in order]
        except InvalidWheelFilename:
            continue
        ranked += [(min(fitting), name)] if fitting else []
    return min(ranked)[1] if ranked else ""


def name_and_version(file: str) -> tuple[str, str]:
    """The normalised name and the version in the name of a wheel or sdist; "" and "" where it is neither."""
    from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

    try:
        if file.endswith(".whl"):
            name, version, *_ = parse_wheel_filename(file)
        else:
            name, version = parse_sdist_filename(file)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return "", ""
    return name, str(version)


@lru_cache(maxsize=64)
def _tags(target: Target) -> dict[Tag, int]:
    """The tags that fit, with their rank, the best one first."""
    from packaging.tags import compatible_tags, cpython_tags

    major, minor = map(int, target.python.split(".")[:2])
    platforms = list(_platforms(MACHINES[target.platform]))
    tags = [*cpython_tags((major, minor), platforms=platforms)]
    tags += compatible_tags((major, minor), f"cp{major}{minor}", platforms)
    return {tag: rank for rank, tag in reversed(list(enumerate(tags)))}


def _platforms(machine: str) -> Iterator[str]:
    for minor in range(_GLIBC, 4, -1):
        yield f"manylinux_2_{minor}_{machine}"
        if minor in _OLDER:
            yield f"{_OLDER[minor]}_{machine}"
    yield f"linux_{machine}"
