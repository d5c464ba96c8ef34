"""The engine's laws in a tiny world: an edit, and the exact list of steps that ran."""

from collections.abc import Callable
from pathlib import Path

import pytest
from world import World


def test_a_first_build_makes_every_step_once_and_says_why(world: World) -> None:
    world.library("base")
    world.service("svc", "base")
    run = world.good()
    assert run.ran == ["requirements:svc", "stage:svc", "wheel:base", "wheel:svc"]
    assert {word for _, word, _ in run.steps} == {"built"}
    assert {reason for _, _, reason in run.steps} == {"never built"}
    assert run.counts == {"built": 4}


def test_a_stage_holds_the_own_wheel_the_transitive_closure_and_the_requirements(chain: World) -> None:
    staged = sorted(
        str(p.relative_to(chain.path("services/svc/dist"))) for p in chain.path("services/svc/dist").rglob("*.*")
    )
    assert staged == [
        "deps/app-1.0-py3-none-any.whl",
        "deps/base-1.0-py3-none-any.whl",
        "requirements.txt",
        "svc-1.0-py3-none-any.whl",
    ]


def test_a_noop_runs_nothing_and_prints_one_line(chain: World) -> None:
    run = chain.good()
    assert run.ran == [] and run.counts == {"built": 0, "up to date": 6}
    assert run.out.count("\n") == 1 and run.err == ""


def test_a_changed_line_rebuilds_its_wheel_and_the_stages_that_hold_it(chain: World) -> None:
    chain.edit("libs/base/base/__init__.py", "base", "BASE")
    run = chain.good()
    assert run.ran == ["stage:svc", "wheel:base"]
    assert run.reason("wheel:base") == "libs/base/base/__init__.py changed"
    assert run.reason("stage:svc") == "wheel base changed"


def test_touching_runs_nothing(chain: World) -> None:
    for path in chain.root.rglob("*.py"):
        path.touch()
    assert chain.good().ran == []


def test_a_changed_test_runs_that_wheel_alone_and_it_ends_unchanged(chain: World) -> None:
    chain.edit("libs/base/tests/test_base.py", "True", "1")
    run = chain.good()
    assert run.ran == ["wheel:base"] and run.word("wheel:base") == "unchanged"


SOURCE, WHEEL = "libs/base/base/__init__.py", "libs/base/dist/base-1.0-py3-none-any.whl"
STAGED = "services/svc/dist/deps/base-1.0-py3-none-any.whl"
BOTH = ["stage:svc", "wheel:base"]


@pytest.mark.parametrize(
    ("edit", "ran", "reason"),
    [
        (lambda w: w.write("libs/base/base/new.py", "x = 1\n"), BOTH, "libs/base/base/new.py added"),
        (lambda w: w.path(SOURCE).unlink(), BOTH, f"{SOURCE} removed"),
        (lambda w: w.path(SOURCE).chmod(0o755), ["wheel:base"], f"{SOURCE} became executable"),
        (lambda w: w.path(WHEEL).unlink(), ["wheel:base"], f"{WHEEL} is missing"),
        (lambda w: w.write(STAGED, b"x"), ["stage:svc"], f"{STAGED} was changed"),
    ],
    ids=["added", "removed", "executable", "output deleted", "output edited"],
)
def test_each_kind_of_edit_runs_exactly_what_it_must(
    chain: World, edit: Callable[[World], object], ran: list[str], reason: str
) -> None:
    before = chain.outputs()
    edit(chain)
    run = chain.good()
    assert run.ran == ran and run.steps[0][2] == reason
    if ran != BOTH:
        assert chain.outputs() == before
    assert chain.good().ran == []


def test_an_ignored_file_has_no_effect(chain: World) -> None:
    chain.write(".gitignore", ".buildlib/\ndist/\n__pycache__/\n*.log\n")
    chain.good()
    chain.write("libs/base/base/debug.log", "noise")
    assert chain.good().ran == []


def test_an_edit_of_the_same_size_with_the_time_kept_is_seen(chain: World) -> None:
    import os

    path = chain.path("libs/base/base/__init__.py")
    status = path.stat()
    chain.edit("libs/base/base/__init__.py", "base", "BASE")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert chain.good().ran == ["stage:svc", "wheel:base"]


def test_a_new_version_replaces_the_older_wheel_everywhere(chain: World) -> None:
    chain.edit("libs/base/pyproject.toml", 'version = "1.0"', 'version = "1.1"')
    chain.good()
    wheels = {p.rpartition("/")[2] for p in chain.outputs() if "base-" in p}
    assert wheels == {"base-1.1-py3-none-any.whl"}


