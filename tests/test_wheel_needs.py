"""Local projects in `build-system.requires`: built first, installed for the build, never asked of an index."""

import json

import pytest
from world import World

PLUGIN = """
import os, shared_helper
def get_requires_for_build_wheel(config_settings=None): return json.loads(os.environ.get("NOTHING", "[]"))
from tiny_backend import build_wheel as _build
def build_wheel(directory, settings=None, metadata=None):
    with open("stamp.txt", "w") as file:
        file.write(shared_helper.WORD)
    return _build(directory, settings, metadata)
"""


def plugin(world: World, word: str = "one") -> None:
    """Add `our-backend`, which needs `shared-helper` when it runs."""
    world.library("shared-helper")
    world.write("libs/shared-helper/shared_helper/__init__.py", f"WORD = {word!r}\n")
    world.library("our-backend", "shared-helper")
    world.write("libs/our-backend/our_backend/__init__.py", "import json\n" + PLUGIN)
    world.write("libs/our-backend/tiny_backend/__init__.py", world.read("libs/our-backend/backend/tiny.py"))


def user(world: World, name: str, *requires: str, more: str = "") -> None:
    """Add a project that is built by `our-backend`."""
    world.library(name)
    world.write(
        f"libs/{name}/pyproject.toml",
        f'[project]\nname = "{name}"\nversion = "1.0"\n[build-system]\nrequires = {json.dumps(list(requires))}\n'
        f'build-backend = "our_backend"\n{more}',
    )


def test_a_local_build_requirement_is_built_first_with_all_it_needs(world: World) -> None:
    plugin(world)
    user(world, "app", "our-backend")
    run = world.good("wheel:app")
    assert [task for task, _, _ in run.steps][-1] == "wheel:app"
    assert run.ran == ["wheel:app", "wheel:our-backend", "wheel:shared-helper"]
    assert world.good("wheel:app").ran == []
    world.edit("libs/shared-helper/shared_helper/__init__.py", "one", "two")
    run = world.good()
    assert run.ran == ["wheel:app", "wheel:shared-helper"] and run.reason("wheel:app") == "wheel shared-helper changed"
    world.edit("libs/our-backend/tests/test_our_backend.py", "True", "1")
    assert world.good().ran == ["wheel:our-backend"]  # the same bytes: nothing follows


@pytest.mark.parametrize("how", ["itself", "runtime", "build"])
def test_a_cycle_through_build_requirements_is_named_and_the_others_go_on(world: World, how: str) -> None:
    plugin(world)
    world.library("other")
    user(world, "app", "our-backend" if how != "itself" else "app")
    if how == "runtime":
        world.edit("libs/shared-helper/pyproject.toml", "dependencies = []", 'dependencies = ["app"]')
    if how == "build":
        world.edit("libs/shared-helper/pyproject.toml", "requires = []", 'requires = ["app"]')
    run = world.doit()
    around = {
        "itself": "app -> app",
        "runtime": "app -> our-backend -> shared-helper -> app",
        "build": "app -> our-backend -> shared-helper -> app",
    }[how]
    line = f"libs/app/pyproject.toml: its build requirements form a cycle: {around}; "
    assert run.code != 0 and run.err.count(line) == 1 and "Traceback" not in run.err
    assert run.word("wheel:other") == "built"


def test_what_a_backend_asks_for_and_is_local_has_to_be_declared(world: World) -> None:
    plugin(world)
    world.edit("libs/our-backend/our_backend/__init__.py", '"[]"', "'[\"other>=1\"]'")
    world.library("other")
    user(world, "app", "our-backend")
    run = world.doit("wheel:app")
    assert run.word("wheel:app") == "failed"
    cause = "its backend asks for the local project other, which is not built before it"
    assert run.err == f"libs/app/pyproject.toml: {cause}; add other to build-system.requires\n"
    user(world, "app", "our-backend", "other")
    assert world.good("wheel:app").ran == ["wheel:app", "wheel:other"]
    assert world.good("wheel:app").ran == []


def test_pinning_goes_on_past_a_bad_project_and_leaves_nothing_to_add(world: World) -> None:
    plugin(world)
    user(world, "app", "our-backend")
    world.library("asks")
    ask = "def get_requires_for_build_wheel(config_settings=None): return ['flit_core<4']\n"
    world.write("libs/asks/backend/tiny.py", world.read("libs/asks/backend/tiny.py") + ask)
    world.library("bad")
    world.write("libs/bad/backend/tiny.py", "raise SystemExit('broken on purpose')\n")
    run = world.doit("lock")
    assert run.code == 1 and "libs/bad" in run.err and "flit-core (new) -> " in run.out
    lock = world.read("buildlib.lock")
    assert '"asks" = ["flit-core<4"]' in lock
    assert not world.path("libs/shared-helper/dist").exists() and not list(world.path(".buildlib/tmp").glob("*"))
    world.path("libs/bad/pyproject.toml").unlink()
    world.good()
    assert world.read("buildlib.lock") == lock
    assert world.good("lock").out == "" and world.good("lock", "--upgrade").out == ""
    assert world.read("buildlib.lock") == lock


def test_what_a_build_needs_has_to_be_a_package(world: World) -> None:
    plugin(world)
    user(world, "app", "our-backend")
    world.library("other")
    world.edit("libs/our-backend/pyproject.toml", "[build-system]", "[tool.uv]\npackage = false\n[build-system]")
    run = world.doit()
    said = "libs/app/pyproject.toml: its build needs our-backend, which is no package; let libs/our-backend"
    assert run.code != 0 and said in run.err and "Traceback" not in run.err
    assert run.word("wheel:other") == "built"
