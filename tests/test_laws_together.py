"""Law 8, one at a time: several builds at once, and edits while a build runs."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from world import World, _run

SLOW = """\
    import os, time
    open("began.mark", "w").close()
    time.sleep({seconds})
"""
HEAD = "def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):\n"
WAITING = re.compile(r"waiting for another build in this workspace \(process \d+\)\n")


def slow(world: World, seconds: float) -> None:
    """Let every build take a while, and say that it began."""
    for path in world.root.glob("*/*/backend/tiny.py"):
        path.write_text(path.read_text().replace(HEAD, HEAD + SLOW.format(seconds=seconds)))


def wait_until_begun(world: World, name: str) -> None:
    """Wait until the backend of library `name` runs."""
    until = time.monotonic() + 30
    while not list(world.path(".buildlib/tmp").glob(f"*/root/libs/{name}/began.mark")):
        assert time.monotonic() < until, f"{name} never began"
        time.sleep(0.002)


@pytest.fixture
def several(world: World) -> World:
    """Return a world of three libraries and a service, not built."""
    world.library("a")
    world.library("b", "a")
    world.library("c")
    world.service("svc", "b")
    slow(world, 0.1)
    return world


def test_four_builds_at_once_make_each_step_once(several: World) -> None:
    processes = [several.start(*arguments) for arguments in ((), ("stage:svc",), ("build:c",), ("-n", "4"))]
    runs = [_run(p.wait(), *ends) for p in processes for ends in [p.communicate()]]
    assert [run.code for run in runs] == [0, 0, 0, 0], [run.err for run in runs]
    made = [task for run in runs for task in run.ran]
    assert sorted(made) == ["requirements:svc", "stage:svc", "wheel:a", "wheel:b", "wheel:c", "wheel:svc"]
    for run in runs:
        assert run.err == "" or WAITING.fullmatch(run.err)
    assert several.good().ran == []


def test_the_second_of_two_equal_builds_waits_with_one_line_and_finds_all_up_to_date(several: World) -> None:
    first = several.start()
    wait_until_begun(several, "a")
    second = several.doit()
    first.communicate()
    assert WAITING.fullmatch(second.err) and str(first.pid) in second.err
    assert second.ran == [] and second.counts == {"built": 0, "up to date": 6}


def test_builds_and_cleans_at_once_end_consistent(several: World) -> None:
    several.good()
    orders = [("clean", "wheel:a"), (), ("clean",), ("build:c",), ("clean", "stage"), ()]
    processes = [several.start(*arguments) for arguments in orders]
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0 and "Traceback" not in err, out + err
    several.good()
    made = several.outputs()
    several.good("clean")
    assert several.outputs() == {}
    several.good()
    assert several.outputs() == made and several.good().ran == []


def test_a_killed_holder_blocks_nobody(several: World) -> None:
    slow(several, 30)
    first = several.start()
    wait_until_begun(several, "a")
    second = several.start("plan")
    assert second.stderr is not None
    assert second.stderr.readline().startswith("waiting")
    first.kill()
    started = time.monotonic()
    second.communicate(timeout=10)
    assert time.monotonic() - started < 5
    first.communicate()


def test_who_waits_while_the_state_is_deleted_does_not_build_beside_the_next(several: World) -> None:
    """The lock file that one waits for may be deleted with `.buildlib`: then it is nobody's lock any more."""

    slow(several, 1)
    first = several.start("wheel:a")
    wait_until_begun(several, "a")
    second = several.start()
    assert second.stderr is not None and second.stderr.readline().startswith("waiting")
    shutil.rmtree(several.path(".buildlib"), ignore_errors=True)
    third = several.start()
    first.kill()
    ends = [(p.communicate(), p.returncode) for p in (first, second, third)]
    runs = [_run(code, *text) for text, code in ends[1:]]
    assert [run.code for run in runs] == [0, 0], [run.err for run in runs]
    made = [task for run in runs for task in run.ran]
    assert len(made) == len(set(made)), made
    assert several.good().ran == []


