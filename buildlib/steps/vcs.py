"""Versions from git: what of a repository they depend on, and a minimal `.git` that shows a build just that.

Plugins such as hatch-vcs, setuptools-scm and those that use dunamai ask git for the commit, the tags before it, the
branch, and whether files differ from the commit. The `.git` made here answers for one project: its objects are borrowed
from the repository (`objects/info/alternates`), and what is no input of the project is marked as not checked out
(skip-worktree), so that nothing else can make its version dirty. What is staged but not committed counts as untracked.

Knows git's files (gitrepository-layout(5), gitformat-index(5)). Does not know what a plugin makes of them.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from buildlib.errors import BuildlibError

ASKING = frozenset(
    {
        *("setuptools-scm", "vcs-versioning", "dunamai", "versioningit", "setuptools-git-versioning", "pbr"),
        *("setuptools-git", "git-versioner", "versioneer", "setuptools-vcs-version", "hatch-gitversion"),
    }
)
"""Packages that ask git while a wheel is built. (hatch-vcs needs setuptools-scm; uv-dynamic-versioning and
poetry-dynamic-versioning need dunamai.)"""

EXCLUDED = 0x4000  # of an index entry: its extended flags follow
SKIPPED = 0x4000  # of those: skip-worktree


@dataclass(frozen=True)
class Repository:
    """What of a git repository versions depend on.

    Attributes:
        root: the workspace, absolute. prefix: where it is in the work tree (`sub/ws/`; empty at its top).
        commit: hash of HEAD; empty before the first commit. branch: full name of HEAD's reference; empty if detached.
        tags: of the commits that HEAD leads back to: (name, hash, hash of the commit if the tag is an object).
        objects: where its objects are, absolute. format: of hashes, `sha1` or `sha256`.
        shallow: content of the file that says where a shallow clone ends; None where it is none.
        watched: paths that change when any of this does.
    """

    root: str
    prefix: str
    commit: str
    branch: str
    tags: tuple[tuple[str, str, str], ...]
    objects: str
    format: str
    shallow: bytes | None
    watched: tuple[str, ...]

    @property
    def parts(self) -> dict[str, str]:
        """Return all this as parts of a step (`git:commit`, …)."""
        found = {"git:commit": self.commit, "git:branch": self.branch.removeprefix("refs/heads/")}
        tags = "\n".join(" ".join(tag) for tag in self.tags)
        found["git:tags"] = hashlib.sha256(tags.encode("utf-8", "surrogateescape")).hexdigest() if tags else ""
        found["git:history"] = hashlib.sha256(self.shallow).hexdigest() if self.shallow else ""
        return {name: value for name, value in found.items() if value}

    @cached_property
    def tracked(self) -> tuple[tuple[int, bytes, str], ...]:
        """Return mode, hash and path (from the top of the work tree) of all that the commit has, in git's order."""
        if not self.commit:
            return ()
        listed = _git(self.root, "ls-tree", "-r", "-z", "--full-tree", self.commit) or b""
        entries = []
        for line in filter(None, listed.split(b"\0")):
            about, _, path = line.partition(b"\t")
            mode, _, digest = about.split(b" ")
            entries.append((int(mode, 8), bytes.fromhex(digest.decode()), os.fsdecode(path)))
        return tuple(sorted(entries, key=lambda entry: os.fsencode(entry[2])))

    def files(self, visible: Callable[[str], bool], excluded: Iterable[str]) -> dict[str, bytes]:
        """Return the files of the minimal `.git`, by their paths from the top of the work tree.

        Args:
            visible: says of a path relative to the workspace root whether the commit's file there is to be compared.
            excluded: patterns of files that are none of the project's.
        """
        references = [
            f"{digest} refs/tags/{name}\n" + (f"^{peeled}\n" if peeled else "") for name, digest, peeled in self.tags
        ]
        files = {
            "HEAD": f"ref: {self.branch}\n" if self.branch else f"{self.commit}\n",
            "config": _CONFIG[self.format],
            "packed-refs": "# pack-refs with: peeled fully-peeled sorted \n" + "".join(references),
            "objects/info/alternates": f"{self.objects}\n",
            "info/exclude": "".join(f"{pattern}\n" for pattern in excluded),
            "refs/heads/.here": "",  # git wants the directory; a name with a dot is no reference
        }
        if self.branch and self.commit:
            files[self.branch] = f"{self.commit}\n"
        found = {f".git/{name}": os.fsencode(text) for name, text in files.items()}
        found[".git/index"] = self._index(visible)
        return found | ({".git/shallow": self.shallow} if self.shallow is not None else {})

    def _index(self, visible: Callable[[str], bool]) -> bytes:
        """Return an index of the commit, version 3: no file looked at yet, all but the visible ones skip-worktree."""
        body = b"DIRC" + struct.pack(">LL", 3, len(self.tracked))
        pieces = [body]
        for mode, digest, path in self.tracked:
            inner = path.removeprefix(self.prefix)
            shown = path.startswith(self.prefix) and mode != _GITLINK and visible(inner)
            name = os.fsencode(path)
            entry = bytes(24) + struct.pack(">L", mode) + bytes(12) + digest
            flags = min(len(name), 0xFFF)
            entry += struct.pack(">H", flags) if shown else struct.pack(">HH", flags | EXCLUDED, SKIPPED)
            entry += name
            pieces.append(entry + bytes(8 - len(entry) % 8))
        content = b"".join(pieces)
        return content + hashlib.new(self.format, content).digest()


