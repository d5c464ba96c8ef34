"""A `pyproject.toml` extended: tables and keys that it lacks are added to its text, and no line of it is changed.

Whatever way of adding is taken, the result is parsed again: it has to say what the file said and what was added, or it
is not used. Knows TOML's tables. Does not know what ours mean, nor files.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tomli

from buildlib.errors import BuildlibError

Tables = Mapping[str, Mapping[str, Any]]
"""Keys with their values (strings or lists of strings), by dotted name of their table."""


def extended(text: str, wanted: Tables, place: str) -> str:
    """Return `text` with what it lacks of `wanted`.

    Raises:
        BuildlibError: it says something else already, or there is no way to add to it.
    """
    raw = tomli.loads(text)
    for table, keys in wanted.items():
        missing = _missing(raw, table, keys, place)
        if missing:
            text = _with(text, raw, table, missing, place)
            raw = tomli.loads(text)
    return text


def _missing(raw: Mapping[str, Any], table: str, keys: Mapping[str, Any], place: str) -> dict[str, Any]:
    here: Any = raw
    for name in table.split("."):
        here = here.get(name, {})
        if not isinstance(here, Mapping):
            raise BuildlibError(place, f"{table} is not a table", f"write it as [{table}]")
    for key, value in keys.items():
        if here.get(key, value) != value:
            cause = f"[{table}] has {key} = {json.dumps(here[key])}, and buildlib needs {json.dumps(value)}"
            raise BuildlibError(place, cause, "remove that line and run `doit init` again; nothing was written")
    return {key: value for key, value in keys.items() if key not in here}


def _with(text: str, raw: Mapping[str, Any], table: str, keys: Mapping[str, Any], place: str) -> str:
    expected = _merged(raw, table.split("."), keys)
    for candidate in _candidates(text, table, keys):
        try:
            if tomli.loads(candidate) == expected:
                return candidate
        except tomli.TOMLDecodeError:
            continue
    cause = f"there is no safe place in it for {', '.join(keys)} of [{table}]"
    raise BuildlibError(place, cause, f"write [{table}] as a table of its own; nothing was written")


def _candidates(text: str, table: str, keys: Mapping[str, Any]) -> Iterator[str]:
    """Yield ways of adding `keys`: below their table's header, in a new table, as dotted keys of a table above it."""
    end = "\r\n" if "\r\n" in text else "\n"
    names = table.split(".")
    lines = [f"{key} = {written(value)}".replace("\n", end) for key, value in keys.items()]
    yield from _below(text, names, lines, end)
    head = text if not text or text.endswith("\n") else text + end
    yield head + end.join(([""] if head else []) + [f"[{table}]", *lines, ""])
    for depth in range(len(names) - 1, 0, -1):
        prefix = ".".join(names[depth:])
        yield from _below(text, names[:depth], [f"{prefix}.{line}" for line in lines], end)


def _below(text: str, names: Sequence[str], lines: Sequence[str], end: str) -> Iterator[str]:
    header = r"\s*\.\s*".join(f"[\"']?{re.escape(name)}[\"']?" for name in names)
    for match in re.finditer(rf"^[ \t]*\[[ \t]*{header}[ \t]*\][ \t]*(#[^\r\n]*)?(\r?\n|\Z)", text, re.MULTILINE):
        above = match[0] if match[2] else match[0] + end
        yield text[: match.start()] + above + end.join([*lines, ""]) + text[match.end() :]


def _merged(raw: Mapping[str, Any], names: Sequence[str], keys: Mapping[str, Any]) -> dict[str, Any]:
    if not names:
        return {**raw, **keys}
    return {**raw, names[0]: _merged(raw.get(names[0], {}), names[1:], keys)}


def written(value: Any) -> str:
    """Return a string, or a list of strings, as TOML has it."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if sum(map(len, value)) > 70:
        return "[\n" + "".join(f"    {json.dumps(v, ensure_ascii=False)},\n" for v in value) + "]"
    return json.dumps(list(value), ensure_ascii=False)