def test_a_dropped_dependency_leaves_the_stage(chain: World) -> None:
    chain.edit("services/svc/pyproject.toml", '"app"', "")
    assert "stage:svc" in chain.good().ran
    assert not chain.path("services/svc/dist/deps").exists()


def test_a_reverted_edit_is_fetched_from_the_store(worlds: Callable[..., World]) -> None:
    world = worlds("one")
    world.library("base")
    before = world.good() and world.outputs()
    world.edit("libs/base/base/__init__.py", "base", "BASE")
    world.good()
    world.edit("libs/base/base/__init__.py", "BASE", "base")
    run = world.good()
    assert run.word("wheel:base") == "fetched" and world.outputs() == before


def test_a_second_clone_fetches_what_the_first_built(worlds: Callable[..., World]) -> None:
    for name in ("one", "two"):
        world = worlds(name)
        world.library("base")
        run = world.good()
    assert run.word("wheel:base") == "fetched"


def test_foreign_files_in_dist_stay_are_not_read_and_get_one_warning(chain: World) -> None:
    chain.write("libs/base/dist/notes.txt", "mine")
    chain.edit("libs/base/base/__init__.py", "base", "BASE")
    run = chain.good()
    assert run.err.count("libs/base/dist") == 1 and "notes.txt" in run.err
    assert chain.read("libs/base/dist/notes.txt") == "mine"
    assert chain.good().err == ""


def test_asking_for_one_project_runs_only_its_closure(world: World) -> None:
    world.library("base")
    world.library("other")
    world.service("svc", "base")
    assert world.good("build:svc").ran == ["requirements:svc", "stage:svc", "wheel:base", "wheel:svc"]


def test_a_failure_is_one_line_and_the_others_go_on(chain: World) -> None:
    chain.write("libs/base/pyproject.toml", "[build-system]\nrequires = []\n")
    chain.edit("libs/other/other/__init__.py", "other", "OTHER")
    run = chain.doit()
    assert run.code != 0
    assert (
        run.word("wheel:base") == "failed" and run.word("stage:svc") == "skipped" and run.word("wheel:other") == "built"
    )
    assert run.err == "libs/base/pyproject.toml: no [project] table; add one with name and version\n"
    assert run.counts == {"built": 1, "failed": 1, "skipped": 4}  # app and svc need it: their wheels and list too


def test_git_status_is_clean_after_a_build(world: World) -> None:
    world.library("base")
    world.good()
    world.commit()
    world.edit("libs/base/base/__init__.py", "base", "BASE")
    world.git("commit", "-qam", "edit")
    world.good()
    assert world.git("status", "--porcelain") == ""


def test_without_git_the_tree_is_walked(tmp_path: Path, cache: Path) -> None:
    world = World(tmp_path / "plain", cache, git=False)
    world.library("base")
    assert world.good().ran == ["wheel:base"]
    world.write("libs/base/base/new.py", "x = 1\n")
    assert world.good().ran == ["wheel:base"]
    assert world.good().ran == []


def test_always_runs_what_is_asked_even_if_nothing_changed(chain: World) -> None:
    run = chain.good("-a", "wheel:base")
    assert run.ran == ["wheel:base"] and run.word("wheel:base") == "unchanged"


def test_a_plan_says_what_the_run_then_does(chain: World) -> None:
    import json

    chain.edit("libs/base/base/__init__.py", "base", "BASE")
    planned = json.loads(chain.good("plan", "--json").out)
    assert [(p["task"], p["certainty"]) for p in planned] == [("wheel:base", "will"), ("stage:svc", "may")]
    assert planned[0]["reason"] == "libs/base/base/__init__.py changed" and "wheel base" in planned[1]["reason"]
    assert chain.good().ran == ["stage:svc", "wheel:base"]
    assert json.loads(chain.good("plan", "--json").out) == []


def test_an_input_named_by_a_glob_is_seen_even_if_it_appears_after_a_build_of_something_else(world: World) -> None:
    world.library("other")
    world.library("base", extra='[tool.buildlib]\ninputs = ["schema/*.json"]\n')
    world.write(".gitignore", ".buildlib/\ndist/\n__pycache__/\nschema/\n")
    world.write("libs/base/schema/a.json", "{}")
    world.good("build:other")
    assert world.good().ran == ["wheel:base"]
    world.write("libs/base/schema/b.json", "{}")
    run = world.good()
    assert run.ran == ["wheel:base"] and run.reason("wheel:base") == "libs/base/schema/b.json added"


