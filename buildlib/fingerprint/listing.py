"""Which files below a directory are inputs: asked of git, or walked where there is no git.

A global ignore file, `.git/info/exclude`, GIT_DIR and the like have no effect: only committed `.gitignore` files and
the index do. Knows git's listing commands, and the names of outputs and caches. Does not know projects or digests.
"""

import os
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from buildlib.errors import BuildlibError

if TYPE_CHECKING:
    import subprocess

CACHES = frozenset(
    {
        ".git", ".hg", ".svn", ".buildlib", ".venv", "__pycache__", "__pypackages__", "node_modules", ".eggs",
        ".tox", ".nox", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".import_linter_cache",
    }
)  # fmt: skip
"""Directories that are never inputs, at any depth, tracked or not."""

OURS = frozenset({"dist", "buildlib.lock"})
"""Names at the top of a project that a build writes (the second where the root is a project)."""


def is_input(inner: str, tracked: bool) -> bool:
    """Return whether a listed file is an input of its project. `inner` is its path from the project's folder."""
    folders = inner.split("/")
    name = folders.pop()
    if name.endswith(".pyc") or inner.split("/", 1)[0] in OURS or not CACHES.isdisjoint(folders) or name in CACHES:
        return False
    # `build/` and `*.egg-info` are what setuptools leaves behind, unless somebody committed them on purpose.
    return tracked or not ((folders and folders[0] == "build") or any(f.endswith(".egg-info") for f in folders))


def is_pruned(folder: str, project: str) -> bool:
    """Return whether `folder`, somewhere in `project`'s own, holds no inputs whatever git says."""
    above, _, name = folder.rpartition("/")
    return name in CACHES or (name == "dist" and above == project)


class Git:
    """The git repository that holds a workspace.

    Attributes:
        index: absolute path of git's index file, whose change may change every listing.
        above: the directories from the repository's top level to the workspace root (inclusive), absolute: their
            `.gitignore` files count.
    """

    def __init__(self, root: str, index: str, top: str) -> None:
        self.root, self.index = root, index
        self.above = tuple(_between(top, root))

    @classmethod
    def find(cls, root: str) -> "Git | None":
        """Return the repository around `root`; None where there is none, or no git.

        Raises:
            BuildlibError: there is one, and git cannot read it: to walk it instead would make ignored files inputs.
        """
        # Only `--show-cdup` is sure to be one line: a path may have a line break in it.
        answer = _git(root, "rev-parse", "--show-cdup", "--git-path", "index")
        if answer is None or (answer.returncode and not os.path.lexists(os.path.join(root, ".git"))):
            return None
        up, _, index = os.fsdecode(_said(answer)).removesuffix("\n").partition("\n")
        return cls(root, os.path.join(root, index), os.path.join(root, up))

    def list(self, directories: Collection[str]) -> dict[str, bool]:
        """Return all files below `directories` that git does not ignore: path → whether it is tracked."""
        found: dict[str, bool] = {}
        for record in self._ask(directories, "-t", "-c", "-o"):
            tag, _, path = record.partition(" ")
            found[path] = found.get(path, False) or tag != "?"
        return found

    def ignored_directories(self, directories: Collection[str]) -> frozenset[str]:
        """Return the directories below `directories` that git ignores as a whole."""
        return frozenset(p[:-1] for p in self._ask(directories, "-o", "-i", "--directory") if p.endswith("/"))

    def _ask(self, directories: Collection[str], *options: str) -> Iterator[str]:
        where = sorted(d or "." for d in directories) if len(directories) <= 64 else ["."]
        answer = _git(self.root, "ls-files", "-z", *options, "--exclude-per-directory=.gitignore", "--", *where)
        if answer is None:
            raise BuildlibError("git", "it is not there any more", "install git")
        return (os.fsdecode(path) for path in _said(answer).split(b"\0") if path)


def _between(top: str, root: str) -> Iterator[str]:
    top, root = os.path.realpath(top), os.path.realpath(root)
    yield root
    while root != top and len(root) > len(top):
        root = os.path.dirname(root)
        yield root


def _said(answer: "subprocess.CompletedProcess[bytes]") -> bytes:
    """Return what git answered. Raises `BuildlibError` if it failed: no answer must never pass for an empty one."""
    if answer.returncode:
        error = os.fsdecode(answer.stderr).strip().splitlines() or ["no reason given"]
        raise BuildlibError(".git", f"git cannot read the repository ({error[0]})", "see what `git status` says")
    return answer.stdout


def _git(root: str, *arguments: str) -> "subprocess.CompletedProcess[bytes] | None":
    """Return git's answer; None where there is no git."""
    import subprocess

    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {"LC_ALL": "C"}
    # Paths on the command line are literal; an owner other than ours (a container's root) is no reason to see nothing.
    command = ["git", "--literal-pathspecs", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", *arguments]
    try:
        return subprocess.run(
            command, cwd=root, env=environment, capture_output=True, stdin=subprocess.DEVNULL, check=False
        )
    except FileNotFoundError:
        return None


def walk(root: str, directory: str, skip: Collection[str] = ()) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield (directory, files, sub-directories followed) from `directory` down; links to directories count as files.

    Paths are relative to `root`; pruned directories, those in `skip` and unreadable ones are not entered.
    """
    todo = [directory]
    while todo:
        here = todo.pop()
        files, folders = scan(root, here)
        followed = [f for f in folders if not is_pruned(f, directory) and f not in skip]
        yield here, files, followed
        todo += followed


def scan(root: str, directory: str) -> tuple[list[str], list[str]]:
    """Return the files (links too) and the directories right in `directory`, relative to `root`; none if unreadable."""
    files: list[str] = []
    folders: list[str] = []
    prefix = f"{directory}/" if directory else ""
    try:
        with os.scandir(os.path.join(root, directory)) as entries:
            for entry in entries:
                (folders if entry.is_dir(follow_symlinks=False) else files).append(prefix + entry.name)
    except OSError:
        return [], []
    return files, folders


def below(path: str, directories: Iterable[str]) -> bool:
    """Return whether `path` lies in one of `directories` (or is one)."""
    return any(path == d or path.startswith(f"{d}/") for d in directories)
