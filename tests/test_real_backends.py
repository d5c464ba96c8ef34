"""Wheels of real backends: each one's content equals what `python -m build -w` makes from a fresh clone."""
# ruff: noqa: E501 (each pyproject.toml is one line)

import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from uv import find_uv_bin
from world import World

pytestmark = pytest.mark.slow

PYPROJECT = '[project]\nname = "{name}"\nversion = "1.2"\nrequires-python = ">=3.8"\n{project}\n[build-system]\nrequires = {requires}\nbuild-backend = "{backend}"\n{more}'
SETUPTOOLS = ('["setuptools>=77"]', "setuptools.build_meta")
HATCHLING = ('["hatchling"]', "hatchling.build")
POETRY = ('["poetry-core>=2"]', "poetry.core.masonry.api")
FLIT = ('["flit_core>=3.11,<5"]', "flit_core.buildapi")
UV = ('["uv_build>=0.9"]', "uv_build")


def project(
    world: World, name: str, backend: tuple[str, str], files: dict[str, str | bytes], project: str = "", more: str = ""
) -> str:
    """Add a project; return its directory."""
    folder = f"libs/{name}"
    world.write(
        f"{folder}/pyproject.toml",
        PYPROJECT.format(name=name, requires=backend[0], backend=backend[1], project=project, more=more),
    )
    for path, data in files.items():
        world.write(f"{folder}/{path}", data)
    return folder


