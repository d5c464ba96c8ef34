"""Whether a wheel runs on a Python and a platform, by the tags in its name (PEP 425, 600).

Knows tags. Does not know where the wheel comes from, nor what is in it.
"""

import re

from buildlib.workspace.locks.base import MACHINES


def fits(wheel: str, python: str, platform: str) -> bool:
    """Return whether a wheel can be installed where an image runs.

    Args:
        wheel: its file name.
        python: `3.12`, or `3.12.4`: the tags of CPython are the same for all patch levels.
        platform: `linux/amd64`: a glibc system, whose version nobody knows; so any manylinux will do, and no musllinux.

    Raises:
        packaging.utils.InvalidWheelFilename: it is no wheel's name (PEP 427).
    """
    if wheel.endswith("-py3-none-any.whl"):
        return True  # as most are; the imports below take longer than a stage
    from packaging.tags import compatible_tags, cpython_tags
    from packaging.utils import parse_wheel_filename

    tags = parse_wheel_filename(wheel)[3]
    major, minor = (int(number) for number in python.split(".")[:2])
    interpreter = f"cp{major}{minor}"
    platforms = sorted({tag.platform for tag in tags if _runs(tag.platform, MACHINES.get(platform, platform))})
    if not platforms:
        return False  # of no platforms at all, packaging thinks of those of this machine
    native = cpython_tags((major, minor), abis=[interpreter], platforms=platforms)
    return not tags.isdisjoint({*native, *compatible_tags((major, minor), interpreter, platforms)})


def _runs(platform: str, machine: str) -> bool:
    """Return whether a platform tag is one of glibc's on `machine`, as the kernel calls it (`x86_64`), or of none."""
    return platform == "any" or bool(
        re.fullmatch(rf"(?:linux|manylinux(?:1|2010|2014|_\d+_\d+))_{re.escape(machine)}", platform)
    )