# Edits while a build runs -------------------------------------------------------------------------------------------


@pytest.fixture
def one(world: World) -> World:
    """Return a world of one slow library."""
    world.library("a")
    slow(world, 0.3)
    return world


def fresh_wheel(world: World, tmp_path: Path) -> bytes:
    """Return the wheel of library a as a build from nothing makes it."""

    ignore = shutil.ignore_patterns(".buildlib", "dist")
    shutil.copytree(world.root, tmp_path / "fresh", symlinks=True, ignore=ignore)
    other = World.__new__(World)
    other.root, other.environ = tmp_path / "fresh", world.environ
    other.good()
    return other.path("libs/a/dist/a-1.0-py3-none-any.whl").read_bytes()


EDITS = {
    "changed": lambda w: w.write("libs/a/a/__init__.py", "NAME = 'b'\n"),
    "added": lambda w: w.write("libs/a/a/late.py", "LATE = 1\n"),
    "deleted": lambda w: w.path("libs/a/a/__init__.py").unlink(),
    "output": lambda w: w.write("libs/a/dist/a-1.0-py3-none-any.whl", b"nonsense"),
}


@pytest.mark.parametrize("kind", EDITS)
def test_an_edit_while_the_action_runs_is_seen_by_the_next_run(one: World, tmp_path: Path, kind: str) -> None:
    one.good()
    one.write("libs/a/a/__init__.py", "NAME = 'A'\n")
    process = one.start()
    wait_until_begun(one, "a")
    EDITS[kind](one)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    one.good()
    assert one.path("libs/a/dist/a-1.0-py3-none-any.whl").read_bytes() == fresh_wheel(one, tmp_path)
    assert one.good().ran == []


def test_edits_at_any_moment_of_a_build_are_seen_by_the_next(several: World) -> None:
    """Sources change all the time while three builds run; what the last, quiet one leaves is as from nothing."""

    slow(several, 0)
    several.good()
    count = 0
    for _ in range(3):
        several.write("libs/a/a/__init__.py", f"X = {count:06}\n")
        process = several.start()
        while process.poll() is None:
            count += 1
            several.write("libs/a/a/__init__.py", f"X = {count:06}\n")
            several.write("libs/b/b/other.py", f"X = {count:06}\n")
            late = several.path("libs/c/c/late.py")
            late.unlink() if late.exists() else late.write_text("X = 1\n")
            time.sleep(0.003)
        out, err = process.communicate()
        assert "Traceback" not in err and "report it" not in err, out + err
    several.good()
    made = several.outputs()
    shutil.rmtree(several.path(".buildlib"))
    several.good()
    assert several.outputs() == made


@pytest.mark.slow
def test_an_edit_of_the_same_size_right_after_the_build_is_seen_each_time(world: World) -> None:
    world.library("a")
    path, wheel = world.path("libs/a/a/__init__.py"), world.path("libs/a/dist/a-1.0-py3-none-any.whl")
    for count in range(int(os.environ.get("LAWS_EDITS", "15"))):
        path.write_text(f"X = {count:04}\n")
        run = world.good()
        assert run.ran == ["wheel:a"], count
        good = wheel.read_bytes()
        wheel.write_bytes(good[:-1] + b"!")
        assert world.good().ran == ["wheel:a"], count
        assert wheel.read_bytes() == good


def test_a_file_whose_times_lie_in_the_future_or_are_coarse_is_read_each_time(world: World) -> None:
    world.library("a")
    path = world.path("libs/a/a/__init__.py")
    for count, when in enumerate((10**9 * 3_000_000_000, 0, 10**9 * 1_000_000_000, int(time.time()) * 10**9)):
        path.write_text(f"X = {count:04}\n")
        os.utime(path, ns=(when, when))
        assert world.good().ran == ["wheel:a"]
        path.write_text(f"Y = {count:04}\n")
        os.utime(path, ns=(when, when))
        assert world.good().ran == ["wheel:a"]


