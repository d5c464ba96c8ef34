"""Repositories as teams bring them: a copied fixture, `doit init`, commits, `doit`; and what other tools make of it."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from test_real_backends import content
from uv import find_uv_bin
from world import Run, World

WORKSPACES = Path(__file__).parent / "fixtures/workspaces"

WRITTEN = ("dodo.py", "pyproject.toml", ".gitignore", "buildlib.lock")
"""All that `doit init` may write."""

Wheel = dict[str, tuple[bytes, bool]]
"""The files of a wheel, and whether each is executable; under `name` its own name."""


class Repository(World):
    """A git repository without buildlib in it: `files` are copied and committed, with `tag` on that commit."""

    def __init__(self, root: Path, cache: Path, files: Path | None = None, tag: str = "") -> None:
        root.mkdir(parents=True)
        # What makes a World the engine is what `doit init` has to write here.
        super().__init__(root, cache)
        for name in ("pyproject.toml", "dodo.py", ".gitignore"):
            self.path(name).unlink()
        if files is not None:
            shutil.copytree(files, root, dirs_exist_ok=True, symlinks=True)
            self.commit()
        if tag:
            self.git("tag", tag)

    def written(self) -> dict[str, tuple[bytes, int]]:
        """Return content and modification time of each file that `doit init` may write, where it is there."""
        found = {name: self.path(name) for name in WRITTEN}
        return {name: (p.read_bytes(), p.stat().st_mtime_ns) for name, p in found.items() if p.exists()}

    def wheel(self, name: str) -> Wheel:
        """Return the wheel of a project."""
        (wheel,) = self.path(f".buildlib/wheels/{name}").glob("*.whl")
        return {"name": (wheel.name.encode(), False), **content(wheel.read_bytes())}

    def staged(self, directory: str) -> set[str]:
        """Return the names in the stage of the service in `directory`, with a wheel's file as `NAME.whl`."""
        dist = self.path(f"{directory}/dist")
        files = {str(p.relative_to(dist)) for p in dist.rglob("*") if p.is_file()}
        return {re.sub(r"([\w.]+)-\d[^/]*\.whl$", lambda m: f"{dashed(m[1])}.whl", name) for name in files}

    def clone(self, to: Path) -> Path:
        """Return a fresh clone in `to`."""
        subprocess.run(["git", "clone", "-q", str(self.root), str(to)], check=True)
        return to


@dataclass(frozen=True)
class Adopted:
    """What a repository said on its way: `doit init`, commit, `doit plan`, `doit`, `doit`, `doit init`."""

    repository: Repository
    init: Run
    planned: Run
    first: Run
    status: str
    second: Run
    again: Run
    before: dict[str, tuple[bytes, int]]
    after: dict[str, tuple[bytes, int]]

    def projects(self, verb: str) -> set[str]:
        """Return the projects that have a step `verb`, as the plan of a build from nothing says."""
        tasks = [row["task"].partition(":") for row in json.loads(self.planned.out)]
        return {name for word, _, name in tasks if word == verb}


def adopt(repository: Repository) -> Adopted:
    """Take `repository` from what its team had to a second `doit`, as docs/adopt.md says."""
    init = repository.doit("init")
    repository.commit()
    planned, first = repository.doit("plan", "--json"), repository.doit()
    status = repository.git("status", "--porcelain")
    second, before = repository.doit(), repository.written()
    again = repository.doit("init")
    return Adopted(repository, init, planned, first, status, second, again, before, repository.written())


def dashed(name: str) -> str:
    """Return a project's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    """Return what a command prints; it must succeed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env={**os.environ, **environ}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# -- wheels


def built_by_build(clone: Path, directory: str, out: Path, cache: Path) -> Wheel:
    """Return the wheel that pypa/build makes of `directory` in a clone, whose untracked files are removed first."""
    run("git", "clean", "-qxdff", cwd=clone)
    path = f"{os.path.dirname(find_uv_bin())}:{os.environ['PATH']}"
    command = (sys.executable, "-m", "build", "-w", "--installer", "uv", "-o", out, clone / directory)
    run(*command, cwd=clone, PATH=path, UV_CACHE_DIR=str(cache / "uv-of-build"))
    (wheel,) = out.glob("*.whl")
    return {"name": (wheel.name.encode(), False), **content(wheel.read_bytes())}


