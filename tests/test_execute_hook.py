"""The PEP 517 hook script, run as an action of its own with backends that live in the project (backend-path)."""

from pathlib import Path

import pytest
from test_execute_support import HERE_TOOLS, Tree, wheel_action, wheel_tree

from buildlib.execute.action import ActionFailed, MissingRequires, Result
from buildlib.execute.hook import Unusable, normalise_requirement, parse, unknown_requires
from buildlib.execute.local import LocalExecutor

# A backend whose wheel is the text it is told; what a test needs is written above or below it.
BACKEND = """
import os, sys
def build_wheel(directory, config_settings=None, metadata_directory=None):
    open(os.path.join(directory, 'a-1-py3-none-any.whl'), 'w').write('wheel')
    print('settings', config_settings)
    return 'a-1-py3-none-any.whl'
"""


def build(tmp_path: Path, files: dict[str, str], *more: str, backend: str = "own", directory: str = "libs/a") -> Result:
    tree = wheel_tree({**files}, directory)
    action = wheel_action(tree, backend, *more, directory=directory)
    return LocalExecutor(jobs=1).run(action, tree.read, str(tmp_path / "room"), HERE_TOOLS)


def fail(tmp_path: Path, files: dict[str, str], *more: str, backend: str = "own") -> str:
    """The log of a build that fails."""
    with pytest.raises(ActionFailed, match=r"exit code 1\b") as raised:
        build(tmp_path, files, *more, backend=backend)
    return raised.value.detail


def test_a_backend_of_the_project_is_found_in_its_backend_path(tmp_path: Path) -> None:
    result = build(tmp_path, {"ours/own.py": BACKEND}, "--backend-path", "ours")
    assert [output.path for output in result.outputs] == [".out/a-1-py3-none-any.whl"]


def test_config_settings_reach_the_backend(tmp_path: Path) -> None:
    result = build(
        tmp_path, {"own.py": BACKEND}, "--backend-path", ".", "--config-settings", '{"a": ["b", "{python}"]}'
    )
    assert f"settings {{'a': ['b', '{HERE_TOOLS['python']}']}}" in result.log
    assert "settings None" in build(tmp_path, {"own.py": BACKEND}, "--backend-path", ".").log


def test_a_backend_may_be_an_attribute_of_a_module(tmp_path: Path) -> None:
    source = (
        BACKEND + "class outer:\n    class inner:\n        build_wheel = staticmethod(build_wheel)\ndel build_wheel\n"
    )
    result = build(tmp_path, {"own.py": source}, "--backend-path", ".", backend="own:outer.inner")
    assert len(result.outputs) == 1


def test_the_project_directory_is_not_on_the_path_without_backend_path(tmp_path: Path) -> None:
    assert "ModuleNotFoundError: No module named 'own'" in fail(tmp_path, {"own.py": BACKEND})


def test_modules_beside_the_hook_script_do_not_shadow_the_standard_library(tmp_path: Path) -> None:
    tree = Tree({**wheel_tree({"own/own.py": BACKEND}).content, "json.py": "boom!", "traceback.py": "boom!"})
    action = wheel_action(tree, "own", "--backend-path", "own", "--config-settings", "{}")
    assert LocalExecutor(jobs=1).run(action, tree.read, str(tmp_path / "room"), HERE_TOOLS).outputs


@pytest.mark.parametrize("path", ["..", "/tmp", "x/../.."])
def test_a_backend_path_outside_the_project_is_refused(tmp_path: Path, path: str) -> None:
    assert "leaves the project" in fail(tmp_path, {"x/own.py": BACKEND}, "--backend-path", path)


def test_a_backend_that_is_not_in_its_backend_path_is_refused(tmp_path: Path) -> None:
    log = fail(tmp_path, {"ours/other.py": ""}, "--backend-path", "ours", backend="json")
    assert "not in backend-path" in log


