"""Dependencies that `[project]` leaves to its backend: from the lock, else from what the backend says."""

import json

import pytest
from world import World


@pytest.fixture
def dynamic(world: World) -> World:
    """Return a world where svc needs app, whose backend reads what app needs from a file."""
    world.library("base")
    world.library("other")
    app = world.library("app")
    world.edit(f"{app}/pyproject.toml", "dependencies = []", 'dynamic = ["dependencies"]')
    world.edit(
        f"{app}/backend/tiny.py",
        'project.get("dependencies", ())',
        'open("needs.txt").read().split("\\n") if r',
    )
    world.write(f"{app}/needs.txt", "base\n")
    world.service("svc", "app")
    return world


def deps(world: World) -> list[str]:
    return sorted(p.name.partition("-")[0] for p in world.path("services/svc/dist/deps").iterdir())


def test_what_a_backend_says_is_needed_is_staged(dynamic: World) -> None:
    run = dynamic.good()
    assert run.word("stage:svc") == "built" and deps(dynamic) == ["app", "base"]
    assert dynamic.good().ran == []
    assert json.loads(dynamic.good("plan", "--json").out) == []


def test_what_a_backend_says_is_asked_again_once_its_files_change(dynamic: World) -> None:
    dynamic.good()
    dynamic.write("libs/app/needs.txt", "other\n")
    run = dynamic.good()
    assert run.ran == ["stage:svc", "wheel:app"] and deps(dynamic) == ["app", "other"]
    assert dynamic.good().ran == []
    dynamic.write("libs/base/base/__init__.py", "x = 1\n")
    assert dynamic.good("build:svc").ran == []


def test_a_change_of_dynamic_dependencies_counts_for_a_service_built_by_name_too(dynamic: World) -> None:
    dynamic.good()
    dynamic.write("libs/app/needs.txt", "base\nother\n")
    assert dynamic.good("build:svc").word("stage:svc") == "built"
    assert deps(dynamic) == ["app", "base", "other"]


def test_a_plan_asks_no_backend(dynamic: World) -> None:
    dynamic.edit("libs/app/backend/tiny.py", "import base64", "open('asked', 'w')\nimport base64")
    dynamic.good("plan")
    dynamic.good("list")
    assert not dynamic.path(".buildlib/tmp").exists() or not any(dynamic.path(".buildlib/tmp").iterdir())
    assert not dynamic.path(".buildlib/wheels").exists()


def test_a_backend_that_fails_is_that_projects_error_alone(dynamic: World) -> None:
    dynamic.path("libs/app/needs.txt").unlink()
    run = dynamic.doit()
    assert run.code != 0 and run.word("wheel:base") == "built" and run.word("stage:svc") == "skipped"
    assert run.err.count("libs/app: the build ended with exit code 1") == 1
    dynamic.write("libs/app/needs.txt", "base\n")
    dynamic.good()
    assert deps(dynamic) == ["app", "base"]


def test_a_dynamic_cycle_is_named_in_full(dynamic: World) -> None:
    dynamic.edit("libs/base/pyproject.toml", "dependencies = []", 'dependencies = ["app"]')
    assert "its dependencies form a cycle: app -> base -> app" in dynamic.doit().err


def test_the_file_that_a_backend_reads_is_the_reason_planned_and_run(dynamic: World) -> None:
    dynamic.good()
    dynamic.write("libs/app/needs.txt", "other\n")
    (planned, *_) = json.loads(dynamic.good("plan", "wheel:app", "--json").out)
    assert dynamic.good("wheel:app").reason("wheel:app") == planned["reason"] == "libs/app/needs.txt changed"