def test_a_file_in_a_directory_that_was_empty_is_seen(chain: World) -> None:
    chain.path("libs/base/base/deep/er").mkdir(parents=True)
    assert chain.good().ran == []
    chain.write("libs/base/base/deep/er/new.py", "x = 1\n")
    assert chain.good().ran == ["stage:svc", "wheel:base"]


def test_what_was_not_asked_for_is_judged_afresh_when_it_is(chain: World) -> None:
    chain.edit("libs/base/base/__init__.py", "base", "BASE")
    chain.edit("libs/other/other/__init__.py", "other", "OTHER")
    assert chain.good("build:base").ran == ["wheel:base"]
    assert chain.good("build:other").ran == ["wheel:other"]
    assert chain.good().ran == ["stage:svc"]
    assert chain.good().ran == []


def test_a_removed_project_leaves_nothing_of_ours_behind(chain: World) -> None:
    import shutil

    chain.write("libs/other/dist/notes.txt", "mine")
    for name in ("pyproject.toml", "backend", "other", "tests"):
        path = chain.path(f"libs/other/{name}")
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    chain.good()
    assert not [path for path in chain.outputs() if "other-1.0" in path]
    assert chain.read("libs/other/dist/notes.txt") == "mine"


def test_a_project_that_cannot_be_read_keeps_its_outputs(chain: World) -> None:
    chain.write("libs/other/pyproject.toml", "[project\n")
    assert chain.doit().code != 0
    assert [path for path in chain.outputs() if "other-1.0" in path]


def test_without_any_record_older_files_of_ours_still_go_and_foreign_ones_stay(chain: World) -> None:
    import shutil

    chain.write("libs/base/dist/base-0.9-py3-none-any.whl", b"somebody else's")
    chain.path("libs/app/dist/app-1.0-py3-none-any.whl").rename(chain.path("libs/app/dist/kept.whl"))
    shutil.rmtree(chain.path(".buildlib"))
    chain.edit("libs/base/pyproject.toml", 'version = "1.0"', 'version = "1.1"')
    chain.good()
    wheels = {p for p in chain.outputs() if "base-" in p}
    assert wheels == {
        ".buildlib/wheels/base/base-1.1-py3-none-any.whl",
        "libs/base/dist/base-0.9-py3-none-any.whl",
        "libs/base/dist/base-1.1-py3-none-any.whl",
        "services/svc/dist/deps/base-1.1-py3-none-any.whl",
    }
    assert chain.path("libs/app/dist/kept.whl").exists()


@pytest.mark.parametrize("there_and_back", [False, True])
def test_a_project_moved_with_its_outputs_keeps_none_that_are_no_more(world: World, there_and_back: bool) -> None:
    world.library("base")
    world.library("app", "base")
    world.good()
    world.write("libs/app/dist/note.txt", "mine")
    world.path("services").mkdir()
    world.path("libs/app").rename(world.path("services/app"))
    world.edit("services/app/pyproject.toml", "1.0", "2.0")
    world.good()
    expected = {"app-2.0-py3-none-any.whl", "deps/base-1.0-py3-none-any.whl", "requirements.txt", "note.txt"}
    if there_and_back:
        world.path("services/app").rename(world.path("libs/app"))
        world.good()
        expected = {"app-2.0-py3-none-any.whl", "note.txt"}
    dist = next(world.root.glob("*/app/dist"))
    assert {str(f.relative_to(dist)) for f in dist.rglob("*") if f.is_file()} == expected


def test_an_ignore_file_between_the_root_and_a_project_counts(chain: World) -> None:
    import zipfile

    def packed() -> bool:
        chain.good()
        return "base/trace.txt" in zipfile.ZipFile(chain.path(WHEEL)).namelist()

    chain.write("libs/base/base/trace.txt", "noise")
    assert packed()
    chain.write("libs/.gitignore", "trace.txt\n")
    assert not packed()
    chain.write("libs/.gitignore", "nothing\n")
    assert packed()


@pytest.mark.parametrize("broken", [".git/HEAD", ".git/index"])
def test_a_repository_that_git_cannot_read_is_an_error_and_never_an_empty_one(chain: World, broken: str) -> None:
    before = chain.outputs()
    chain.write(broken, "nonsense")
    chain.edit("libs/base/base/__init__.py", "base", "BASE")
    run = chain.doit()
    assert run.code != 0 and "git" in run.err and run.err.count("\n") == 1
    assert chain.outputs() == before
