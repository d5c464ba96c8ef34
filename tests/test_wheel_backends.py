"""More real backends, each compared with `python -m build -w` of a fresh clone; and what old projects write."""
# ruff: noqa: E501 (each pyproject.toml is one line)

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from test_real_backends import HATCHLING, POETRY, SETUPTOOLS, built_by_build, built_by_us, content, project, rich
from world import World

from buildlib.errors import BuildlibError
from buildlib.steps.poetry import modern
from buildlib.steps.vcs import dated

SOURCE = '#include <Python.h>\nstatic struct PyModuleDef m = {PyModuleDef_HEAD_INIT, "_c", __FILE__, -1, NULL};\nPyMODINIT_FUNC PyInit__c(void) { return PyModule_Create(&m); }\n'
HOOK = "from hatchling.builders.hooks.plugin.interface import BuildHookInterface\nfrom hatchling.metadata.plugin.interface import MetadataHookInterface\n"
BUILD_HOOK = (
    HOOK
    + "class Mine(BuildHookInterface):\n    def initialize(self, version, build_data):\n        open('src/{0}/made.py', 'w').write('who = 1')\n        build_data['artifacts'].append('src/{0}/made.py')\n"
)
META_HOOK = (
    HOOK
    + "import helper\nclass Meta(MetadataHookInterface):\n    def update(self, metadata):\n        metadata['description'] = helper.TEXT\n"
)
SETUP = "import helper\nfrom setuptools import setup\nsetup(description=helper.TEXT, py_modules=['{0}'])\n"

CASES: dict[str, Callable[[World], str]] = {
    "pdm": lambda w: project(w, "pdm-x", ('["pdm-backend"]', "pdm.backend"), rich("pdm-x", "src/pdm_x"), 'readme = "README.md"'),
    "hatch-build-hook": lambda w: project(w, "hb", HATCHLING, {"src/hb/__init__.py": "", "hatch_build.py": BUILD_HOOK.format("hb")}, more="[tool.hatch.build.targets.wheel.hooks.custom]\n"),
    "hatch-metadata-hook": lambda w: project(w, "hm", HATCHLING, {"src/hm/__init__.py": "", "hatch_build.py": "import sys; sys.path.insert(0, '.')\n" + META_HOOK, "helper.py": "TEXT = 'hm'\n"}, 'dynamic = ["description"]', "[tool.hatch.metadata.hooks.custom]\n"),
    "hatch-hook-needs": lambda w: project(w, "hn", ('["hatchling", "hatch-fancy-pypi-readme"]', "hatchling.build"), {"src/hn/__init__.py": "", "README.md": "# hn\n"}, 'dynamic = ["readme"]', '[tool.hatch.build.targets.wheel]\ndependencies = ["flit_core"]\n[tool.hatch.metadata.hooks.fancy-pypi-readme]\ncontent-type = "text/markdown"\n[[tool.hatch.metadata.hooks.fancy-pypi-readme.fragments]]\npath = "README.md"\n'),
    "scikit-build-core": lambda w: project(w, "sk", ('["scikit-build-core", "cmake", "ninja"]', "scikit_build_core.build"), {"src/sk/__init__.py": "", "CMakeLists.txt": "cmake_minimum_required(VERSION 3.15)\nproject(sk LANGUAGES NONE)\n"}),
    "meson-python": lambda w: project(w, "mp", ('["meson-python", "meson", "ninja"]', "mesonpy"), {"mp.py": "", "meson.build": "project('mp', version: '1.2')\npy = import('python').find_installation()\npy.install_sources('mp.py')\n"}),
    "setuptools-c": lambda w: project(w, "sc", SETUPTOOLS, {"sc/__init__.py": "", "sc/_c.c": SOURCE, "setup.py": "from setuptools import Extension, setup\nsetup(packages=['sc'], ext_modules=[Extension('sc._c', ['sc/_c.c'])])\n"}),
    "setup-cfg-only": lambda w: (w.write("libs/so/setup.cfg", "[metadata]\nname = so\nversion = 1.2\n[options]\npy_modules = so\n"), project(w, "so", SETUPTOOLS, {"so.py": ""}))[1],
}  # fmt: skip