_GITLINK = 0o160000  # a submodule's commit: its files are no files of this repository

_CONFIG = {
    "sha1": "[core]\n\trepositoryformatversion = 0\n\tbare = false\n[gc]\n\tauto = 0\n",
    "sha256": "[core]\n\trepositoryformatversion = 1\n\tbare = false\n[gc]\n\tauto = 0\n"
    "[extensions]\n\tobjectFormat = sha256\n",
}


def find_repository(root: str) -> Repository | None:
    """Return the repository around the workspace at `root`; None where there is none, or no git."""
    paths = [word for name in _PATHS for word in ("--git-path", name)]
    answer = _git(root, "rev-parse", "--is-inside-work-tree", "--show-object-format", *paths, "--show-prefix")
    if answer is None:
        return None
    inside, kind, *said = os.fsdecode(answer).removesuffix("\n").split("\n", 2 + len(_PATHS))
    if inside != "true":
        return None
    head, packed, tags, objects, shallow = (os.path.join(root, path) for path in said[: len(_PATHS)])
    commit = _line(root, "rev-parse", "--quiet", "--verify", "HEAD^{commit}")
    branch = _line(root, "symbolic-ref", "--quiet", "HEAD")
    own = [os.path.join(root, path) for path in _line(root, "rev-parse", "--git-path", branch).split("\n") if branch]
    folders = [here for here, _, _ in os.walk(tags)] or [tags]
    # Where references are in a format of their own (reftable), its folder is what changes.
    tables = os.path.join(os.path.dirname(packed), "reftable", "tables.list")
    return Repository(
        root=root,
        prefix=said[len(_PATHS)] if len(said) > len(_PATHS) else "",
        commit=commit,
        branch=branch,
        tags=_tags(root) if commit else (),
        objects=os.path.realpath(objects),
        format=kind,
        shallow=_content(shallow),
        watched=tuple(os.path.relpath(path, root) for path in (head, packed, shallow, tables, *own, *folders)),
    )


_PATHS = ("HEAD", "packed-refs", "refs/tags", "objects", "shallow")


def _tags(root: str) -> tuple[tuple[str, str, str], ...]:
    form = "%(objectname) %(*objectname) %(refname:lstrip=2)"
    listed = os.fsdecode(_git(root, "for-each-ref", "--merged=HEAD", f"--format={form}", "refs/tags") or b"")
    found = (line.split(" ", 2) for line in listed.splitlines())
    return tuple(sorted((name, digest, peeled) for digest, peeled, name in found))


def _line(root: str, *arguments: str) -> str:
    """Return the line that git says; empty if it fails."""
    return os.fsdecode(_git(root, *arguments) or b"").removesuffix("\n")


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _git(root: str, *arguments: str) -> bytes | None:
    """Return what git says; None if it fails or is not there."""
    import subprocess

    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {"LC_ALL": "C"}
    command = ["git", "-c", "safe.directory=*", *arguments]
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, stdin=subprocess.DEVNULL, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def explained(error: BuildlibError, place: str, repository: Repository | None) -> BuildlibError:
    """Return the failure of a build that asks git, with what is likely to be missing and how to get it."""
    import shutil

    if repository is None and shutil.which("git") is None:
        cause, cure = "its version comes from git, which is not here", "install git"
    elif repository is None:
        cause, cure = "its version comes from git, and there is no repository here", "run `git init`, commit and tag"
    elif not repository.commit:
        cause, cure = "its version comes from git, and there is no commit yet", "commit, and tag a version"
    elif repository.shallow is not None:
        cause = "its version comes from git, and this clone is shallow"
        cure = "see the output; `git fetch --unshallow --tags` brings the history"
    elif not repository.tags:
        cause, cure = (
            "its version comes from git, and no commit before this one has a tag",
            "see the output, or tag one",
        )
    else:
        return error
    return BuildlibError(place, f"{cause} ({error.cause})", cure, error.detail)


def dated(version: str, now: float) -> bool:
    """Return whether `version` has the date of `now` (seconds since the epoch) in it, in UTC or here."""
    import re
    import time

    for day in (time.gmtime(now), time.localtime(now)):
        year, month, date = day.tm_year, day.tm_mon, day.tm_mday
        forms = rf"{year}{month:02}{date:02}|{year}\.0?{month}\.0?{date}(?!\d)"
        if re.search(rf"(?<!\d)(?:{forms})", version):
            return True
    return False