def plain(wheel: Wheel) -> Wheel:
    """Return `wheel` with local names plain, as buildlib's are (docs/design.md): `x @ file:///…` becomes `x`."""
    wish = re.compile(rb"(?m)^(Requires-Dist: [\w.-]+(?:\[[^]]*\])?) @ file:[^\s;]+")
    return {
        name: (wish.sub(rb"\1", data) if name.endswith(".dist-info/METADATA") else data, executable)
        for name, (data, executable) in wheel.items()
    }


def code(library: bytes, place: Path) -> bytes:
    """Return a shared library without debug information, which holds the path that it was compiled in."""
    place.write_bytes(library)
    run("objcopy", "--strip-debug", "--remove-section=.note.gnu.build-id", place, cwd=place.parent)
    return place.read_bytes()


def requires(wheel: Wheel) -> list[str]:
    """Return the `Requires-Dist` lines of a wheel, sorted, without what follows a `;`."""
    metadata = next(data for name, (data, _) in wheel.items() if name.endswith(".dist-info/METADATA")).decode()
    said = [line.partition(": ")[2] for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    return sorted(line.partition(";")[0].strip() for line in said if "extra ==" not in line)


# -- slices


def pinned(text: str) -> dict[str, tuple[str, list[str]]]:
    """Return version and hashes by name of what a requirements file installs here."""
    from packaging.requirements import Requirement

    found = {}
    for line in text.replace("\\\n", " ").splitlines():
        words = re.sub(r"(^|\s)#.*", "", line).strip()
        if not words or words.startswith(("-", ".")):
            continue
        head, *hashes = re.split(r"\s+--hash=", words)
        needed = Requirement(head)
        if needed.marker is None or needed.marker.evaluate():
            found[dashed(needed.name)] = (str(needed.specifier), sorted(h.strip() for h in hashes))
    return found


def exported_by_uv(clone: Path, lock: str, package: str) -> dict[str, tuple[str, list[str]]]:
    """Return what `uv export` says that `package` needs, of the lock in the folder `lock` of a clone."""
    options = ("--frozen", "--no-dev", "--no-emit-workspace", "--no-emit-local", "--format", "requirements.txt")
    return pinned(run(find_uv_bin(), "export", "-q", *options, "--package", package, cwd=clone / lock))


def resolved_by_pip(file: Path) -> dict[str, str]:
    """Return the versions by name that pip would install of a hashed requirements file."""
    options = ("--dry-run", "--ignore-installed", "--no-deps", "--require-hashes", "--quiet", "--report", "-")
    said = run(sys.executable, "-m", "pip", "install", *options, "-r", file, cwd=file.parent)
    found = [item["metadata"] for item in json.loads(said)["install"]]
    return {dashed(item["name"]): item["version"] for item in found}


# -- stages


def install(stage: Path, venv: Path, by_pip: bool = True) -> Path:
    """Install a stage as its Dockerfile would, by pip or by uv, into a new environment; return its Python."""
    run(find_uv_bin(), "venv", "-q", "--python", sys.executable, venv, cwd=stage)
    python = venv / "bin/python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-compile")
    command = pip if by_pip else (find_uv_bin(), "pip", "install", "-q", "--python", python)
    if stage.joinpath("requirements.txt").read_text():
        run(*command, "--require-hashes", "-r", "requirements.txt", cwd=stage)
    wheels = [*sorted(stage.glob("deps/*.whl")), *sorted(stage.glob("*.whl"))]
    run(*command, "--no-index", "--no-deps", *wheels, cwd=stage)
    return python


def checked(python: Path) -> str:
    """Return what `pip check` says of an environment."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "check"]
    return subprocess.run(command, capture_output=True, text=True, cwd=python.parent).stdout