def test_requirements_that_are_not_known_come_back_as_data(tmp_path: Path) -> None:
    source = BACKEND + "def get_requires_for_build_wheel(settings=None): return ['numpy>=2', 'Cython', 'numpy >= 2']\n"
    with pytest.raises(MissingRequires) as raised:
        build(tmp_path, {"own.py": source}, "--backend-path", ".", "--known", "cython")
    assert raised.value.requires == ("numpy >= 2",)
    assert raised.value.place == "libs/a"


def test_known_requirements_do_not_stop_the_build(tmp_path: Path) -> None:
    source = BACKEND + "def get_requires_for_build_wheel(settings=None): return ['numpy>=2', 'Cython']\n"
    known = ("--known", "numpy >=2", "cython", "--known", "setuptools")
    assert build(tmp_path, {"own.py": source}, "--backend-path", ".", *known).outputs


def test_exit_code_64_alone_is_an_ordinary_failure(tmp_path: Path) -> None:
    source = "import os\ndef build_wheel(*args): os._exit(64)\n"
    with pytest.raises(ActionFailed, match="exit code 64"):
        build(tmp_path, {"own.py": source}, "--backend-path", ".")


def test_an_exception_of_the_backend_is_a_traceback_in_the_log(tmp_path: Path) -> None:
    log = fail(
        tmp_path, {"own.py": "def build_wheel(*args): raise ValueError('no such file')\n"}, "--backend-path", "."
    )
    assert "Traceback" in log and "ValueError: no such file" in log


@pytest.mark.parametrize("code", ["0", "None", "'bad option'"])
def test_a_backend_that_exits_has_not_built(tmp_path: Path, code: str) -> None:
    log = fail(tmp_path, {"own.py": f"def build_wheel(*args): raise SystemExit({code})\n"}, "--backend-path", ".")
    assert "the backend called exit" in log


@pytest.mark.parametrize(
    "body",
    [
        "return 'a.whl'",
        "open(d + '/a.whl', 'w'); open(d + '/b.whl', 'w'); return 'a.whl'",
        "open(d + '/a.whl', 'w'); return 'b.whl'",
        "open(d + '/a.whl', 'w'); return None",
    ],
    ids=["none", "two", "another", "no name"],
)
def test_anything_but_the_one_wheel_that_was_promised_is_a_failure(tmp_path: Path, body: str) -> None:
    log = fail(tmp_path, {"own.py": f"def build_wheel(d, *args): {body}\n"}, "--backend-path", ".")
    assert "says it built" in log and "Traceback" not in log


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Foo_Bar.baz", "foo-bar-baz"),
        ("a>=1,<2", "a <2, >= 1"),
        ("a (>=1)", "a>=1"),
        ("a[X,y_z]", "A[y-z, x]"),
        ('a; python_version < "3.9"', "a ;python_version<'3.9'"),
        ("a @ https://h/x.whl", "a  @  https://h/x.whl"),
    ],
)
def test_spellings_of_one_requirement_are_equal(one: str, other: str) -> None:
    assert normalise_requirement(one) == normalise_requirement(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a>=1", "a>=2"),
        ("a", "a[x]"),
        ("a", "a; sys_platform == 'linux'"),
        ("a@https://h/x", "a@https://h/y"),
        ("a", "ab"),
    ],
)
def test_different_requirements_are_not_equal(one: str, other: str) -> None:
    assert normalise_requirement(one) != normalise_requirement(other)
    assert unknown_requires([one], [other]) == [one]


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["build_sdist", "--backend", "x", "--output", "o"],
        ["build_wheel", "--backend", "x"],
        ["build_wheel", "--backend", "x", "--output", "o", "--no-such", "y"],
        ["build_wheel", "stray", "--backend", "x", "--output", "o"],
        ["build_wheel", "--backend", "x", "y", "--output", "o"],
    ],
)
def test_wrong_usage_is_refused(argv: list[str]) -> None:
    with pytest.raises(Unusable):
        parse(argv)
