"""What was made by other code is made again: each module that a verb reaches is hashed, or excepted with a reason.

The sources are read, not imported. An import counts wherever it stands: inside a function, and for a type checker only,
since that is how a step sees what the workshop hands it. So does the name of a script of the same folder.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import buildlib
from buildlib.steps import code

PACKAGE = Path(buildlib.__file__).parent
VERBS = sorted(path.stem for path in (PACKAGE / "steps").glob("*.py") if "VERB, STORED = " in path.read_text())

# A module, or a folder, that a step reaches and that changes no byte of an output by itself.
EXCEPTIONS = {
    "errors.py": "what is said of a failure is no output",
    "plan.py": "compares parts; without it nothing is made otherwise",
    "fingerprint/": "digests parts; other digests are other fingerprints",
    "workspace/": "what it reads becomes parts of the step",
    "toolchain/": "an environment is named by its pins, the interpreter and its layout, which are parts",
    "store/": "what it gives is verified by digest",
    "steps/workshop.py": "hands over parts, and outputs that are verified by digest",
    "steps/tools.py": "the pins that it finds are parts",
    "steps/committed.py": "it writes locks, whose pins are parts",
    "steps/slices.py": "the pins that it finds are parts",
    "image/endpoint.py": "which engine answers; what that has is parts",
    "image/engine.py": "asks the engine what it has, which is parts",
    "image/dockerfile.py": "the bases that it reads are parts; its hints are said, not built",
}

# What the workshop offers and only some verbs take.
TAKEN_BY = {
    "execute/": {"wheel"},
    "image/": {"image"},
    "steps/buildneeds.py": {"wheel"},
    "steps/vcs.py": {"wheel"},
}


def reached(start: str) -> set[str]:
    """The modules that `start` reaches, itself included, relative to the package."""
    found, todo = {start}, [start]
    while todo:
        new = set(_named(todo.pop())) - found
        found |= new
        todo += new
    return found


def _named(module: str) -> Iterator[str]:
    path = PACKAGE / module
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from _modules(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module} imports relatively, which is not read here"
            yield from _modules([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".py"):
            script = path.parent / node.value
            if script.parent == path.parent and script.is_file():
                yield script.relative_to(PACKAGE).as_posix()


def _modules(names: Iterator[str] | list[str]) -> Iterator[str]:
    for name in names:
        first, *rest = name.split(".")
        if first == "buildlib":
            path = "/".join(rest)
            found = [each for each in (f"{path}.py", f"{path}/__init__.py") if (PACKAGE / each).is_file()]
            # The `__init__` of a folder on the way counts for those only who take something from it.
            yield from (each for each in found if _says_something(each))


def _says_something(module: str) -> bool:
    """Whether there is more in it than a docstring."""
    body = ast.parse((PACKAGE / module).read_text(encoding="utf-8")).body
    return not all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def _excepted(module: str, verb: str) -> bool:
    taken = next((verbs for folder, verbs in TAKEN_BY.items() if module.startswith(folder)), {verb})
    return verb not in taken or any(module.startswith(place) for place in EXCEPTIONS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_module_that_makes_a_verbs_outputs_is_hashed_or_excepted_with_a_reason(verb: str) -> None:
    hashed = set(code.code_of(verb))
    unhashed = sorted(m for m in reached(f"steps/{verb}.py") - hashed if not _excepted(m, verb))
    assert unhashed == [], f"add them to MAKERS[{verb!r}] of steps/code.py, or to EXCEPTIONS here with a reason"


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_hashed_is_there_and_named_once(verb: str) -> None:
    hashed = code.code_of(verb)
    assert len(set(hashed)) == len(hashed) and f"steps/{verb}.py" in hashed
    assert [name for name in hashed if not (PACKAGE / name).is_file()] == []


def test_imports_are_found_inside_functions_for_types_and_as_scripts() -> None:
    wheel = reached("steps/wheel.py")
    assert {"wheel", "requirements", "stage", "image"} <= set(VERBS)
    assert {"steps/normalise.py", "execute/local.py", "execute/worker.py", "execute/guard.py"} <= wheel
    assert "execute/local.py" not in reached("steps/normalise.py")


def test_what_writes_the_lines_of_requirements_txt_is_hashed() -> None:
    """It stands among what only reads, in `workspace/`, which is excepted."""
    assert {"workspace/locks/__init__.py", "workspace/locks/base.py"} <= set(code.code_of("requirements"))


def test_no_exception_is_out_of_date() -> None:
    every = set.union(*(reached(f"steps/{verb}.py") for verb in VERBS))
    assert [place for place in (*EXCEPTIONS, *TAKEN_BY) if not any(m.startswith(place) for m in every)] == []
