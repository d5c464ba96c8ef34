"""A `pylock.toml` (PEP 751) for requirements without a lock: one call of `uv pip compile`, its errors said in one line.

It holds for every platform and for Pythons from a lower bound on (`--universal`). Knows no project: who asks has taken
the names of local projects out, and says where the lock goes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from buildlib.errors import BuildlibError
from buildlib.toolchain.uv import NETWORK, REQUIRES, failure, run

PLACE = "pylock.toml"
NAME = "pylock.toml"  # uv tells the format by it, too
DECLARED = "change the requirement in the pyproject.toml that has it"
OPTIONS = ("--universal", "--generate-hashes", "--format", "pylock.toml", "--no-header", "--no-annotate", "--quiet")


def compile_lock(
    requirements: Sequence[str], python: str, environ: Mapping[str, str], previous: bytes | None, cache: str
) -> bytes:
    """The bytes of a `pylock.toml`: the same for the same requirements, pins and index, on every machine.

    Args:
        requirements: PEP 508 strings; none of them names a local project.
        python: the oldest Python that the pins serve, as `3.11`.
        environ: the user's environment (see `uv.run`): credentials, proxies, the index.
        previous: the lock as it was: its pins are kept where they fit. One that cannot be read is as none.
        cache: the cache directory; empty: where uv has its own.

    Raises:
        BuildlibError: no uv, no network, no versions that fit together, a requirement that is none.
    """
    import tempfile

    wanted = sorted({_normal(text) for text in requirements})
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = os.path.join(folder, "requirements.in"), os.path.join(folder, NAME)
        with open(asked, "w", encoding="utf-8") as file:
            file.writelines(f"{text}\n" for text in wanted)
        if previous is not None and _is_lock(previous):
            with open(answer, "wb") as output:  # uv prefers what its output file already pins
                output.write(previous)
        argv = [
            "pip",
            "compile",
            asked,
            "--output-file",
            answer,
            "--python-version",
            python,
            "--python",
            sys.executable,
        ]
        outcome = run([*argv, *OPTIONS], environ, cache, folders=False)  # a lock names no folder of this machine
        if outcome.code:
            raise _said(failure(PLACE, outcome))
        with open(answer, "rb") as lock:
            return lock.read()


def _normal(text: str) -> str:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return str(Requirement(text))
    except InvalidRequirement:
        raise BuildlibError(PLACE, f"{text!r} is no requirement (PEP 508)", DECLARED) from None


def _is_lock(data: bytes) -> bool:
    import tomli

    try:
        return str(tomli.loads(data.decode()).get("lock-version", "")).startswith("1.")
    except ValueError:
        return False


def _said(error: BuildlibError) -> BuildlibError:
    """What uv said, in words of the requirements of a project instead of those of a build system."""
    cause = error.cause.replace("the build requirement ", "")
    cure = error.cure.replace("in the [build-system] table that asks for it", "where it is required")
    cure = DECLARED if error.cure == REQUIRES else cure
    return BuildlibError(error.place, cause, cure, error.detail if error.cure != NETWORK else "")