def content(wheel: bytes) -> dict[str, tuple[bytes, bool]]:
    """Return the files of a wheel, and whether each is executable; without what only says who made it."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        found = {
            i.filename: (archive.read(i), bool(i.external_attr >> 16 & 0o111))
            for i in archive.infolist()
            if not i.is_dir()
        }
    record = next(name for name in found if name.endswith(".dist-info/RECORD"))
    del found[record]
    about = record.replace("RECORD", "WHEEL")
    found[about] = (re.sub(rb"Generator: .*\n", b"", found[about][0]), found[about][1])
    return found


def built_by_build(world: World, folder: str, out: Path) -> dict[str, tuple[bytes, bool]]:
    """Return the content of the wheel that pypa/build makes of `folder` in a fresh clone, name first."""
    clone = out / "clone"
    subprocess.run(["git", "clone", "-q", str(world.root), str(clone)], check=True)
    environ = {
        **os.environ,
        "PATH": f"{os.path.dirname(find_uv_bin())}:{os.environ['PATH']}",
        "UV_CACHE_DIR": str(world.environ["BUILDLIB_CACHE"]) + "/uv-of-build",
    }
    command = [sys.executable, "-m", "build", "-w", "--installer", "uv", "-o", str(out / "wheels"), str(clone / folder)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (out / "wheels").glob("*.whl")
    return {"name": (wheel.name.encode(), False), **content(wheel.read_bytes())}


def built_by_us(world: World, name: str) -> dict[str, tuple[bytes, bool]]:
    (wheel,) = world.path(f".buildlib/wheels/{name}").glob("*.whl")
    return {"name": (wheel.name.encode(), False), **content(wheel.read_bytes())}


def rich(name: str, package: str) -> dict[str, str | bytes]:
    """Return the files of a project with data, an own README and licence, a nested package and non-ASCII names."""
    return {
        f"{package}/__init__.py": '"""A package."""\n__version__ = "1.2"\n',
        f"{package}/sub/__init__.py": "",
        f"{package}/sub/data.json": "{}",
        f"{package}/größe.txt": "ü",
        f"{package}/empty.txt": "",
        "README.md": f"# {name}\n",
        "LICENSE": "MIT\n",
        "tests/test_x.py": "",
    }


CASES: dict[str, Callable[[World], str]] = {
    "poetry": lambda w: project(w, "po", POETRY, rich("po", "po"), 'readme = "README.md"\nlicense = "MIT"'),
    "poetry-src": lambda w: project(w, "pos", POETRY, rich("pos", "src/pos"), more='[tool.poetry]\npackages = [{ include = "pos", from = "src" }]\n'),
    "poetry-build-script": lambda w: project(w, "pob", POETRY, {**rich("pob", "pob"), "build.py": "open('pob/made.py', 'w').write('x = 1')\n"}, more='[tool.poetry]\ninclude = [{ path = "pob/made.py", format = "wheel" }]\n[tool.poetry.build]\nscript = "build.py"\n'),
    "hatchling": lambda w: project(w, "ha", HATCHLING, {**rich("ha", "src/ha"), ".gitignore": "*.tmp\n"}, 'readme = "README.md"\nlicense-files = ["LICENSE"]'),
    "setuptools": lambda w: project(w, "se", SETUPTOOLS, rich("se", "se"), more='[tool.setuptools]\npackages = ["se", "se.sub"]\n[tool.setuptools.package-data]\nse = ["*.txt", "sub/*.json"]\n'),
    "setuptools-src-manifest": lambda w: project(w, "sm", SETUPTOOLS, {**rich("sm", "src/sm"), "MANIFEST.in": "recursive-include src *.json *.txt\n"}),
    "setuptools-setup-py": lambda w: project(w, "sp", SETUPTOOLS, {**rich("sp", "sp"), "setup.py": "from setuptools import setup, find_packages\nsetup(packages=find_packages(exclude=['tests*']), scripts=['bin/run'])\n", "bin/run": "#!/bin/sh\necho run\n"}),
    "flit": lambda w: project(w, "fl", FLIT, rich("fl", "fl"), 'dynamic = ["description"]\nreadme = "README.md"\nlicense = "MIT"\nlicense-files = ["LICENSE"]'),
    "uv": lambda w: project(w, "uvb", UV, rich("uvb", "src/uvb"), 'readme = "README.md"'),
    "namespace": lambda w: project(w, "ns-one", SETUPTOOLS, {"src/ns/one/__init__.py": "x = 1\n"}),
    "outside-readme": lambda w: (w.write("README.md", "# all\n"), project(w, "ro", POETRY, rich("ro", "ro"), 'readme = "../../README.md"'))[1],
    "entry-points": lambda w: project(w, "ep", HATCHLING, rich("ep", "ep"), '[project.scripts]\nep = "ep:main"\n[project.entry-points."a.b"]\nx = "ep"'),
    "in-tree-backend": lambda w: project(w, "it", ('["setuptools>=77"]', "mine"), {**rich("it", "src/it"), "tools/mine.py": "from setuptools.build_meta import *\n"}, more='backend-path = ["tools"]\n'),
    "no-build-system": lambda w: (w.write("libs/nb/pyproject.toml", '[project]\nname = "nb"\nversion = "1.2"\n'), w.write("libs/nb/nb/__init__.py", "x = 1\n"), "libs/nb")[2],
    "setup-cfg": lambda w: (w.write("libs/sc/pyproject.toml", '[project]\nname = "sc"\nversion = "1.2"\ndynamic = ["readme"]\n[tool.setuptools.dynamic]\nreadme = {file = ["A.md", "B.md"]}\n'), w.write("libs/sc/A.md", "a"), w.write("libs/sc/B.md", "b"), w.write("libs/sc/sc.py", ""), "libs/sc")[4],
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> World:
    """Return a world with all cases, built once."""
    world = World(tmp_path_factory.mktemp("backends") / "w", cache)
    world.write(".gitignore", ".buildlib/\ndist/\n__pycache__/\n")
    for add in CASES.values():
        add(world)
    world.commit()
    world.good()
    return world


@pytest.mark.parametrize("case", CASES)
def test_a_wheel_has_the_content_that_build_makes_from_a_fresh_clone(built: World, case: str, tmp_path: Path) -> None:
    folder = CASES[case](built)
    theirs, ours = built_by_build(built, folder, tmp_path), built_by_us(built, folder.removeprefix("libs/"))
    assert sorted(ours) == sorted(theirs)
    for name, found in theirs.items():
        assert ours[name] == found, name


def test_building_leaves_nothing_in_the_source_tree(built: World) -> None:
    assert built.git("status", "--porcelain", "--ignored").replace("!! libs/", "").count("dist/") == len(CASES)
    left = [line for line in built.git("status", "--porcelain", "--ignored").splitlines() if not line.endswith("dist/")]
    assert left == ["?? buildlib.lock", "!! .buildlib/"]


def test_a_second_build_of_every_backend_gives_the_same_bytes(built: World) -> None:
    before = built.outputs()
    run = built.good("-a")
    assert {word for _, word, _ in run.steps} == {"unchanged"} and built.outputs() == before


def test_executable_links_and_empty_directories_are_packed_as_build_packs_them(world: World, tmp_path: Path) -> None:
    folder = project(world, "ha", HATCHLING, {"ha/__init__.py": "", "ha/real.txt": "real", "ha/run.sh": "#!/bin/sh\n"})
    world.write("shared/common.txt", "shared")
    world.path(f"{folder}/ha/run.sh").chmod(0o755)
    world.path(f"{folder}/ha/link.txt").symlink_to("real.txt")
    world.path(f"{folder}/ha/outside.txt").symlink_to("../../../shared/common.txt")
    world.path(f"{folder}/ha/nothing").mkdir()
    world.commit()
    world.good()
    ours = built_by_us(world, "ha")
    assert ours == built_by_build(world, folder, tmp_path)
    assert ours["ha/outside.txt"][0] == b"shared" and ours["ha/run.sh"][1]
    world.write("shared/common.txt", "other")
    run = world.good()
    assert run.ran == ["wheel:ha"] and run.reason("wheel:ha") == "shared/common.txt changed"


def test_a_c_extension_builds_and_is_the_same_from_two_paths(worlds: Callable[..., World]) -> None:
    wheels = []
    for name in ("one", "another/longer/path"):
        world = worlds(name, store="off")
        source = '#include <Python.h>\nstatic struct PyModuleDef m = {PyModuleDef_HEAD_INIT, "_c", __FILE__, -1, NULL};\nPyMODINIT_FUNC PyInit__c(void) { return PyModule_Create(&m); }\n'
        setup = "from setuptools import Extension, setup\nsetup(packages=['cx'], ext_modules=[Extension('cx._c', ['cx/_c.c'], extra_compile_args=['-g'])])\n"
        project(world, "cx", SETUPTOOLS, {"cx/__init__.py": "", "cx/_c.c": source, "setup.py": setup})
        world.commit()
        world.good()
        wheels.append(next(world.path(".buildlib/wheels/cx").glob("*.whl")))
    assert wheels[0].name == wheels[1].name and "linux" in wheels[0].name
    assert wheels[0].read_bytes() == wheels[1].read_bytes()


def test_what_a_backend_asks_for_beyond_its_requirements_is_locked_once(world: World) -> None:
    project(
        world,
        "old",
        ('["setuptools>=77", "wheel"]', "setuptools.build_meta"),
        {
            "old.py": "",
            "setup.py": "from setuptools import setup\nsetup(setup_requires=['hatch-fancy-pypi-readme<25'], py_modules=['old'])\n",
        },
    )
    run = world.good()
    assert run.ran == ["wheel:old"] and run.word("wheel:old") == "built"
    assert "hatch-fancy-pypi-readme" in world.read("buildlib.lock")
    lock = world.read("buildlib.lock")
    assert world.good().ran == [] and world.read("buildlib.lock") == lock
    world.path("buildlib.lock").unlink()
    world.good()
    assert world.read("buildlib.lock") == lock
    assert world.good().ran == []


def test_deleted_modules_do_not_live_on_in_setuptools_leftovers(world: World) -> None:
    folder = project(
        world,
        "se",
        SETUPTOOLS,
        {
            "se/__init__.py": "",
            "se/gone.py": "",
            "build/lib/se/ghost.py": "",
            "se.egg-info/SOURCES.txt": "se/ghost.py\n",
        },
        more='[tool.setuptools]\npackages = ["se"]\n',
    )
    world.write(".gitignore", ".buildlib/\ndist/\nbuild/\n*.egg-info/\n")
    world.commit()
    world.good()
    world.path(f"{folder}/se/gone.py").unlink()
    world.good()
    assert not [name for name in built_by_us(world, "se") if "gone" in name or "ghost" in name]


def test_every_style_of_declaring_a_local_dependency_ends_as_its_plain_name(world: World) -> None:
    world.library("base")
    project(
        world,
        "po",
        POETRY,
        {"po/__init__.py": ""},
        'dependencies = ["base"]',
        '[tool.poetry.dependencies]\nbase = {path = "../base", develop = true}\n',
    )
    classic = '[tool.poetry]\nname = "pc"\nversion = "1.2"\ndescription = "x"\nauthors = ["a <a@b.c>"]\n[tool.poetry.dependencies]\npython = "^3.8"\nbase = {path = "../base"}\n[build-system]\nrequires = ["poetry-core>=2"]\nbuild-backend = "poetry.core.masonry.api"\n'
    world.write("libs/pc/pyproject.toml", classic)
    world.write("libs/pc/pc/__init__.py", "")
    project(
        world,
        "ha",
        HATCHLING,
        {"ha/__init__.py": ""},
        'dependencies = ["base @ {root:uri}/../base"]',
        "[tool.hatch.metadata]\nallow-direct-references = true\n",
    )
    project(
        world,
        "se",
        SETUPTOOLS,
        {"se/__init__.py": ""},
        "dependencies = ['base @ file:///nowhere/base ; python_version >= \"3\"']",
        '[tool.setuptools]\npackages = ["se"]\n',
    )
    project(
        world,
        "uw",
        UV,
        {"src/uw/__init__.py": ""},
        'dependencies = ["base"]',
        "[tool.uv.sources]\nbase = {workspace = true}\n",
    )
    world.service("svc", "po", "pc", "ha", "se", "uw")
    world.good()
    for name in ("po", "pc", "ha", "se", "uw"):
        metadata = built_by_us(world, name)[f"{name}-1.2.dist-info/METADATA"][0].decode()
        said = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
        assert [line.partition(";")[0].strip() for line in said] == ["Requires-Dist: base"], name
    assert len(list(world.path("services/svc/dist/deps").iterdir())) == 6
    assert world.read("services/svc/dist/requirements.txt") == ""
