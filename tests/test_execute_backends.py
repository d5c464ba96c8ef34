"""Real build backends in real environments, in a room that lies inside a hostile repository."""

import dataclasses
import io
import subprocess
import zipfile
from pathlib import Path

import pytest
from test_execute_support import Tree, make_environment, poetry_project, wheel_action, wheel_tree

from buildlib.execute.action import Action
from buildlib.execute.local import LocalExecutor

pytestmark = pytest.mark.slow

PROJECT = '[project]\nname = "demo"\nversion = "1.0"\ndescription = "a demo"\nrequires-python = ">=3.9"\n'

# backend → (what is installed, build-backend, more of pyproject.toml)
BACKENDS = {
    "poetry-core": ("poetry-core==2.5.0", "poetry.core.masonry.api", ""),
    "hatchling": ("hatchling==1.33.0", "hatchling.build", ""),
    "flit-core": ("flit-core==4.2.0", "flit_core.buildapi", ""),
    "setuptools": (
        "setuptools==84.2.0",
        "setuptools.build_meta",
        '[tool.setuptools]\npackages = ["demo"]\n[tool.setuptools.package-data]\ndemo = ["data/*"]\n',
    ),
    "uv_build": ("uv_build==0.13.6", "uv_build", '[tool.uv.build-backend]\nmodule-root = ""\n'),
}


