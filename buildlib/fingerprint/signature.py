"""File signatures: what `lstat` says of a path, in one number.

A signature tells *that nothing happened* to a path since its content was last read; it never tells what the content is.
Knows `lstat` and clocks. Does not know digests, projects or the index that keeps signatures.
"""

import os
from collections.abc import Sequence

ABSENT = 0
"""The signature of a path that is not there."""

UNSURE = -1
"""A signature that never matches: the path was as young as the look at it, so a later edit could look the same."""

SLACK_NS = 50_000_000
"""Nanoseconds within which two writes may get one time stamp (a kernel tick is 1 to 10 ms)."""

COARSE_SLACK_NS = 2_100_000_000
"""The same on file systems that store whole seconds (or, as FAT does, every other one)."""


def of_stat(entry: os.stat_result) -> int:
    """Return the signature of an `lstat` result: times, size, inode and mode, folded into one number."""
    return hash((entry.st_mtime_ns, entry.st_ctime_ns, entry.st_size, entry.st_ino, entry.st_mode)) or 1


def of(path: str) -> int:
    """Return the signature of `path` as it is now, `ABSENT` where there is nothing."""
    try:
        return of_stat(os.lstat(path))
    except (OSError, ValueError):
        return ABSENT


def settled(entry: os.stat_result, looked_ns: int) -> bool:
    """Return whether an edit after `looked_ns` (wall clock, ns) would surely change this entry's signature.

    The racy rule of git's index: a file as young as the look at it proves nothing, nor does one from the future.
    """
    newest = max(entry.st_mtime_ns, entry.st_ctime_ns)
    coarse = entry.st_mtime_ns % 1_000_000_000 == 0 and entry.st_ctime_ns % 1_000_000_000 == 0
    return newest < looked_ns - (COARSE_SLACK_NS if coarse else SLACK_NS)


def changed(paths: Sequence[str], signatures: Sequence[int]) -> list[str]:
    """Return the paths whose signature is not the remembered one. The hot loop of every no-op."""
    lstat, wrong = os.lstat, []
    for path, remembered in zip(paths, signatures, strict=True):
        try:
            s = lstat(path)
        except (OSError, ValueError):
            if remembered != ABSENT:
                wrong.append(path)
            continue
        if (hash((s.st_mtime_ns, s.st_ctime_ns, s.st_size, s.st_ino, s.st_mode)) or 1) != remembered:
            wrong.append(path)
    return wrong
