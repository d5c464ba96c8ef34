"""The one door to the `uv` binary: which environment it gets, how it is run and ended, how its errors are said.

uv reads no configuration file here: what it is told is in its arguments and environment, so that a `uv.toml` beside the
sources cannot change what is locked. Knows no lock, no environment directory, no doit.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from buildlib.errors import BuildlibError
from buildlib.toolchain.sources import no_index, sources

# How packages are reached, and by whom. Everything else of UV_* (constraints, prereleases, another Python, …) would
# make the same requirements mean other pins on another machine.
REACH = (
    *("UV_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_OFFLINE", "UV_EXCLUDE_NEWER"),
    *("UV_KEYRING_PROVIDER", "UV_CREDENTIALS_DIR", "UV_AUTH_", "UV_INSECURE_HOST", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS"),
    *("UV_HTTP_", "UV_REQUEST_", "UV_CONCURRENT_", "UV_LINK_MODE"),
)

# What would point uv, or the backend of an sdist that it builds, at another Python or repository.
DROPPED = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "GIT_DIR", "GIT_WORK_TREE", "RUST_LOG")

# Tries again after a failed connection, 3.5 s in all; uv's own 3 take 7 s, which is long to be told of no network.
RETRIES = "2"

# uv in a process group of its own that ends when our end of a pipe does: a killed build cannot tell its children.
# The subshell reads until then and takes the whole group along, with a backend that uv may have started. A shell tells
# of the guard's end on stderr, where uv's errors are read.
GUARD = """exec 3<&0 </dev/null
"$@" 3<&- & child=$!
{ read -r line <&3; kill -9 0; } >/dev/null 2>&1 & guard=$!
exec 3<&-
wait $child; code=$?
{ kill $guard; wait $guard; } 2>/dev/null
exit $code"""


@dataclass(frozen=True)
class Outcome:
    """What a run of uv ended with: its exit code and what it said."""

    code: int
    stdout: str
    stderr: str


def run(arguments: Sequence[str], environ: Mapping[str, str], cache: str, folders: bool = True) -> Outcome:
    """Run `uv ARGUMENTS` to its end; it ends with us, however we end.

    Args:
        arguments: the subcommand and its arguments.
        environ: the user's environment: credentials, proxies and CA settings are passed on, in uv's or pip's words.
        cache: the cache directory; uv's own is `uv` in there. Empty: where uv has it.
        folders: whether folders of this machine that pip is told about are sources, too.

    Raises:
        BuildlibError: there is no uv.
    """
    import subprocess

    argv = [_find_uv(), *arguments, "--no-config", "--color", "never", "--no-progress", "--no-python-downloads"]
    argv += ["--no-index"] if arguments[0] == "pip" and no_index(environ) else []  # has no variable
    ours, theirs = _pipe()
    try:
        child = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "uv", *argv],
            env=environment(environ, cache, folders),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        os.close(theirs)
        stdout, stderr = child.communicate()
    finally:
        os.close(ours)
    return Outcome(child.returncode, stdout.decode(errors="replace"), _without_secrets(stderr.decode(errors="replace")))


def environment(environ: Mapping[str, str], cache: str, folders: bool = True) -> dict[str, str]:
    """The environment that uv gets for a user's `environ`."""
    kept = {name: value for name, value in environ.items() if _is_passed(name)}
    kept |= sources(environ, folders)
    if cache:
        kept["UV_CACHE_DIR"] = os.path.join(cache, "uv")
    elif "UV_CACHE_DIR" in environ:
        kept["UV_CACHE_DIR"] = environ["UV_CACHE_DIR"]
    # Its metadata files hold paths and times of this machine.
    return {"UV_HTTP_RETRIES": RETRIES} | kept | {"UV_NO_INSTALLER_METADATA": "1"}


def failure(place: str, outcome: Outcome) -> BuildlibError:
    """The error of a failed run. Its detail is what uv said; without a network the one line says it all."""
    cause, cure = explain(outcome.stderr)
    return BuildlibError(place, cause, cure, "" if cure == NETWORK else outcome.stderr)


def explain(stderr: str) -> tuple[str, str]:
    """What uv's error output means, as a cause and a cure of one line each."""
    text = " ".join(stderr.replace("\u2502", " ").split())
    for pattern, cause, cure in MEANINGS:
        if found := re.search(pattern, text):
            return cause.format(*found.groups()), cure
    said = re.search(r"error: (.*?)(?: \[std(?:err|out)\]| hint: |$)", text)
    return (said[1] if said else text or "uv failed without a word").replace(" cause: ", ": "), "see the output above"


INDEX = "UV_DEFAULT_INDEX, PIP_INDEX_URL or pip's configuration name another index"
NETWORK = f"connect to the network and run again; HTTPS_PROXY names a proxy, {INDEX}"
REQUIRES = "change `requires` in the [build-system] table that asks for it"
MEANINGS = (
    (
        r"Hash mismatch for `([^`]+)`",
        "the file that the index has for {} is not the one that is locked",
        "find out who changed it; if the new one is right, run `doit lock --upgrade`",
    ),
    (
        r"index URL \((\S+)\) could not be queried .* \((40[13])|Failed to fetch: `?(\S+).* (40[13]) ",
        "the package index refused the credentials it was given, if any",
        "put them into its URL, ~/.netrc, or UV_INDEX_NAME_USERNAME and UV_INDEX_NAME_PASSWORD",
    ),
    (
        r"there is no version of (\S+) and you require \1",
        "the package index does not have {}",
        f"check the version in the [build-system] table that asks for it; {INDEX}",
    ),
    (r"Because (\S+) was not found in the cache", "no network (offline), and {} is not in the cache", NETWORK),
    (r"network was disabled", "no network (offline), and a package is not in the cache", NETWORK),
    (
        r"Because (\S+) was not found in the (?:package registry|provided package locations)",
        "the build requirement {} is not on the package index",
        f"check its name in the [build-system] table that asks for it; {INDEX}",
    ),
    (
        r"Failed to fetch: `?([^\s`]+)`?.* HTTP status (?:client|server) error \((\d+(?: \w+)*)",
        "the package index answered {1} for {0}",
        f"try again later; {INDEX}",
    ),
    (
        r"Failed to fetch: `?([^\s`]+)`?.* cause: (.*?)(?: \(os error.*)?$",
        "cannot reach {} ({})",
        NETWORK,
    ),
    (r"Failed to fetch: `?([^\s`]+)", "cannot fetch {}", NETWORK),
    (r"No solution found.*?cause: (Because .*?), we can conclude", "no versions fit together: {}", REQUIRES),
    (r"No space left on device", "the disk is full", "make room, or set BUILDLIB_CACHE to a directory on another disk"),
)


_FINDING = threading.Lock()
"""`sysconfig`, which uv's package asks, answers None to a second thread while the first one fills its table."""


@cache
def _found_uv() -> str:
    from uv import find_uv_bin

    return str(find_uv_bin())


def _find_uv() -> str:
    try:
        with _FINDING:
            return _found_uv()
    except (ImportError, FileNotFoundError):
        cure = "run `pip install uv` in buildlib's environment"
        raise BuildlibError("uv", "it is not installed beside buildlib", cure) from None


def _pipe() -> tuple[int, int]:
    """A pipe as (our end, to be kept open; the end that the child reads)."""
    reading, writing = os.pipe()
    return writing, reading


def _is_passed(name: str) -> bool:
    return name.startswith(REACH) if name.startswith("UV_") else name not in DROPPED


def _without_secrets(text: str) -> str:
    """The text without the passwords of URLs."""
    return re.sub(r"(?<=://)[^/\s@]+@", "****@", text)
