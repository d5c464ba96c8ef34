"""Parts: what determines an output, by name; their fingerprint; and the first difference, said for a person.

A part is a name (`file:libs/a/a.py`, `tool:poetry-core`, `config:target`, `git:commit`, `pin:httpx`,
`upstream:wheel:a`) and a short value (a digest, a version). Two sets of parts have one fingerprint exactly if they are
equal, so the comparison that decides is the one that explains. Knows names and values only. Does not read files.
"""

import hashlib
from collections.abc import Mapping

Parts = Mapping[str, str]

FORMAT = "buildlib parts 1"


def fingerprint(parts: Parts) -> str:
    """Return the SHA-256 (hex) of `parts`, whatever the order they were made in."""
    lines = [FORMAT, *(f"{len(name)} {name} {len(value)} {value}" for name, value in sorted(parts.items()))]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def difference(before: Parts, now: Parts) -> str | None:
    """Return the first part that differs, said for a person (`libs/a/a.py changed`); None if none does."""
    for name in sorted(before.keys() | now.keys(), key=_rank):
        old, new = before.get(name), now.get(name)
        if old != new:
            return _say(name, old, new)
    return None


_ORDER = ("action", "tool", "file", "link", "config", "git", "pin", "base", "upstream")
"""Causes before effects: a new tool explains more than a file, a file more than what was read in it, what is one's own
more than another's output."""


def _rank(name: str) -> tuple[int, str]:
    kind = name.partition(":")[0]
    return (_ORDER.index(kind) if kind in _ORDER else len(_ORDER), name)


def _say(name: str, old: str | None, new: str | None) -> str:
    kind, _, rest = name.partition(":")
    verb = "added" if old is None else "removed" if new is None else "changed"
    if kind in ("file", "link"):
        return f"{rest} {_file_verb(verb, old, new)}"
    if kind == "upstream":
        return f"{rest.replace(':', ' ', 1)} {verb}"
    if kind == "action":
        return "buildlib itself changed"
    if kind == "git":
        return _git(rest, old, new)
    if kind in ("tool", "pin"):
        return f"{rest} {_versions(old, new)}"
    return f"{rest} {verb}"


def _file_verb(verb: str, old: str | None, new: str | None) -> str:
    if verb != "changed" or old is None or new is None:
        return verb
    if old.rstrip("x") == new.rstrip("x"):
        return "became executable" if new.endswith("x") else "is no longer executable"
    return verb


def _git(what: str, old: str | None, new: str | None) -> str:
    """Say what changed of the repository that a version comes from: commit, branch, tags, or how far back it goes."""
    if what == "tags":
        return "a tag changed"
    if what == "history":
        return "how far the shallow clone goes back changed"
    before, after = (value[:7] if value and what == "commit" else value or "none" for value in (old, new))
    return f"the {what} changed ({before} -> {after})"


def _versions(old: str | None, new: str | None) -> str:
    """Say two values by their first words, the versions; what follows (a digest) only decides."""
    before, after = (value.split(" ")[0] if value else None for value in (old, new))
    if before is None:
        return f"{after} added"
    if after is None:
        return f"{before} removed"
    return f"{before} -> {after}" if before != after else f"{after} changed"