@pytest.mark.slow
def test_more_backends_make_what_build_makes_from_a_fresh_clone(world: World, tmp_path: Path) -> None:
    folders = {case: add(world) for case, add in CASES.items()}
    world.good("lock")
    lock = world.read("buildlib.lock")
    world.commit()
    world.good()
    assert world.read("buildlib.lock") == lock
    for case, folder in folders.items():
        ours, theirs = built_by_us(world, folder.removeprefix("libs/")), built_by_build(world, folder, tmp_path / case)
        for found in (ours, theirs):  # compiled code has the path of its room in it, unless it is mapped away
            for name in [n for n in found if n.endswith(".so")]:
                found[name] = (b"", found[name][1])
        assert ours == theirs, case


@pytest.mark.slow
def test_two_projects_with_an_equally_named_helper_get_their_own(world: World) -> None:
    for name in ("aa", "bb", "cc"):
        project(
            world,
            name,
            SETUPTOOLS,
            {
                f"{name}.py": "",
                "helper.py": f"TEXT = 'text of {name}'\n",
                "setup.py": "import sys; sys.path.insert(0, '.')\n" + SETUP.format(name),
            },
            'dynamic = ["description"]',
        )
        inside = f"{name}i"
        project(
            world,
            inside,
            ('["setuptools>=77"]', "mine"),
            {
                f"{inside}.py": "",
                "own/helper.py": f"TEXT = 'text of {inside}'\n",
                "own/mine.py": "import helper\nfrom setuptools.build_meta import *\n",
                "setup.py": SETUP.format(inside),
            },
            'dynamic = ["description"]',
            'backend-path = ["own"]\n',
        )
    world.good("-n", "2")
    for name in ("aa", "bb", "cc", "aai", "bbi", "cci"):
        metadata = built_by_us(world, name)[f"{name}-1.2.dist-info/METADATA"][0].decode()
        assert f"Summary: text of {name}\n" in metadata


@pytest.mark.slow
def test_native_wheels_are_the_same_from_two_paths_times_and_umasks(worlds: Callable[..., World]) -> None:
    build = "import os, sysconfig, subprocess\ndef build(setup_kwargs):\n    suffix = sysconfig.get_config_var('EXT_SUFFIX')\n    subprocess.run(['cc', '-shared', '-fPIC', '-g', *os.environ['CPPFLAGS'].split(), '-I' + sysconfig.get_path('include'), 'pn/_c.c', '-o', 'pn/_c' + suffix], check=True)\nif __name__ == '__main__':\n    build({})\n"
    found = []
    for name, mask in (("one", 0o022), ("another/longer/path", 0o077)):
        world = worlds(name, store="off")
        before = os.umask(mask)
        try:
            project(
                world,
                "pn",
                POETRY,
                {"pn/__init__.py": "", "pn/_c.c": SOURCE, "build.py": build},
                more='[tool.poetry]\ninclude = [{ path = "pn/*.so", format = "wheel" }]\n[tool.poetry.build]\nscript = "build.py"\ngenerate-setup-file = false\n',
            )
            project(
                world,
                "cn",
                SETUPTOOLS,
                {
                    "cn/__init__.py": "",
                    "cn/_c.c": SOURCE,
                    "setup.py": "from setuptools import Extension, setup\nsetup(packages=['cn'], ext_modules=[Extension('cn._c', ['cn/_c.c'], extra_compile_args=['-g'])])\n",
                },
            )
            world.commit()
            world.good()
        finally:
            os.umask(before)
        found.append(
            {p.name: p.read_bytes() for n in ("pn", "cn") for p in world.path(f".buildlib/wheels/{n}").glob("*.whl")}
        )
    assert found[0] == found[1] and len(found[0]) == 2
    assert all("linux" in name and any(n.endswith(".so") for n in content(data)) for name, data in found[0].items())


@pytest.mark.parametrize("pattern", [".buildlib/", "tmp/", "root", "wheel-*"])
def test_hatchling_leaves_out_what_is_ignored_wherever_the_room_lies(
    world: World, tmp_path: Path, pattern: str
) -> None:
    folder = project(world, "ha", HATCHLING, {"ha/__init__.py": "", "ha/ignored.log": "tracked all the same"})
    project(world, "hb", HATCHLING, {"hb/__init__.py": "", "hb/own.log": "", ".gitignore": f"*.log\n{pattern}\n"})
    world.write(".gitignore", f".buildlib/\ndist/\n*.log\n{pattern}\n")
    world.git("add", "-A")
    world.git("add", "-f", "libs/ha/ha/ignored.log", "libs/hb/hb/own.log")
    world.commit()
    world.good()
    ours = built_by_us(world, "ha")
    if f"/{pattern}" not in f"{tmp_path}/":  # else hatchling obeys no pattern in the clone
        assert ours == built_by_build(world, folder, tmp_path)
    assert "ha/ignored.log" not in ours and "hb/own.log" not in built_by_us(world, "hb")