def test_a_file_restored_with_its_times_by_a_link_is_seen(world: World) -> None:
    """`cp -p`, `ln -f` and archives bring back old times; the inode or the change time differs."""
    world.library("a")
    path = world.path("libs/a/a/__init__.py")
    copy = world.path("libs/a/kept.bin")
    subprocess.run(["cp", "-p", str(path), str(copy)], check=True)
    world.good()
    path.write_text("NAME = 'z'\n")
    world.good()
    os.unlink(path)
    os.link(copy, path)
    assert world.good().ran == ["wheel:a"]
    other = world.write("other.py", "NAME = 'q'\n")
    subprocess.run(["cp", "-p", "--remove-destination", str(other), str(path)], check=True)
    assert world.good().ran == ["wheel:a"]


EDITOR = """\
import os, sys
import buildlib.execute.local as local

real, edits = local.stage, [sys.argv.pop(1)]


def stage(*arguments):
    if edits:
        exec(edits.pop())
    return real(*arguments)


local.stage = stage
from doit.__main__ import main

sys.exit(main())
"""
"""Runs doit and makes an edit between the look at the inputs and their copying."""

SWAP = "p = 'libs/a/pyproject.toml'; text = open(p).read(); open(p, 'w').write(text.replace('\"tiny\"', '\"other\"'))"


@pytest.mark.parametrize(
    "edit", ["os.unlink('libs/a/a/more.py')", "open('libs/a/a/more.py', 'w').write('M = 2')", SWAP]
)
def test_an_edit_between_the_look_and_the_copy_is_no_failure_and_never_lost(
    world: World, tmp_path: Path, edit: str
) -> None:
    world.library("a")
    world.write("libs/a/a/more.py", "M = 1\n")
    world.write(
        "libs/a/backend/other.py", world.read("libs/a/backend/tiny.py").replace("Generator: tiny", "Generator: b")
    )
    script = tmp_path / "editor.py"
    script.write_text(EDITOR)
    command = [sys.executable, str(script), edit]
    done = subprocess.run(command, cwd=world.root, env=world.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    world.good()
    assert world.path("libs/a/dist/a-1.0-py3-none-any.whl").read_bytes() == fresh_wheel(world, tmp_path)


def test_a_project_of_another_kind_has_its_outputs_where_that_kind_has_them(several: World) -> None:
    several.good()
    root = several.read("pyproject.toml")
    before = several.outputs()
    several.write("pyproject.toml", root + '[tool.buildlib]\nlibs = ["libs/*", "services/*"]\nservices = []\n')
    several.good()
    assert sorted(p.name for p in several.path("services/svc/dist").iterdir()) == ["svc-1.0-py3-none-any.whl"]
    several.write("pyproject.toml", root)
    several.good()
    assert several.outputs() == before


# Outputs in the way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["libs/a/dist", "services/svc/dist", "services/svc/dist/deps"])
@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_folder_of_outputs_that_is_no_folder_is_said_and_nothing_is_written_through_it(
    several: World, tmp_path: Path, folder: str, kind: str
) -> None:
    several.good()
    place, elsewhere = several.path(folder), tmp_path / "elsewhere"
    shutil.move(place, elsewhere)
    before = {p: p.stat().st_mtime_ns for p in elsewhere.rglob("*")}
    place.symlink_to(elsewhere) if kind == "link" else place.write_text("a file\n")
    several.write("libs/a/a/__init__.py", "NEW = 1\n")
    run = several.doit()
    assert run.code != 0 and folder in run.err and "Traceback" not in run.err
    assert {p: p.stat().st_mtime_ns for p in elsewhere.rglob("*")} == before
    place.unlink()
    several.good()
    assert several.good().ran == []
