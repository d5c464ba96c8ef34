"""Files that a build writes for people to commit: each whole or not at all.

Knows files. Does not know what is in them.
"""

import os

from buildlib.errors import BuildlibError


def write(path: str, content: bytes) -> None:
    """Put `content` at `path`, relative to the root.

    Raises:
        BuildlibError: it cannot be written; what was there stays.
    """
    temporary = f".buildlib/tmp/{os.path.basename(path)}"
    try:
        os.makedirs(".buildlib/tmp", exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError as error:
        cause = f"cannot be written ({error.strerror or error})"
        raise BuildlibError(path, cause, "make room for it, and let it be a file that you may write") from None