OLD = '[tool.poetry]\nname = "{0}"\nversion = "1.2"\ndescription = ""\nauthors = ["a <a@b.c>"]\n[tool.poetry.dependencies]\npython = "^3.8"\n{1}[tool.poetry.dev-dependencies]\n{2}[build-system]\nrequires = ["poetry-core>=1.2"]\nbuild-backend = "poetry.core.masonry.api"\n'


@pytest.mark.slow
def test_empty_versions_of_poetry_1_build_with_a_warning_that_names_the_cure(world: World) -> None:
    world.library("base")
    world.library("more")
    path = 'base = {path = "../base"}\nmore = {path = "../more"}\n'
    world.write(
        "libs/old/pyproject.toml", OLD.format("old", 'base = ""\nmore = { version = "", python = ">=3.8" }\n', path)
    )
    world.write("libs/old/old/__init__.py", "")
    world.commit()
    run = world.good()
    place = "libs/old/pyproject.toml: tool.poetry.dependencies"
    assert [line for line in run.err.splitlines() if line.startswith(place)] == [
        f'{place}.{name} has an empty version, which poetry-core refuses: built as "*"; write {name} = "*"'
        for name in ("base", "more")
    ]
    metadata = built_by_us(world, "old")["old-1.2.dist-info/METADATA"][0].decode()
    assert [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")] == [
        "Requires-Dist: base",
        'Requires-Dist: more ; python_version >= "3.8"',
    ]
    run = world.good()
    assert run.ran == [] and run.err == ""
    assert 'base = ""' in world.read("libs/old/pyproject.toml")


@pytest.mark.slow
def test_the_backend_of_the_first_poetry_builds(world: World) -> None:
    text = (
        OLD.format("old", "", "")
        .replace("poetry-core>=1.2", "poetry>=0.12")
        .replace("poetry.core.masonry", "poetry.masonry")
    )
    world.write("libs/old/pyproject.toml", text)
    world.write("libs/old/old/__init__.py", "")
    assert world.good().ran == ["wheel:old"]


def test_only_empty_versions_of_main_dependencies_are_edited() -> None:
    text = OLD.format(
        "x",
        'a = \'\'  # any\r\n"b.c" = ""\nd = [{version = "", python = "<3.9"}, {version = \'1\'}]\n[tool.poetry.dependencies.e]\nversion = ""\n',
        'f = ""\n',
    )
    edited, names = modern(text.encode())
    assert names == ("a", "b.c", "d", "e")
    wanted = (
        text.replace("a = ''  #", 'a = "*"  #')
        .replace('"b.c" = ""', '"b.c" = "*"')
        .replace('{version = "",', '{version = "*",')
        .replace('e]\nversion = ""', 'e]\nversion = "*"')
    )
    assert edited.decode() == wanted
    assert modern(edited) == (edited, ())


def test_an_empty_version_that_cannot_be_edited_is_an_error_with_its_cure() -> None:
    with pytest.raises(BuildlibError, match=r'p: tool.poetry.dependencies.x has an empty version.*; write x = "\*"'):
        modern(b'tool = {poetry = {dependencies = {x = ""}}}\n', "p")


@pytest.mark.parametrize(("version", "has"), [("1.0.dev1+gabc.d20261124", True), ("2026.11.24", True), ("20261124120000", True), ("2026.11.240", False), ("1.20261125", False), ("120261124", False), ("2026.11.2", False)])  # fmt: skip
def test_a_date_in_a_version_is_found(version: str, has: bool) -> None:
    assert dated(version, 1795521600.0) is has


def test_a_version_with_todays_date_is_warned_about_once(world: World) -> None:
    world.library("base")
    backend = world.read("libs/base/backend/tiny.py").replace(
        'project["version"]\n', 'project.get("version", __import__("time").strftime("%Y.%m.%d"))\n'
    )
    world.write("libs/base/backend/tiny.py", backend)
    world.edit("libs/base/pyproject.toml", 'version = "1.0"', 'dynamic = ["version"]')
    run = world.good()
    today = subprocess.run(["date", "-u", "+%Y.%m.%d"], capture_output=True, text=True, check=True).stdout.strip()
    assert (
        run.err.startswith(f"libs/base/pyproject.toml: its version {today} has today's date in it")
        and run.err.count("\n") == 1
    )
    assert world.good().err == ""
