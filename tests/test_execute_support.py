"""Shared by the tests of buildlib.execute: small trees, actions over them, one build environment per backend."""

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

from buildlib.execute.action import BASE_ENVIRONMENT, Action, InputFile, InputLink
from buildlib.execute.hook import hook_source

HERE_TOOLS = {"python": sys.executable, "bin": str(Path(sys.executable).parent)}


class Tree:
    """Input files in memory; `read` is what an executor gets."""

    def __init__(self, files: dict[str, str | bytes], executables: tuple[str, ...] = ()) -> None:
        self.content = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
        self.executables = executables

    def read(self, path: str) -> bytes:
        return self.content[path]

    def inputs(self) -> tuple[InputFile, ...]:
        return tuple(
            InputFile(path, hashlib.sha256(data).hexdigest(), len(data), path in self.executables)
            for path, data in sorted(self.content.items())
        )

    def action(self, *argv: str, **changes: object) -> Action:
        action = Action(argv, self.inputs(), (), BASE_ENVIRONMENT, "", (), ())
        return dataclasses.replace(action, **changes)

    def script(self, source: str, **changes: object) -> Action:
        """An action that runs Python source text."""
        return self.action("{python}", "-c", source, **changes)


def link(path: str, target: str) -> InputLink:
    return InputLink(path, target)


def wheel_tree(files: dict[str, str | bytes], directory: str = "") -> Tree:
    prefix = f"{directory}/" if directory else ""
    return Tree({f"{prefix}{path}": text for path, text in files.items()} | {".hook.py": hook_source()})


def wheel_action(tree: Tree, backend: str, *more: str, directory: str = "", warm: bool = False) -> Action:
    up = "../" * len([part for part in directory.split("/") if part])
    return tree.action(
        *("{python}", f"{up}.hook.py", "build_wheel", "--backend", backend, "--output", f"{up}.out", *more),
        directory=directory,
        outputs=(".out/",),
        warm=warm,
    )


def make_environment(place: Path, *requirements: str) -> dict[str, str]:
    """A real build environment; the tools mapping of it."""
    subprocess.run([sys.executable, "-m", "uv", "venv", "-q", "-p", sys.executable, place], check=True)
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "-q", "-p", place / "bin/python", *requirements], check=True
    )
    return {"python": str(place / "bin/python"), "bin": str(place / "bin")}


def poetry_project(name: str = "demo", extra: str = "") -> dict[str, str | bytes]:
    module = name.replace("-", "_")
    return {
        "pyproject.toml": (
            '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
            f'[project]\nname = "{name}"\nversion = "1.0"\nrequires-python = ">=3.9"\n'
            f'[tool.poetry]\npackages = [{{ include = "{module}" }}]\n' + extra
        ),
        f"{module}/__init__.py": "answer = 42\n",
        f"{module}/data/table.csv": "a,b\n",
    }
