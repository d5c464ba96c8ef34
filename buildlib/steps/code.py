"""The engine's own code as a part of what is made: other code may make other bytes.

Knows which modules make what. `tests/test_code_digest.py` holds that against the imports.
"""

import hashlib
import os

import buildlib
from buildlib.steps import verbs

MAKERS = {
    "wheel": (
        *("steps/backend.py", "steps/buildneeds.py", "steps/poetry.py", "steps/vcs.py", "steps/normalise.py"),
        *("execute/local.py", "execute/guard.py", "execute/worker.py", "execute/workers.py"),
    ),
    "requirements": ("workspace/locks/__init__.py", "workspace/locks/base.py"),
    "stage": ("steps/app.py", "steps/fit.py", "steps/tags.py", "steps/buildneeds.py"),
    "image": ("image/context.py", "image/build.py"),
}
"""The engine's own modules that make a thing, besides its verb's and those that all share (`code_of`)."""


def code_of(verb_name: str) -> tuple[str, ...]:
    """Return the engine's modules that determine what a verb makes, relative to the package."""
    shared = ("steps/publish.py", "steps/run.py", "execute/action.py", "execute/hook.py", "execute/stage.py")
    return (f"steps/{verb_name}.py", *MAKERS.get(verb_name, ()), *shared)


def digests() -> dict[str, str]:
    """Return a digest of the engine's own code for each verb: what was made by other code is made again."""
    package = os.path.dirname(buildlib.__file__)
    found = {}
    for v in verbs():
        digest = hashlib.sha256()
        for name in code_of(v.VERB):
            with open(os.path.join(package, name), "rb") as file:
                digest.update(file.read())
        found[v.VERB] = digest.hexdigest()[:16]
    return found
