"""Calls one PEP 517 hook of a build backend in the current directory.

A script of its own, stdlib only, run by the *build environment's* interpreter: callers stage its source as an input of
the action, and the warm worker runs the same source. Knows the backend interface. Does not know what is built.

    python .hook.py build_wheel|get_requires --backend MODULE[:OBJECT] [--backend-path DIR …] [--known REQUIREMENT …]
                    --output DIR [--config-settings JSON]

`get_requires` only asks what `build_wheel` asks first: whether the backend wants requirements that are not known.

Exit codes: 0 done, the wheel is in DIR; 1 the backend failed (its traceback is on stderr); 2 wrong usage;
64 the backend wants requirements that are not known: they are in DIR/.requires.json, a list of strings.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as typing's, without importing it: this script's start is part of every build
if TYPE_CHECKING:
    from typing import Any

if __name__ == "__main__":
    # The script's directory may hold the project: a `json.py` there must not be what we import below.
    _here = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != _here]

FAILED, USAGE, MISSING_REQUIRES = 1, 2, 64
VERBS = ("build_wheel", "get_requires")
REQUIRES_FILE = ".requires.json"
OPTIONS = ("--backend", "--backend-path", "--known", "--output", "--config-settings")


class Unusable(Exception):
    """What is said without a traceback: the backend or the call is wrong, nothing crashed."""


def hook_source() -> bytes:
    """This file, for callers that stage it as an input."""
    with open(__file__, "rb") as file:
        return file.read()


def parse(argv: list[str]) -> dict[str, list[str]]:
    """The options with their values; an option may come several times, and take several values."""
    if not argv or argv[0] not in VERBS:
        raise Unusable("usage: build_wheel|get_requires --backend MODULE[:OBJECT] --output DIR [option …]")
    options: dict[str, list[str]] = {name: [] for name in OPTIONS}
    values: list[str] | None = None
    for word in argv[1:]:
        if word.startswith("--"):
            values = options.get(word)
        elif values is not None:
            values.append(word)
        if values is None:
            raise Unusable(f"{word}: not an option of {argv[0]}")
    for name in ("--backend", "--output"):
        if len(options[name]) != 1:
            raise Unusable(f"{name} is needed once")
    return options


def load_backend(name: str, paths: list[str]) -> Any:
    """The backend object (PEP 517, "build-backend" and "backend-path").

    Raises:
        Unusable: a path leaves the project, or the backend does not come from one of the paths given.
    """
    from importlib import import_module

    project = os.path.realpath(os.curdir)
    inside = [os.path.realpath(path) for path in paths]
    for path, real in zip(paths, inside):  # noqa: B905  # strict= needs Python 3.10, backends may run on less
        if os.path.isabs(path) or os.path.commonpath([project, real]) != project:
            raise Unusable(f"backend-path {path!r} leaves the project")
    sys.path[:0] = inside
    module_name, _, attributes = name.partition(":")
    module = import_module(module_name)
    origin = os.path.realpath(getattr(module, "__file__", None) or os.curdir)
    if inside and not any(os.path.commonpath([path, origin]) == path for path in inside):
        raise Unusable(f"{module_name} was found at {origin}, not in backend-path")
    backend = module
    for attribute in filter(None, attributes.split(".")):
        backend = getattr(backend, attribute)
    return backend


def normalise_requirement(text: str) -> str:
    """One spelling for requirements that only differ in spaces, quotes, order and how the name is written (PEP 508)."""
    import re

    text, semicolon, marker = text.partition(";") if "@" not in text else text.partition(" ;")
    found = re.match(r"\s*([\w.-]+)\s*(?:\[([^\]]*)\])?\s*\(?([^)]*)\)?\s*$", text)
    if found is None:
        return " ".join((text + semicolon + marker).split())
    name = re.sub(r"[-_.]+", "-", found[1]).lower()
    extras = ",".join(sorted(re.sub(r"[-_.]+", "-", extra.strip()).lower() for extra in (found[2] or "").split(",")))
    versions = ",".join(sorted("".join(version.split()) for version in found[3].split(",")))
    marker = "".join(marker.replace('"', "'").split())
    return name + (f"[{extras}]" if extras else "") + versions + (f";{marker}" if marker else "")


def unknown_requires(wanted: list[str], known: list[str]) -> list[str]:
    """Those of `wanted` that are not among `known`, as the backend spells them, without repetition."""
    have = {normalise_requirement(requirement) for requirement in known}
    missing = {normalise_requirement(requirement): requirement for requirement in wanted}
    return [requirement for spelling, requirement in missing.items() if spelling not in have]


def tell_requires(output: str, missing: list[str]) -> int:
    """Leaves the missing requirements where the engine looks for them; the exit code that says so."""
    import json

    os.makedirs(output, exist_ok=True)
    with open(os.path.join(output, REQUIRES_FILE), "w", encoding="utf-8") as file:
        json.dump(missing, file)
    print("the backend wants " + ", ".join(missing))
    return MISSING_REQUIRES


def call(verb: str, options: dict[str, list[str]]) -> int:
    """Calls the hooks in the order of PEP 517, the last one only for `build_wheel`; the exit code."""
    output = os.path.abspath(options["--output"][0])
    settings = None
    if options["--config-settings"]:
        import json

        settings = json.loads(options["--config-settings"][0])
    backend = load_backend(options["--backend"][0], options["--backend-path"])
    ask = getattr(backend, "get_requires_for_build_wheel", None)
    missing = unknown_requires(list(ask(settings)) if ask else [], options["--known"])
    if missing:
        return tell_requires(output, missing)
    os.makedirs(output, exist_ok=True)
    if verb != "build_wheel":
        return 0
    name = backend.build_wheel(output, settings)
    wheels = sorted(entry for entry in os.listdir(output) if entry.endswith(".whl"))
    if wheels != [name]:
        raise Unusable(f"{options['--backend'][0]} says it built {name!r}, and left {', '.join(wheels) or 'no wheel'}")
    return 0


def main(argv: list[str]) -> int:
    """Runs one verb; the exit code. Never raises: whatever the backend throws ends as text on stderr."""
    try:
        options = parse(argv)
    except Unusable as problem:
        print(problem, file=sys.stderr)
        return USAGE
    try:
        return call(argv[0], options)
    except Unusable as problem:
        print(problem, file=sys.stderr)
    except SystemExit as problem:  # setuptools says most errors so, even with a code of 0
        print(f"the backend called exit: {problem}", file=sys.stderr)
    except BaseException:
        import traceback

        traceback.print_exc()
    return FAILED


if __name__ == "__main__":
    sys.argv[0] = os.path.basename(sys.argv[0])
    sys.exit(main(sys.argv[1:]))
