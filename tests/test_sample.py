"""What can be said about the sample workspace without the engine: any stranger's tools can build, lock and test it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

ROOT = Path(__file__).parent.parent
WRITTEN_AS = {"parcel-tracking": "tracking"}  # the one library whose name is not what one imports


@dataclass(frozen=True)
class Project:
    """A project as its own pyproject.toml tells it; `path` is relative to the root."""

    path: Path

    @cached_property
    def table(self) -> dict[str, Any]:
        return tomllib.loads((ROOT / self.path / "pyproject.toml").read_text())

    @property
    def name(self) -> str:
        return canonicalize_name(self.table["project"]["name"])

    @property
    def module(self) -> str:
        return WRITTEN_AS.get(self.name, self.name.replace("-", "_"))

    @property
    def needs(self) -> set[str]:
        return {canonicalize_name(Requirement(text).name) for text in self.table["project"]["dependencies"]}

    @property
    def tools(self) -> list[str]:
        """What its tests need beside it, in whichever table it says so; libraries need nothing."""
        poetry = self.table.get("tool", {}).get("poetry", {}).get("group", {})
        listed = poetry.get("dev", {}).get("dependencies", {})
        return [
            *(name + version for name, version in listed.items()),
            *self.table.get("dependency-groups", {}).get("dev", []),
        ]

    @property
    def source(self) -> Path:
        flat = ROOT / self.path / self.module
        return flat if flat.is_dir() else ROOT / self.path / "src" / self.module


PROJECTS = [Project(p.parent.relative_to(ROOT)) for p in sorted(ROOT.glob("*/*/pyproject.toml"))]
LIBRARIES = {project.name: project for project in PROJECTS if project.path.parts[0] == "libs"}
SERVICES = {project.name: project for project in PROJECTS if project.path.parts[0] == "services"}
LOCKS = [lock.relative_to(ROOT) for lock in sorted(ROOT.glob("*/*/*.lock"))]

each_project = pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
each_lock = pytest.mark.parametrize("lock", LOCKS, ids=str)


def closure(project: Project) -> set[str]:
    """The names of the libraries that a project needs, directly or not."""
    direct = project.needs & LIBRARIES.keys()
    return direct.union(*(closure(LIBRARIES[name]) for name in direct))


# What the projects say


def test_there_are_three_services_and_more_than_three_libraries() -> None:
    assert set(SERVICES) == {"svc-a", "svc-b", "svc-report"}
    assert len(LIBRARIES) > 3


def test_every_library_is_in_some_service() -> None:
    assert set().union(*map(closure, SERVICES.values())) == LIBRARIES.keys()


def test_one_library_is_reached_only_through_another() -> None:
    direct = set().union(*(service.needs for service in SERVICES.values()))
    assert LIBRARIES.keys() - direct == {"geo"}


def test_one_library_is_not_imported_by_its_name() -> None:
    assert [name for name, library in LIBRARIES.items() if library.module != name] == ["parcel-tracking"]
    assert all(project.source.joinpath("__init__.py").is_file() for project in PROJECTS)


@each_project
def test_what_a_project_imports_is_what_it_declares(project: Project) -> None:
    trees = (ast.parse(path.read_text()) for path in project.source.rglob("*.py"))
    used = {name.partition(".")[0] for tree in trees for name in imported(tree)}
    used -= sys.stdlib_module_names | {project.module}
    assert used == {WRITTEN_AS.get(name, name.replace("-", "_")) for name in project.needs}


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@each_project
def test_a_project_is_built_by_a_backend_alone(project: Project) -> None:
    (requirement,) = map(Requirement, project.table["build-system"]["requires"])
    assert requirement.name in {"poetry-core", "hatchling"}
    assert {specifier.operator for specifier in requirement.specifier} == {">=", "<"}


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_a_service_has_a_main_a_dockerfile_and_third_party_requirements(service: Project) -> None:
    assert service.source.joinpath("__main__.py").is_file()
    assert service.needs - LIBRARIES.keys()
    dockerfile = (ROOT / service.path / "Dockerfile").read_text()
    sources = re.findall(r"^(?:COPY|ADD) (\S+)", dockerfile, re.MULTILINE)
    assert sources == ["requirements.txt", "./deps/*.whl", "./*.whl"]
    assert re.search(r"^USER \d", dockerfile, re.MULTILINE)


# What the locks say


def test_there_is_one_lock_a_service_and_both_formats() -> None:
    assert [lock.parent for lock in LOCKS] == [service.path for service in SERVICES.values()]
    assert {lock.name for lock in LOCKS} == {"poetry.lock", "uv.lock"}


@each_lock
def test_a_lock_names_no_machine_and_no_private_index(lock: Path) -> None:
    text = (ROOT / lock).read_text()
    hosts = set(re.findall(r'(?:url|registry) = "\w+://([^/"]*)', text))
    assert hosts <= {"files.pythonhosted.org", "pypi.org"}
    assert "file:" not in text
    assert not re.search(r'(?:url|path|editable|directory) = "/', text)


@each_lock
def test_a_lock_has_the_whole_closure_by_path(lock: Path) -> None:
    packages = tomllib.loads((ROOT / lock).read_text())["package"]
    sources = {package["name"]: package.get("source", {}) for package in packages}
    where = {name: source.get("editable") or source.get("url") for name, source in sources.items()}
    service = next(service for service in SERVICES.values() if service.path == lock.parent)
    expected = {name: f"../../{LIBRARIES[name].path.as_posix()}" for name in closure(service)}
    assert {name: where[name] for name in LIBRARIES if name in where} == expected


# What tools make of them


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, check=False)


def succeed(*command: str | Path, cwd: Path) -> str:
    result = run(*command, cwd=cwd)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    return output


def make_venv(venv: Path, *requirements: str | Path) -> Path:
    """The interpreter of a new venv with these and what they need."""
    succeed(find_uv_bin(), "venv", "--quiet", "--python", sys.executable, venv, cwd=venv.parent)
    succeed(find_uv_bin(), "pip", "install", "--quiet", "--python", venv, *requirements, cwd=venv.parent)
    return venv / "bin/python"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks here, as it is in the working tree."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(["git", "ls-files", "-z", "libs", "services"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheels(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel of every project, by `python -m build -w` in a fresh clone."""
    made = {}
    for project in PROJECTS:
        out = tmp_path_factory.mktemp(project.name)
        succeed(sys.executable, "-m", "build", "-w", "--installer", "uv", "-o", out, clone / project.path, cwd=out)
        (made[project.name],) = out.glob("*.whl")
    return made


