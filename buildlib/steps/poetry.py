"""What Poetry 1 accepted and poetry-core does not: a dependency with an empty version, `x = ""`.

Poetry 1.0 and 1.1 read it as any version. Knows pyproject.toml's text. Does not know who builds with it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from buildlib.errors import BuildlibError

TABLE = "tool.poetry.dependencies"
EMPTY = r"""(?:""|'')"""
PLAIN = re.compile(rf"""(\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')\s*=\s*){EMPTY}(\s*(?:\#.*)?)""", re.DOTALL)
INNER = re.compile(rf"(\bversion\s*=\s*){EMPTY}")
HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(?:#.*)?", re.DOTALL)


def modern(data: bytes, place: str = "pyproject.toml") -> tuple[bytes, tuple[str, ...]]:
    """Return a pyproject.toml in which each empty version of Poetry's main dependencies is `"*"`, and their names.

    Nothing else differs; without such a version it is the same file.

    Raises:
        BuildlibError: it is written in a way that cannot be mended from outside.
    """
    if not re.search(EMPTY.encode(), data):
        return data, ()
    import tomli

    text = data.decode("utf-8", "surrogateescape")
    try:
        document = tomli.loads(text.removeprefix("\ufeff"))
        names = tuple(_starred(document))
    except (ValueError, RecursionError, AttributeError):  # said by whoever reads the metadata
        return data, ()
    if not names:
        return data, ()
    edited = "".join(_edited(text))
    if tomli.loads(edited.removeprefix("\ufeff")) != document:
        cause = f"{TABLE}.{names[0]} has an empty version, which poetry-core refuses"
        raise BuildlibError(place, cause, f'write {names[0]} = "*"')
    return edited.encode("utf-8", "surrogateescape"), names


def _starred(document: Mapping[str, Any]) -> Iterator[str]:
    """Put `"*"` for each empty version in place, and yield whose it was."""
    table = document.get("tool", {}).get("poetry", {}).get("dependencies", {})
    for name, value in table.items():
        if value == "":
            table[name] = "*"
            yield name
        for spec in value if isinstance(value, list) else [value]:
            if isinstance(spec, dict) and spec.get("version") == "":
                spec["version"] = "*"
                yield name


def _edited(text: str) -> Iterator[str]:
    """Yield the lines of the file, edited within the table of main dependencies and the tables below it."""
    table = ""
    for line in text.splitlines(keepends=True):
        if header := HEADER.fullmatch(line):
            table = header[1].strip()
        if table == TABLE:
            yield INNER.sub(r'\1"*"', PLAIN.sub(r'\1"*"\2', line) if PLAIN.fullmatch(line) else line)
        elif table.startswith(f"{TABLE}."):
            yield INNER.sub(r'\1"*"', line)
        else:
            yield line
