"""`lock = "auto"`: a service's `pylock.toml`, made by the real uv, and made anew when what it needs changes."""

import pytest
from world import World

AUTO = '[tool.buildlib]\nlock = "auto"\n'
LOCK = "services/svc/pylock.toml"


@pytest.fixture
def auto(world: World) -> World:
    """Return a world whose service needs a library, and that `six`."""
    world.library("lib", "six<1.17")
    world.service("svc", "lib", extra=AUTO)
    return world


def pins(world: World) -> list[str]:
    lines = world.read(".buildlib/requirements/svc.txt").splitlines()
    return [line.removesuffix(" \\") for line in lines if "==" in line]


def test_a_service_without_a_lock_gets_one_that_names_no_local_project(auto: World) -> None:
    run = auto.good()
    assert pins(auto) == ["six==1.16.0"] and f"{LOCK}: locked what svc needs; commit it" in run.err
    assert 'name = "lib"' not in auto.read(LOCK) and str(auto.root) not in auto.read(LOCK)
    assert auto.good().ran == []


def test_a_lock_that_does_not_fit_any_more_is_made_anew_with_the_old_versions_where_they_still_do(auto: World) -> None:
    auto.good()
    auto.edit("libs/lib/pyproject.toml", '"six<1.17"', '"six", "idna==3.6"')
    run = auto.good()
    assert pins(auto) == ["idna==3.6", "six==1.16.0"] and run.word("stage:svc") == "built"
    assert auto.good().ran == []


def test_a_lock_that_somebody_else_made_stays_even_when_it_does_not_fit(auto: World) -> None:
    auto.good()
    others = auto.read(LOCK).partition("\n")[2]
    auto.write(LOCK, others)
    auto.edit("libs/lib/pyproject.toml", '"six<1.17"', '"six", "idna==3.6"')
    run = auto.doit()
    assert run.code != 0 and run.err.count(f"{LOCK}: it ") == 1
    assert auto.read(LOCK) == others


@pytest.mark.parametrize("task", [(), ("build:svc",)])
def test_a_deleted_lock_is_made_again(auto: World, task: tuple[str, ...]) -> None:
    auto.good()
    before = auto.read(LOCK)
    auto.path(LOCK).unlink()
    assert auto.good(*task).code == 0
    assert auto.read(LOCK) == before
    assert auto.good(*task).ran == []


def test_a_plan_locks_nothing(auto: World) -> None:
    auto.good("plan")
    assert not auto.path(LOCK).exists()


def test_without_it_a_service_that_needs_a_lock_and_has_none_is_an_error_with_the_command(auto: World) -> None:
    auto.edit("services/svc/pyproject.toml", AUTO, "")
    run = auto.doit()
    assert run.code != 0 and not auto.path(LOCK).exists()
    said = "services/svc/pyproject.toml: it needs six, and there is no lock; run `cd services/svc && uv lock`"
    assert run.err.count(said) == 1


def test_the_roots_setting_is_for_all_services(auto: World) -> None:
    auto.edit("services/svc/pyproject.toml", AUTO, "")
    auto.write("pyproject.toml", auto.read("pyproject.toml") + AUTO)
    auto.good()
    assert pins(auto) == ["six==1.16.0"]


def test_what_has_no_solution_is_that_services_error_alone(auto: World) -> None:
    auto.library("other")
    auto.edit("services/svc/pyproject.toml", '"lib"', '"lib", "six>=1.17"')
    run = auto.doit()
    assert run.code != 0 and run.word("wheel:other") == "built" and run.word("stage:svc") == "skipped"
    assert "six" in run.err and "Traceback" not in run.err and not auto.path(LOCK).exists()
