"""The user's own tasks beside ours: what they may name, in which order things run, what a fault of `dodo.py` says."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable

import pytest
from world import World

WHEEL = "libs/base/dist/base-1.0-py3-none-any.whl"
HEAD = """\
from buildlib.tasks.dodo import DOIT_CONFIG
from doit import create_after
from doit.tools import result_dep, run_once
"""


@pytest.fixture
def tasks(world: World) -> Callable[[str], World]:
    """Return a maker of a world whose `dodo.py` has the given tasks, beside a library and a service that needs it."""
    world.library("base")
    world.library("other")
    world.service("svc", "base")

    def make(text: str) -> World:
        world.write("dodo.py", HEAD + text)
        return world

    return make


def own(world: World, *arguments: str) -> list[str]:
    """Run `doit ARGUMENTS`; return the lines that no step and no summary wrote."""
    run = world.good(*arguments)
    return [
        line
        for line in run.out.splitlines()
        if not line.startswith(("wheel ", "stage ", "requirements ", "0 ", "1 ", "2 ", "3 ", "4 ", "5 "))
    ]


@pytest.mark.parametrize(
    ("task", "ran"),
    [
        ('"task_dep": ["wheel:base"]', ["wheel:base"]),
        ('"task_dep": ["wheel:*"]', ["wheel:base", "wheel:other", "wheel:svc"]),
        ('"task_dep": ["build:other"]', ["wheel:other"]),
        ('"setup": ["wheel:base"]', ["wheel:base"]),
        (f'"file_dep": ["{WHEEL}"]', ["wheel:base"]),
        (
            '"file_dep": ["services/svc/dist/requirements.txt"]',
            ["requirements:svc", "stage:svc", "wheel:base", "wheel:svc"],
        ),
    ],
)
def test_what_a_task_names_of_ours_runs_before_it_even_if_it_never_was_built(
    tasks: Callable[[str], World], task: str, ran: list[str]
) -> None:
    world = tasks(
        f"def task_x():\n    return {{'actions': ['test -e .buildlib/wheels && echo ran'], 'verbosity': 2, {task}}}\n"
    )
    run = world.good("x")
    assert run.ran == ran and run.out.splitlines()[-3:-1] == [".  x", "ran"]
    assert world.good().ran == sorted(
        {"requirements:svc", "stage:svc", "wheel:base", "wheel:other", "wheel:svc"} - set(ran)
    )


def test_an_edit_runs_the_step_and_then_the_task_that_reads_its_output(tasks: Callable[[str], World]) -> None:
    world = tasks(f"def task_x():\n    return {{'actions': ['echo ran'], 'file_dep': ['{WHEEL}']}}\n")
    assert own(world, "x") == [".  x"] and own(world, "x") == ["-- x"]
    world.edit("libs/base/base/__init__.py", "base", "BASE")
    assert [(p["task"], p["certainty"]) for p in json.loads(world.good("plan", "--json", "x").out)] == [
        ("wheel:base", "will"),
        ("x", "may"),
    ]
    assert own(world, "x") == [".  x"] and own(world, "x") == ["-- x"]


def test_result_dep_compares_the_outputs_of_a_step(tasks: Callable[[str], World]) -> None:
    world = tasks("def task_x():\n    return {'actions': ['true'], 'uptodate': [result_dep('wheel:base')]}\n")
    assert own(world, "x") == [".  x"] and own(world, "x") == ["-- x"]
    world.edit("libs/base/tests/test_base.py", "True", "1")
    assert own(world, "x") == ["-- x"]
    world.edit("libs/base/base/__init__.py", "base", "BASE")
    assert own(world, "x") == [".  x"]


def test_getargs_gives_the_paths_of_outputs(tasks: Callable[[str], World]) -> None:
    world = tasks(
        "def show(one, all):\n    print(sorted(one.values()), len(all))\n"
        "def task_x():\n    return {'actions': [show], 'verbosity': 2,\n"
        "            'getargs': {'one': ('wheel:base', 'outputs'), 'all': ('wheel', 'outputs')}}\n"
    )
    assert own(world, "x")[-1] == f"['{WHEEL}'] 3" and own(world, "x") == ["-- x"]
    world.edit("libs/base/base/__init__.py", "base", "BASE")
    assert world.good("x").out.splitlines()[1:3] == [".  x", f"['{WHEEL}'] 3"] and own(world, "x") == ["-- x"]


def test_tasks_made_later_are_found_by_name_and_target(tasks: Callable[[str], World]) -> None:
    world = tasks(
        "@create_after(executed='wheel:base', target_regex=r'.*\\.made')\ndef task_later():\n"
        "    yield {'name': 'x', 'actions': ['touch a.made'], 'targets': ['a.made'], 'task_dep': ['wheel:other']}\n"
    )
    for word in ("later", "later:x", "a.made"):
        assert own(world, word) == [".  later:x"], word
    assert world.good("wheel").ran == ["wheel:svc"]


def test_parameters_of_a_task_are_no_task_names(tasks: Callable[[str], World]) -> None:
    world = tasks(
        "def task_x():\n"
        "    return {'actions': [lambda name, pos: print('got', name, pos)], 'verbosity': 2, 'pos_arg': 'pos',\n"
        "            'params': [{'name': 'name', 'short': 'n', 'default': '-'}]}\n"
    )
    assert own(world, "x", "-n", "wheel", "stage", "build") == [".  x", "got wheel ['stage', 'build']"]
    assert world.outputs() == {}


def test_a_name_given_twice_hides_nothing_that_follows(tasks: Callable[[str], World]) -> None:
    world = tasks("def task_x():\n    return {'actions': ['true']}\n")
    run = world.good("wheel:base", "x", "wheel:base", "x", "wheel")
    assert run.ran == ["wheel:base", "wheel:other", "wheel:svc"] and run.out.count(".  x") == 1


def test_default_tasks_are_what_a_bare_doit_stands_for(tasks: Callable[[str], World]) -> None:
    world = tasks(
        "DOIT_CONFIG['default_tasks'] = ['build:other', 'x']\n"
        "def task_x():\n    return {'actions': ['true'], 'uptodate': [True]}\n"
    )
    assert world.good().ran == ["wheel:other"] and world.good().ran == []
    assert world.good("clean").code == 0 and world.outputs() == {}


def test_list_shows_our_projects_and_the_users_tasks(tasks: Callable[[str], World]) -> None:
    world = tasks("def task_x():\n    'what x does'\n    yield {'name': 'a', 'actions': ['true']}\n")
    assert [line.split()[0] for line in world.good("list").out.splitlines()] == [
        "build:base",
        "build:other",
        "build:svc",
        "x",
    ]
    assert "x:a" in world.good("list", "--all", "-q").out


def test_a_failed_task_counts_and_the_summary_is_the_last_line(tasks: Callable[[str], World]) -> None:
    world = tasks(
        "def task_bad():\n    return {'actions': ['echo boom >&2; false']}\n"
        "def task_after():\n    return {'actions': ['true'], 'task_dep': ['bad']}\n"
    )
    run = world.doit("after", "wheel:base")
    assert (
        run.code == 1
        and run.counts == {"built": 1, "failed": 1, "skipped": 1}
        and run.out.splitlines()[-1].startswith("1 built, 1 failed")
    )


def test_a_failed_step_skips_the_task_that_needs_it(tasks: Callable[[str], World]) -> None:
    world = tasks("def task_x():\n    return {'actions': ['touch no'], 'task_dep': ['build:base']}\n")
    world.write("libs/base/backend/tiny.py", "raise SystemExit('broken')\n")
    run = world.doit("x", "wheel:other")
    assert run.code == 1 and run.counts == {"built": 1, "failed": 1, "skipped": 1} and not world.path("no").exists()


def test_what_a_task_did_is_kept_when_the_run_is_killed(tasks: Callable[[str], World]) -> None:
    world = tasks(
        "def task_one():\n    return {'actions': ['true'], 'uptodate': [run_once]}\n"
        "def task_two():\n    return {'actions': ['sleep 20'], 'task_dep': ['one']}\n"
    )
    process = world.start("two")
    until = time.monotonic() + 10
    while time.monotonic() < until and ".  two" not in (process.stdout.readline() if process.stdout else ""):
        pass
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert own(world, "one") == ["-- one"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def task_x(:\n", "dodo.py:4: SyntaxError: "),
        ("import nowhere\n", "dodo.py:4: ModuleNotFoundError: No module named 'nowhere'"),
        ("import helper\n", "helper.py:2: ZeroDivisionError: "),
        ("def task_x():\n    1 / 0\n", "dodo.py:5: ZeroDivisionError: "),
        ("def task_wheel():\n    return {'actions': ['true']}\n", "dodo.py: a task is called wheel, "),
        ("def task_build():\n    yield {'name': 'base', 'actions': ['true']}\n", "dodo.py: a task is called build, "),
    ],
)
@pytest.mark.parametrize("command", ["run", "list", "plan"])
def test_a_fault_of_dodo_is_one_line_with_its_place(
    tasks: Callable[[str], World], text: str, says: str, command: str
) -> None:
    world = tasks(text)
    world.write("helper.py", "import os\n1 / 0\n")
    run = world.doit(command)
    assert (
        run.code == 3
        and run.err.startswith(f"ERROR: {says}")
        and run.err.count("\n") == 1
        and run.out == ""
        and world.outputs() == {}
    )


def test_a_target_that_is_ours_is_refused(tasks: Callable[[str], World]) -> None:
    world = tasks(f"def task_x():\n    return {{'actions': ['true'], 'targets': ['{WHEEL}']}}\n")
    world.good("wheel:base")
    run = world.doit("x")
    assert (
        run.code == 3
        and run.err == f"ERROR: dodo.py: task x has a target that is a step's, {WHEEL}; give it another place\n"
    )


# -- plan equals run


EDITS: list[Callable[[World], object]] = [
    lambda w: w.edit("libs/base/base/__init__.py", "base", "BASE"),
    lambda w: w.edit("libs/base/tests/test_base.py", "True", "1"),
    lambda w: w.write("libs/base/base/new.py", ""),
    lambda w: w.path("services/svc/svc/__init__.py").unlink(),
    lambda w: w.edit("services/svc/pyproject.toml", '"base"', ""),
    lambda w: w.edit("libs/other/pyproject.toml", 'version = "1.0"', 'version = "2.0"'),
    lambda w: w.path(WHEEL).unlink(),
    lambda w: w.write("services/svc/dist/requirements.txt", "x"),
    lambda w: w.library("fresh"),
    lambda w: w.write("libs/other/pyproject.toml", "[["),
    lambda w: w.good("forget", "wheel:other"),
]


@pytest.mark.parametrize("edit", EDITS)
def test_a_plan_changes_nothing_and_says_what_then_runs(
    tasks: Callable[[str], World], edit: Callable[[World], object]
) -> None:
    world = tasks("")
    world.good()
    edit(world)
    before = {
        p: p.stat().st_mtime_ns
        for p in world.root.rglob("*")
        if p.is_file() and p.suffix != ".pyc" and p.name not in ("lock", "state.db")
    }
    planned = json.loads(world.good("plan", "--json").out)
    assert before == {p: p.stat().st_mtime_ns for p in before} and not world.path("buildlib.lock").exists()
    run = world.doit()
    will = {p["task"] for p in planned if p["certainty"] == "will"}
    assert will <= set(run.ran) <= {p["task"] for p in planned}
    assert all(run.reason(p["task"]) == p["reason"] for p in planned if p["certainty"] == "will")


# -- ./doit


def launch(world: World, folder: str, *arguments: str) -> tuple[int, str, str]:
    """Run what `./doit` runs, from a folder of the world."""
    import subprocess

    environ = {**world.environ, "BUILDLIB_ROOT": str(world.root)}
    command = [sys.executable, "-c", "import sys; from buildlib.__main__ import main; sys.exit(main())", *arguments]
    done = subprocess.run(command, cwd=world.root / folder, env=environ, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_inside_a_project_a_bare_launcher_means_that_project(tasks: Callable[[str], World]) -> None:
    world = tasks("")
    for arguments in ((), ("-n", "4"), ("name=value",), ("-v", "2")):
        world.good("forget", "-a")
        code, out, _ = launch(world, "libs/base/tests", *arguments)
        assert code == 0 and out.splitlines()[-1].startswith("1 "), arguments
    assert "build:svc" in launch(world, "libs/base", "list")[1]
    assert "4 " in launch(world, "services")[1]


def test_a_path_is_meant_from_where_the_launcher_is_called(tasks: Callable[[str], World]) -> None:
    world = tasks("")
    world.good("wheel:base")
    for folder, path in (("libs/base", WHEEL.removeprefix("libs/base/")), ("libs/base", WHEEL), (".", WHEEL)):
        code, out, err = launch(world, folder, path)
        assert code == 0 and out.startswith("0 built, 1 up to date"), err


def test_a_broken_root_is_one_line(tasks: Callable[[str], World]) -> None:
    world = tasks("")
    for text in ("[[[", b"\xff"):
        world.write("pyproject.toml", text)
        code, out, err = launch(world, ".")
        assert code == 3 and out == "" and err.startswith("pyproject.toml: not valid TOML") and err.count("\n") == 1
