"""A service that is no package: staged as its sources, with the wheels of the libraries it needs."""

import json

import pytest
from world import World


def an_app(world: World, *needs: str, extra: str = "") -> str:
    """Add uv's usual application: a project without a build system, and a `main.py`."""
    table = f'[project]\nname = "app"\nversion = "1.0"\ndependencies = {json.dumps(list(needs))}\n'
    world.write("services/app/pyproject.toml", table + extra)
    world.write("services/app/main.py", "import lib\nprint(lib.NAME)\n")
    world.write("services/app/jobs/nightly.py", "")
    world.write("services/app/tests/test_main.py", "")
    world.write("services/app/Dockerfile", "FROM scratch\n")
    world.write("services/app/.env.example", "")
    return "services/app"


def staged(world: World) -> set[str]:
    dist = world.path("services/app/dist")
    return {str(p.relative_to(dist)) for p in dist.rglob("*") if p.is_file()}


APP = {"app/main.py", "app/jobs/nightly.py", "app/pyproject.toml"}


@pytest.mark.parametrize("said", ["", "[tool.uv]\npackage = false\n", "[tool.poetry]\npackage-mode = false\n"])
def test_a_service_that_is_no_package_is_staged_as_its_sources(world: World, said: str) -> None:
    world.library("lib")
    an_app(world, "lib", extra=said)
    run = world.good()
    assert run.ran == ["requirements:app", "stage:app", "wheel:lib"]
    assert staged(world) == {*APP, "deps/lib-1.0-py3-none-any.whl", "requirements.txt"}
    assert world.good().ran == []


def test_what_says_that_it_is_no_package_counts_more_than_a_build_system(world: World) -> None:
    world.service("app", extra="[tool.uv]\npackage = false\n")
    assert "wheel:app" not in world.good().ran
    assert "app/app/__init__.py" in staged(world)


def test_what_builds_an_application_at_the_root_is_not_in_it(world: World) -> None:
    table = '[project]\nname = "top"\nversion = "1"\n[tool.buildlib]\nservices = ["."]\n'
    world.write("pyproject.toml", table + world.read("pyproject.toml"))
    world.write("buildlib.lock", "version = 1\n")
    world.write("main.py", "")
    world.good()
    assert {p.name for p in world.path("dist/app").iterdir()} == {"main.py", "pyproject.toml"}
    world.write("dodo.py", world.read("dodo.py") + "# a comment\n")
    assert world.good().ran == []


def test_only_files_of_the_application_are_its_inputs(world: World) -> None:
    world.library("lib")
    app = an_app(world, "lib")
    world.good()
    world.write(f"{app}/tests/test_main.py", "assert True\n")
    world.write(f"{app}/.env.example", "A=1\n")
    assert world.good().ran == []
    world.write(f"{app}/jobs/nightly.py", "import lib\n")
    assert world.good().steps == (("stage:app", "built", f"{app}/jobs/nightly.py changed"),)
    world.path(f"{app}/jobs/nightly.py").unlink()
    assert world.good().ran == ["stage:app"]
    assert not world.path(f"{app}/dist/app/jobs").exists()


def test_a_file_that_becomes_a_directory_and_back_leaves_what_a_build_from_nothing_would(world: World) -> None:
    app = an_app(world)
    world.good()
    for entry in (f"{app}/jobs", f"{app}/jobs/nightly.py"):
        whole = world.path(f"{app}/jobs")
        if whole.is_dir():
            world.path(f"{app}/jobs/nightly.py").unlink()
            whole.rmdir()
        else:
            whole.unlink()
        world.write(entry, "x = 1\n")
        assert world.good().ran == ["stage:app"]
        assert world.read(entry.replace(app, f"{app}/dist/app")) == "x = 1\n"


def test_inputs_add_ignored_and_outside_files_to_an_application(world: World) -> None:
    an_app(world, extra='[tool.buildlib]\ninputs = ["generated/*.json", "../../proto/*", "tests/data.txt"]\n')
    world.write(".gitignore", ".buildlib/\ndist/\ngenerated/\n")
    world.write("services/app/generated/a.json", "{}")
    world.write("services/app/tests/data.txt", "data")
    world.write("proto/x.proto", "message")
    world.good()
    assert staged(world) == {
        *APP,
        "app/generated/a.json",
        "app/proto/x.proto",
        "app/tests/data.txt",
        "requirements.txt",
    }
    world.write("proto/x.proto", "another")
    assert world.good().ran == ["stage:app"]