class Environments:
    """One real environment per backend, made when first asked for."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.made: dict[str, dict[str, str]] = {}

    def tools(self, backend: str) -> dict[str, str]:
        if backend not in self.made:
            self.made[backend] = make_environment(self.place / backend, BACKENDS[backend][0])
        return self.made[backend]


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Environments:
    return Environments(tmp_path_factory.mktemp("backends"))


def project(backend: str) -> dict[str, str | bytes]:
    requirement, name, more = BACKENDS[backend]
    return {
        "pyproject.toml": f'[build-system]\nrequires = ["{requirement}"]\nbuild-backend = "{name}"\n{PROJECT}{more}',
        "demo/__init__.py": '"""A demo."""\n\n__version__ = "1.0"\n',
        "demo/data/table.csv": "a,b\n",
        "demo/data/build.txt": "",
    }


def hostile_repository(place: Path) -> Path:
    """A workspace whose own files would change every wheel, were they seen; the place of rooms in it."""
    place.mkdir()
    subprocess.run(["git", "init", "-q", place], check=True)
    (place / ".hg").mkdir()
    (place / ".gitignore").write_text(".buildlib/\ndist/\n*.csv\n")
    (place / ".hgignore").write_text("syntax: glob\n*.csv\n")
    (place / ".git/info/exclude").write_text("*.csv\n")
    (place / "pyproject.toml").write_text('[tool.hatch.build]\nexclude = ["*.csv"]\n')
    (place / "hatch.toml").write_text('[build]\nexclude = ["*.csv"]\n')
    (place / "setup.cfg").write_text("[bdist_wheel]\nuniversal = 1\n")
    (place / "MANIFEST.in").write_text("global-exclude *.csv\n")
    # The second line is what hatchling would find first.
    (place / ".buildlib/tmp").mkdir(parents=True)
    (place / ".buildlib/.gitignore").write_text("*.csv\n")
    return place / ".buildlib/tmp"


def build(action: Action, tree: Tree, room: Path, tools: dict[str, str]) -> tuple[str, bytes]:
    """The one wheel: its sha256 and its bytes."""
    executor = LocalExecutor(jobs=1)
    try:
        (output,) = executor.run(action, tree.read, str(room), tools).outputs
    finally:
        executor.close()
    return output.sha256, (room / "root" / output.path).read_bytes()


def members(wheel: bytes) -> set[str]:
    return set(zipfile.ZipFile(io.BytesIO(wheel)).namelist())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("directory", ["", "libs/demo"])
def test_the_tree_around_a_room_has_no_effect(
    tmp_path: Path, environments: Environments, backend: str, directory: str
) -> None:
    tree = wheel_tree(project(backend), directory)
    action = wheel_action(tree, BACKENDS[backend][1], directory=directory)
    tools = environments.tools(backend)
    plain, wheel = build(action, tree, tmp_path / "plain", tools)
    inside, _ = build(action, tree, hostile_repository(tmp_path / "ws") / "wheel-demo", tools)
    assert {"demo/__init__.py", "demo/data/table.csv", "demo/data/build.txt"} <= members(wheel)
    assert inside == plain


@pytest.mark.parametrize("backend", ["poetry-core", "hatchling", "flit-core", "uv_build", "setuptools"])
def test_a_warm_worker_makes_the_bytes_of_a_subprocess(
    tmp_path: Path, environments: Environments, backend: str
) -> None:
    tools = environments.tools(backend)
    trees = [wheel_tree(project(backend)), wheel_tree({**project(backend), "demo/more.py": "x = 1\n"})]
    executor = LocalExecutor(jobs=1)
    cold, warm = [], []
    for kept, is_warm in ((cold, False), (warm, True), (warm, True)):
        for tree in trees:
            action = wheel_action(tree, BACKENDS[backend][1], warm=is_warm)
            kept.append(executor.run(action, tree.read, str(tmp_path / "room"), tools).outputs)
    assert len({worker.process.pid for worker in executor._pool.workers}) == 1
    executor.close()
    assert warm == cold * 2


def test_hatchling_is_stopped_by_the_boundaries_and_by_nothing_else(tmp_path: Path, environments: Environments) -> None:
    """The control of the test above: without the boundaries the outer ignore files do have an effect."""
    tree = wheel_tree(project("hatchling"))
    action = wheel_action(tree, "hatchling.build")
    room = hostile_repository(tmp_path / "ws") / "room"
    remove = "import os, sys; os.unlink('../.git'); os.execv(sys.argv[1], sys.argv[1:])"
    unmarked = dataclasses.replace(action, argv=("{python}", "-c", remove, *action.argv))
    _, wheel = build(unmarked, tree, room, environments.tools("hatchling"))
    assert "demo/data/table.csv" not in members(wheel)


@pytest.mark.parametrize("style", ["poetry", "pep621"])
def test_a_poetry_path_dependency_that_is_not_in_the_room_does_not_stop_the_build(
    tmp_path: Path, environments: Environments, style: str
) -> None:
    files = poetry_project(extra='[tool.poetry.dependencies]\nother = { path = "../other" }\n')
    if style == "pep621":
        files["pyproject.toml"] = str(files["pyproject.toml"]).replace(
            "[tool.poetry]", 'dependencies = ["other"]\n[tool.poetry]', 1
        )
    else:
        files["pyproject.toml"] = (
            '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
            '[tool.poetry]\nname = "demo"\nversion = "1.0"\ndescription = ""\nauthors = []\n'
            '[tool.poetry.dependencies]\npython = ">=3.9"\nother = { path = "../other", develop = true }\n'
        )
    tree = wheel_tree(files, "libs/demo")
    action = wheel_action(tree, "poetry.core.masonry.api", directory="libs/demo")
    room = tmp_path / "room"
    _, wheel = build(action, tree, room, environments.tools("poetry-core"))
    metadata = zipfile.ZipFile(io.BytesIO(wheel)).read("demo-1.0.dist-info/METADATA").decode()
    requires = [line for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    expected = {"pep621": "Requires-Dist: other", "poetry": f"Requires-Dist: other @ file://{room}/root/libs/other"}
    assert requires == [expected[style]]


EXTENSION = """
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "demo_c", __FILE__, -1, NULL};
PyMODINIT_FUNC PyInit_demo_c(void) { return PyModule_Create(&module); }
"""


def test_a_c_extension_does_not_contain_the_room(tmp_path: Path, environments: Environments) -> None:
    files = {
        "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        + PROJECT,
        "setup.py": "from setuptools import Extension, setup\n"
        "setup(packages=[], ext_modules=[Extension('demo_c', ['demo_c.c'])])\n",
        "demo_c.c": EXTENSION,
    }
    tree = wheel_tree(files, "libs/demo")
    action = wheel_action(tree, "setuptools.build_meta", directory="libs/demo")
    tools = environments.tools("setuptools")
    first, wheel = build(action, tree, tmp_path / "one", tools)
    second, _ = build(action, tree, tmp_path / "another/place", tools)
    assert first == second
    assert str(tmp_path).encode() not in extension(wheel)
    bare = dataclasses.replace(action, environment=tuple(item for item in action.environment if item[0] != "CPPFLAGS"))
    _, leaking = build(bare, tree, tmp_path / "one", tools)
    assert str(tmp_path).encode() in extension(leaking)  # the control: without the option it does


def extension(wheel: bytes) -> bytes:
    archive = zipfile.ZipFile(io.BytesIO(wheel))
    return archive.read(next(name for name in archive.namelist() if name.endswith(".so")))


def test_the_interpreters_own_compiler_flags_are_kept(tmp_path: Path, environments: Environments) -> None:
    source = (
        "from setuptools._distutils.ccompiler import new_compiler\n"
        "from setuptools._distutils.sysconfig import customize_compiler, get_config_var\n"
        "compiler = new_compiler(); customize_compiler(compiler)\n"
        "print(set(get_config_var('CFLAGS').split()) <= set(compiler.compiler_so))"
    )
    tree = Tree({})
    room = str(tmp_path / "room")
    result = LocalExecutor(jobs=1).run(tree.script(source), tree.read, room, environments.tools("setuptools"))
    assert result.log.split()[-1] == "True"
