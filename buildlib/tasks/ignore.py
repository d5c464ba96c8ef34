"""What `.gitignore` lacks, so that nothing a build leaves is ever committed by accident, nor shown by `git status`.

Only committed ignore files count, not a person's own. Knows git's question for ignored paths. Does not know who writes
the file.
"""

import os
import subprocess
from collections.abc import Iterable, Mapping

from buildlib.fingerprint.listing import Git

OURS: Mapping[str, str] = {
    ".buildlib/": ".buildlib/state.db",
    "dist/": "dist/x-1.0-py3-none-any.whl",
    "__pycache__/": "__pycache__/x.pyc",
}
"""The entries of a repository's `.gitignore`, each with what it has to ignore."""

LOCK = "!buildlib.lock"


def lacking(root: str, text: str, projects: Iterable[str]) -> list[str]:
    """Return the entries that the `.gitignore` of the root, which is `text`, lacks.

    Args:
        root: absolute path of the workspace.
        projects: directories of all projects: each has a `dist/` that git has to ignore.
    """
    probes = [(entry, path) for entry, path in OURS.items()]
    for project in sorted(filter(None, projects)):
        probes += [("dist/", f"{project}/dist/{name}") for name in ("x-1.0-py3-none-any.whl", "requirements.txt")]
        probes += [("dist/", f"{project}/dist/deps/x-1.0-py3-none-any.whl")]
    if Git.find(root) is None:
        lines = {line.strip().strip("/").removeprefix("**/") for line in text.splitlines()}
        return [entry for entry in OURS if entry.strip("/") not in lines]
    ignored = _ignored(root, [*(path for _, path in probes), "buildlib.lock"])
    found = dict.fromkeys(entry for entry, path in probes if path not in ignored)
    return [*found, *([LOCK] if "buildlib.lock" in ignored else [])]


def extended(text: str, entries: Iterable[str]) -> str:
    """Return the `.gitignore` with `entries` at its end."""
    end = "\r\n" if "\r\n" in text else "\n"
    head = text if not text or text.endswith("\n") else text + end
    return head + "".join(f"{entry}{end}" for entry in entries)


def _ignored(root: str, paths: Iterable[str]) -> set[str]:
    """Return those of `paths` that a committed ignore file has git ignore."""
    asked = "\0".join(paths).encode() + b"\0"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    command = ["git", "-c", "safe.directory=*", "check-ignore", "--no-index", "--stdin", "-z", "-v"]
    done = subprocess.run(command, cwd=root, env=environment, input=asked, capture_output=True, check=False)
    fields = done.stdout.decode(errors="surrogateescape").split("\0")
    rows = zip(fields[0::4], fields[2::4], fields[3::4], strict=False)  # file, line, pattern, path
    return {p for file, pattern, p in rows if os.path.basename(file) == ".gitignore" and not pattern.startswith("!")}
