"""A tiny world: a workspace in a temporary directory, edits, `doit` as a process, and the exact list of steps that ran.

The cheap backend is a file in the project itself (`backend-path`, no requirements, no network): a real PEP 517 build
that takes some 50 ms.
"""

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT_PYPROJECT = """\
[tool.doit]
loader = "buildlib"
backend = "buildlib"
reporter = "buildlib"
dep_file = ".buildlib/state.db"
plugins.loader.buildlib = "buildlib.tasks.loader:Loader"
plugins.backend.buildlib = "buildlib.tasks.backend:Backend"
plugins.reporter.buildlib = "buildlib.tasks.reporter:Reporter"
[tool.doit.plugins.command]
run = "buildlib.tasks.run:Run"
list = "buildlib.tasks.commands:List"
info = "buildlib.tasks.commands:Info"
clean = "buildlib.tasks.commands:Clean"
dumpdb = "buildlib.tasks.commands:DumpDB"
"""

DODO = "from buildlib.tasks.dodo import DOIT_CONFIG\n"

BACKEND = '''\
"""A PEP 517 backend of a few lines: packs every .py, .txt and .json file of the package, but no tests."""
import base64, hashlib, os, tomllib, zipfile


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with open("pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    name, version = project["name"].replace("-", "_"), project["version"]
    files = {}
    for here, folders, names in os.walk("."):
        folders[:] = sorted(f for f in folders if f not in ("tests", "backend"))
        for n in sorted(names):
            if n.endswith((".py", ".txt", ".json")):
                path = os.path.join(here, n)[2:]
                with open(path, "rb") as file:
                    files[path] = file.read()
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {version}"]
    lines += [f"Requires-Dist: {r}" for r in project.get("dependencies", ())]
    files[f"{info}/METADATA"] = ("\\n".join(lines) + "\\n").encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\\nGenerator: tiny\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    digest = lambda b: base64.urlsafe_b64encode(hashlib.sha256(b).digest()).rstrip(b"=").decode()
    record = "".join(f"{p},sha256={digest(b)},{len(b)}\\n" for p, b in files.items()) + f"{info}/RECORD,,\\n"
    files[f"{info}/RECORD"] = record.encode()
    wheel = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, wheel), "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return wheel
'''

LINE = re.compile(r"^(\w+) ([\w.-]+)\s+(built|fetched|remote|unchanged|failed|skipped)\s+(\d+\.\d\d)s\s*(.*)$")
SUMMARY = re.compile(r"^(?:\d+ [a-z ]+, )*\d+ [a-z ]+ in \d+\.\d\ds$")


@dataclass(frozen=True)
class Run:
    """What one `doit` did: exit code, its lines as (task, word, reason), the counts of its summary, its output."""

    code: int
    steps: tuple[tuple[str, str, str], ...]
    counts: dict[str, int]
    out: str
    err: str

    @property
    def ran(self) -> list[str]:
        """Return the tasks that ran, sorted."""
        return sorted(task for task, word, _ in self.steps if word not in ("skipped",))

    def word(self, task: str) -> str:
        """Return what happened to `task`; empty if it has no line."""
        return next((word for name, word, _ in self.steps if name == task), "")

    def reason(self, task: str) -> str:
        """Return the reason on the line of `task`."""
        return next(reason for name, _, reason in self.steps if name == task)


class World:
    """A workspace at `root`, empty but for what makes `doit` the engine."""

    def __init__(self, root: Path, cache: Path, store: Path | str = "off", git: bool = True) -> None:
        self.root = root
        self.environ = {
            **{k: v for k, v in os.environ.items() if k not in ("CI", "DOCKER_HOST", "DOCKER_CONTEXT")},
            "BUILDLIB_CACHE": str(cache),
            "BUILDLIB_STORE": str(store),
            "DOCKER_HOST": "unix:///nowhere/docker.sock",
        }
        root.mkdir(parents=True, exist_ok=True)
        self.write("pyproject.toml", ROOT_PYPROJECT)
        self.write("dodo.py", DODO)
        self.write(".gitignore", ".buildlib/\ndist/\n__pycache__/\n")
        if git:
            self.git("init", "-q")

    def path(self, name: str) -> Path:
        """Return the absolute path of a file of this world."""
        return self.root / name

    def write(self, name: str, text: str | bytes) -> Path:
        """Write a file, with the directories above it."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def read(self, name: str) -> str:
        """Return the text of a file."""
        return self.path(name).read_text()

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace `old`, which must be there, in a file."""
        text = self.read(name)
        assert old in text, f"{name} has no {old!r}"
        self.write(name, text.replace(old, new))

    def library(self, name: str, *needs: str, folder: str = "libs", extra: str = "") -> str:
        """Add a project with the cheap backend that depends on `needs`; return its directory."""
        directory = f"{folder}/{name}"
        module = name.replace("-", "_")
        dependencies = json.dumps(list(needs))
        self.write(
            f"{directory}/pyproject.toml",
            f'[project]\nname = "{name}"\nversion = "1.0"\ndependencies = {dependencies}\n'
            '[build-system]\nrequires = []\nbuild-backend = "tiny"\nbackend-path = ["backend"]\n'
            + textwrap.dedent(extra),
        )
        self.write(f"{directory}/backend/tiny.py", BACKEND)
        self.write(f"{directory}/{module}/__init__.py", f"NAME = {name!r}\n")
        self.write(f"{directory}/tests/test_{module}.py", "def test_nothing():\n    assert True\n")
        return directory

    def service(self, name: str, *needs: str, extra: str = "") -> str:
        """Add a service with the cheap backend; return its directory."""
        return self.library(name, *needs, folder="services", extra=extra)

    def git(self, *arguments: str) -> str:
        """Run git in this world."""
        who = {
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@b",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@b",
        }
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, env={**os.environ, **who}, check=True, capture_output=True, text=True
        )
        return done.stdout

    def commit(self) -> None:
        """Commit everything."""
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "x", "--allow-empty")

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of `doit ARGUMENTS` under the interpreter of the tests."""
        return [sys.executable, "-m", "doit", *arguments]

    def start(self, *arguments: str, environ: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        """Start `doit` and do not wait for it."""
        return subprocess.Popen(
            self.command(*arguments), cwd=self.root, env={**self.environ, **(environ or {})},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def doit(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Run:
        """Run `doit ARGUMENTS` to its end."""
        process = self.start(*arguments, environ=environ)
        out, err = process.communicate(timeout=300)
        return _run(process.returncode, out, err)

    def good(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Run:
        """Run `doit ARGUMENTS`, which must succeed."""
        run = self.doit(*arguments, environ=environ)
        assert run.code == 0, run.out + run.err
        return run

    def outputs(self) -> dict[str, bytes]:
        """Return the content of every file in every `dist/`, and of the wheels, by path."""
        places = [*self.root.glob("*/*/dist"), self.root / ".buildlib/wheels", self.root / ".buildlib/requirements"]
        files = [f for place in places for f in place.rglob("*") if f.is_file()]
        return {str(f.relative_to(self.root)): f.read_bytes() for f in files}


def _run(code: int, out: str, err: str) -> Run:
    steps, counts = [], {}
    for line in out.splitlines():
        if match := LINE.match(line):
            verb, project, word, _, reason = match.groups()
            steps.append((f"{verb}:{project}", word, reason))
        elif SUMMARY.match(line):
            counts = {word: int(n) for n, word in re.findall(r"(\d+) ([a-z ]+?)(?:,| in )", line)}
    return Run(code, tuple(steps), counts, out, err)
