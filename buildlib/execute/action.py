"""An action: how a thing is made, as data.

Knows what an action is, what its key is and which environment every action starts from. Does not know who runs it:
a warm worker, a subprocess and a remote executor take the very same value. So nothing in it is a path of one machine;
what only the executor can know is written as a placeholder (see `Action`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from buildlib.errors import BuildlibError

KEY_VERSION = 1  # raised whenever the serialisation below, or what an executor does with an action, changes

# What every action of ours starts from; an executor inherits nothing from the person who types the command.
BASE_ENVIRONMENT: tuple[tuple[str, str], ...] = (
    # setuptools appends CPPFLAGS to the interpreter's own flags, but lets CFLAGS replace them (and with them -O3).
    # `-g` would otherwise write the room's path into every C extension.
    ("CPPFLAGS", "-ffile-prefix-map={root}=."),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("LANG", "C.UTF-8"),
    ("LC_ALL", "C.UTF-8"),
    ("PATH", "{bin}:/usr/local/bin:/usr/bin:/bin"),
    ("PYTHONDONTWRITEBYTECODE", "1"),
    ("PYTHONHASHSEED", "0"),
    ("PYTHONNOUSERSITE", "1"),
    ("PYTHONUNBUFFERED", "1"),
    ("SOURCE_DATE_EPOCH", "315532800"),  # 1980-01-01, the first day a zip file can express
    ("TZ", "UTC"),
)


@dataclass(frozen=True, order=True)
class InputFile:
    """A file of the input root: POSIX path relative to that root, and the bytes it must have."""

    path: str
    sha256: str
    size: int
    executable: bool


@dataclass(frozen=True, order=True)
class InputLink:
    """A symbolic link of the input root; `target` as readlink gives it, relative, and inside the input root."""

    path: str
    target: str


@dataclass(frozen=True)
class Action:
    """How one thing is made.

    Placeholders, in `argv` and in the values of `environment`, are replaced by the executor: `{NAME}` for each tool it
    is given (`{python}`; `{bin}` is the tool environment's PATH entry) and `{root}` for the place of the input root.

    Attributes:
        argv: the command.
        files, links: the input root; nothing else is visible there.
        environment: sorted and complete: nothing is inherited. An executor adds HOME, TMPDIR and
            GIT_CEILING_DIRECTORIES, which name places of its own.
        directory: working directory relative to the input root ("" is the root itself).
        outputs: paths relative to the input root; with a trailing "/" a directory, whose files are all collected.
        toolchain: sorted (name, identity) of what makes the outputs but is no input file.
        warm: no code of the project runs, so a warm worker may run it. Not part of the key: the bytes are the same.
    """

    argv: tuple[str, ...]
    files: tuple[InputFile, ...]
    links: tuple[InputLink, ...]
    environment: tuple[tuple[str, str], ...]
    directory: str
    outputs: tuple[str, ...]
    toolchain: tuple[tuple[str, str], ...]
    warm: bool = False

    @property
    def key(self) -> str:
        """SHA-256 (hex) of everything that determines the outputs; the order of files, links and outputs does not."""
        value = {
            "version": KEY_VERSION,
            "argv": self.argv,
            "files": sorted((file.path, file.sha256, file.size, file.executable) for file in self.files),
            "links": sorted((link.path, link.target) for link in self.links),
            "environment": sorted(self.environment),
            "directory": self.directory,
            "outputs": sorted(self.outputs),
            "toolchain": sorted(self.toolchain),
        }
        # ASCII escapes keep a name that is no valid UTF-8 (a lone surrogate) serialisable.
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True)
class OutputFile:
    """A file that an action made; `path` relative to the input root."""

    path: str
    sha256: str
    size: int
    executable: bool


@dataclass(frozen=True)
class Result:
    """What a successful run left: its outputs (sorted by path), its stdout and stderr as one text, its wall time."""

    outputs: tuple[OutputFile, ...]
    log: str
    seconds: float


class InvalidAction(BuildlibError):
    """An action that no executor may run: it names a path outside its input root."""


class InputChanged(BuildlibError):
    """An input's bytes are not the declared ones any more: it was edited, or removed, while we read."""


class ActionFailed(BuildlibError):
    """The command failed, was killed, or did not make what it declared; `detail` is its log."""


class MissingRequires(BuildlibError):
    """The backend asks for more requirements than its environment was made for (PEP 517, get_requires_for_build_wheel).

    Attributes:
        requires: all the requirement strings it returned that are not among the known ones.
    """

    def __init__(self, place: str, requires: tuple[str, ...], detail: str = "") -> None:
        self.requires = requires
        wanted = ", ".join(requires)
        super().__init__(place, f"the build needs {wanted}", "add it to build-system.requires", detail)