def test_links_of_an_application_are_staged_as_what_they_lead_to(world: World) -> None:
    app = an_app(world)
    world.write("shared/settings.json", "{}")
    world.write("shared/more/a.txt", "a")
    world.path(f"{app}/settings.json").symlink_to("../../shared/settings.json")
    world.path(f"{app}/more").symlink_to("../../shared/more")
    world.good()
    assert world.read(f"{app}/dist/app/settings.json") == "{}"
    assert world.read(f"{app}/dist/app/more/a.txt") == "a"
    world.write("shared/settings.json", "{1}")
    assert world.good().ran == ["stage:app"]
    assert world.read(f"{app}/dist/app/settings.json") == "{1}"


def test_a_link_that_leaves_the_workspace_is_an_error_in_one_line(world: World) -> None:
    app = an_app(world)
    world.path(f"{app}/passwd").symlink_to("/etc/passwd")
    run = world.doit()
    assert run.code != 0
    assert f"{app}/passwd: links to /etc/passwd, no file of this workspace; copy the file" in run.err
    assert not world.path(f"{app}/dist").exists()


def test_a_library_without_a_build_system_is_built_by_the_default_backend_unless_it_is_the_root(world: World) -> None:
    world.write("libs/plain/pyproject.toml", '[project]\nname = "plain"\nversion = "1"\n')
    world.write("libs/plain/plain.py", "")
    root = world.read("pyproject.toml")
    world.write(
        "pyproject.toml", root + '[project]\nname = "root"\nversion = "1"\n[tool.buildlib]\nlibs = [".", "libs/*"]\n'
    )
    run = world.doit("plan", "--json")
    assert [row["task"] for row in json.loads(run.out)] == ["wheel:plain"]
    assert world.good("build:root").counts == {"built": 0}


def test_a_service_without_a_build_system_that_another_needs_is_a_package(world: World) -> None:
    an_app(world)
    world.service("web", "app")
    assert "wheel:app" in [row["task"] for row in json.loads(world.doit("plan", "--json").out)]


@pytest.mark.parametrize("wish", ["other>=2", "other==1.0.dev1", "other~=2.0"])
def test_a_sibling_whose_version_contradicts_the_wish_is_an_error_with_its_cure(world: World, wish: str) -> None:
    world.library("other")
    world.service("svc", wish)
    run = world.doit()
    assert run.code != 0
    where = "services/svc/pyproject.toml: it wants"
    assert f"{where} {wish}, but libs/other/pyproject.toml has version 1.0; change one of the two" in run.err
    assert run.err.count(where) == 1
    assert run.word("wheel:other") == "built" and run.word("stage:svc") == "skipped"


def test_a_wish_that_the_sibling_meets_is_none_of_our_business(world: World) -> None:
    world.library("other")
    world.service("svc", "other==1.0,>=0.9.dev1")
    world.good()


def test_versions_that_only_the_build_knows_are_judged_when_wheels_are_staged(world: World) -> None:
    lib = world.library("lib")
    world.edit(f"{lib}/backend/tiny.py", 'project["version"]', '"3.0"')
    world.edit(f"{lib}/pyproject.toml", 'version = "1.0"', 'dynamic = ["version"]')
    world.service("svc", "lib<2")
    run = world.doit()
    wrong = "its wheel wants lib<2, but libs/lib/pyproject.toml built 3.0; change one of the two"
    assert run.code != 0 and f"services/svc/pyproject.toml: {wrong}" in run.err
    assert not world.path("services/svc/dist").exists()
    world.edit("services/svc/pyproject.toml", "lib<2", "lib<4")
    assert world.good().word("stage:svc") == "built"


def test_nothing_is_made_of_what_needs_a_project_that_cannot_be_read(world: World) -> None:
    base = world.library("base")
    world.library("app", "base")
    world.library("other")
    world.service("svc", "app")
    world.write(f"{base}/pyproject.toml", "name = [")
    run = world.doit()
    assert run.code != 0 and run.err.count("libs/base/pyproject.toml") == 1
    assert run.ran == ["wheel:base", "wheel:other"] and run.word("wheel:base") == "failed"
    assert {run.word(task) for task in ("wheel:app", "wheel:svc", "requirements:svc", "stage:svc")} == {"skipped"}
    assert set(world.outputs()) == {
        ".buildlib/wheels/other/other-1.0-py3-none-any.whl",
        "libs/other/dist/other-1.0-py3-none-any.whl",
    }
    world.library("base")
    assert world.good().word("stage:svc") == "built"
    assert world.good().ran == []