@pytest.mark.slow
@each_project
def test_a_wheel_has_the_whole_package_and_names_its_libraries_plainly(
    project: Project, wheels: dict[str, Path], clone: Path
) -> None:
    source = clone / project.source.relative_to(ROOT)
    files = {path.relative_to(source.parent).as_posix() for path in source.rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheels[project.name]) as wheel:
        assert {name for name in wheel.namelist() if ".dist-info/" not in name} == files
        (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        lines = re.findall(r"^Requires-Dist: (.*)$", wheel.read(metadata).decode(), re.MULTILINE)
    requirements = list(map(Requirement, lines))
    assert {canonicalize_name(requirement.name) for requirement in requirements} == project.needs
    assert not any(requirement.url for requirement in requirements)


@pytest.mark.slow
@each_project
def test_a_project_passes_its_own_tests_on_wheels_alone(
    project: Project, wheels: dict[str, Path], clone: Path, tmp_path: Path
) -> None:
    local = [wheels[name] for name in sorted({project.name} | closure(project))]
    python = make_venv(tmp_path / "venv", *local, *project.tools)
    shutil.copytree(clone / project.path / "tests", tmp_path / "tests")
    runner = ["pytest", "tests"] if project.tools else ["unittest", "discover", "-v", "tests"]
    output = succeed(python, "-m", *runner, cwd=tmp_path)
    assert "Ran 0 tests" not in output  # unittest calls that a success before Python 3.12


@pytest.fixture(scope="module")
def poetry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Poetry, in a venv of its own."""
    folder = tmp_path_factory.mktemp("poetry")
    try:
        return make_venv(folder / "venv", "poetry>=2.2,<3").with_name("poetry")
    except AssertionError as error:
        pytest.skip(f"poetry cannot be installed here: {error}")


@pytest.mark.slow
@each_lock
def test_a_lock_is_fresh_and_its_tool_would_see_if_it_were_not(
    lock: Path, clone: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if lock.name == "poetry.lock":
        check = [request.getfixturevalue("poetry"), "check", "--lock"]
    else:
        check = [find_uv_bin(), "--no-config", "lock", "--check"]
    stranger = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "POETRY_"))}
    shutil.copytree(clone, tmp_path, dirs_exist_ok=True)
    pyproject = (tmp_path / lock).with_name("pyproject.toml")

    fresh = run(*check, cwd=pyproject.parent, env=stranger)
    pyproject.write_text(pyproject.read_text().replace("dependencies = [", 'dependencies = [\n    "idna",', 1))
    stale = run(*check, cwd=pyproject.parent, env=stranger)
    assert fresh.returncode == 0, fresh.stdout + fresh.stderr
    assert stale.returncode != 0
