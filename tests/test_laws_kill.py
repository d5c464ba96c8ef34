"""Law 4: SIGKILL at any point; the next run is right, keeps what had finished, and leaves no litter."""

import functools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from world import World, _run

LIBRARIES = ("a", "b", "c", "d")

KILLER = """\
import importlib, os, signal, sys

place, call, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]
module, _, attribute = place.partition(":")
owner = importlib.import_module(module)
*above, name = attribute.split(".")
for part in above:
    owner = getattr(owner, part)
real, seen = getattr(owner, name), [0]


def shot(*arguments, **options):
    seen[0] += 1
    if seen[0] == call and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*arguments, **options)
    if seen[0] == call:
        os.kill(os.getpid(), signal.SIGKILL)
    return result


setattr(owner, name, shot)
sys.argv[1:] = sys.argv[4:]
from doit.__main__ import main

sys.exit(main())
"""
"""Runs doit and shoots this very process at the n-th call of a function, before or after it."""


def build_world(world: World) -> World:
    """Fill `world`: four libraries, a service; each build takes a moment and says that it began."""
    world.library("a")
    world.library("b", "a")
    world.library("c")
    world.library("d", "c")
    world.service("svc", "b", "d")
    for path in world.root.glob("*/*/backend/tiny.py"):
        text = path.read_text().replace(
            "    with open(",
            '    open("began.mark", "w").close()\n    import time\n    time.sleep(0.08)\n    with open(',
            1,
        )
        path.write_text(text)
    set_version(world, 1)
    return world


def set_version(world: World, number: int) -> None:
    """Give every project another version and another source."""
    for project in world.root.glob("*/*/pyproject.toml"):
        lines = project.read_text().splitlines(keepends=True)
        project.write_text(
            "".join(f'version = "{number}.0"\n' if line.startswith("version") else line for line in lines)
        )
    for source in world.root.glob("*/*/*/__init__.py"):
        source.write_text(f"VERSION = {number}\n")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Callable[[int], dict[str, bytes]]:
    """Return what builds from nothing, elsewhere and without a store, make of each version."""

    @functools.cache
    def build(number: int) -> dict[str, bytes]:
        world = build_world(World(tmp_path_factory.mktemp("expected") / "world", cache))
        set_version(world, number)
        world.good()
        return world.outputs()

    return build


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """Return the directory of a world whose first version is built."""
    world = build_world(World(tmp_path_factory.mktemp("template") / "world", cache))
    world.good()
    return world.root


@pytest.fixture
def built(template: Path, tmp_path: Path, cache: Path) -> World:
    """Return a world whose first version is built."""
    shutil.copytree(template, tmp_path / "built", symlinks=True)
    return World(tmp_path / "built", cache)


def kill_at(world: World, place: str, call: int, when: str, *arguments: str) -> None:
    """Run `doit` and kill it at a call of one function; it must get there."""
    script = world.root.parent / "killer.py"
    script.write_text(KILLER)
    command = [sys.executable, str(script), place, str(call), when, *arguments]
    done = subprocess.run(command, cwd=world.root, env=world.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def leftovers(world: World) -> list[str]:
    """Return the command lines of processes that work in this world."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where = os.readlink(process / "cwd")
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if where.startswith(str(world.root)) or str(world.root) in line:
            found.append(line)
    return found


def assert_no_orphans(world: World) -> None:
    """Wait for at most the two seconds that the law gives."""
    until = time.monotonic() + 2
    while leftovers(world) and time.monotonic() < until:
        time.sleep(0.02)
    assert leftovers(world) == []


def assert_whole(world: World, wanted: dict[str, bytes]) -> None:
    """Every output is as from nothing, there is no other, and no temporary file."""
    made = world.outputs()
    assert sorted(made) == sorted(wanted)
    assert [path for path in made if made[path] != wanted[path]] == []
    assert list(world.path(".buildlib/tmp").iterdir()) == []


POINTS = [
    ("buildlib.tasks.session:Session.begin", 1, "after"),
    ("buildlib.tasks.database:Database.begin", 1, "after"),
    ("buildlib.tasks.database:Database.begin", 4, "before"),
    ("buildlib.execute.stage:_copy", 3, "after"),
    ("buildlib.tasks.database:Database.announce", 1, "before"),
    ("buildlib.tasks.database:Database.announce", 2, "after"),
    ("buildlib.steps.publish:_write", 1, "after"),
    ("buildlib.steps.publish:_write", 2, "before"),
    ("buildlib.steps.publish:os.replace", 3, "before"),
    ("buildlib.steps.publish:remove", 1, "before"),
    ("buildlib.tasks.database:Database.done", 1, "before"),
    ("buildlib.tasks.database:Database.done", 2, "after"),
    ("buildlib.tasks.database:Database.done", 6, "before"),
    ("buildlib.fingerprint.index:save_memory", 1, "before"),
    ("buildlib.fingerprint.index:save_quick", 1, "before"),
    ("buildlib.fingerprint.index:save_quick", 1, "after"),
]


@pytest.mark.parametrize(
    ("place", "call", "when"), POINTS, ids=[f"{when} {place.rpartition(':')[2]} {n}" for place, n, when in POINTS]
)
def test_killed_at_any_point_the_next_run_is_right(
    built: World, expected: Callable[[int], dict[str, bytes]], place: str, call: int, when: str
) -> None:
    world = built
    set_version(world, 2)
    kill_at(world, place, call, when, "-n", "0")
    finished = finished_in(world)
    run = world.good()
    assert finished.isdisjoint(run.ran)
    assert_whole(world, expected(2))
    assert_no_orphans(world)
    assert world.good().ran == []


def finished_in(world: World) -> set[str]:
    """Return the steps that are recorded as done with outputs of the second version."""
    rows = json.loads(world.good("dumpdb").out)
    new = {row["task"] for row in rows if row["state"] == "done" and any("-2.0-" in o["path"] for o in row["outputs"])}
    return {task for task in new if task.startswith("wheel:")}


def test_after_a_kill_between_publishing_and_recording_a_revert_is_no_reason_to_skip(
    built: World, expected: Callable[[int], dict[str, bytes]]
) -> None:
    world = built
    set_version(world, 2)
    kill_at(world, "buildlib.tasks.database:Database.done", 1, "before", "-n", "0")
    set_version(world, 1)
    world.good()
    assert_whole(world, expected(1))


def test_after_two_kills_with_three_versions_only_the_last_is_left(
    built: World, expected: Callable[[int], dict[str, bytes]]
) -> None:
    world = built
    for number in (2, 3):
        set_version(world, number)
        kill_at(world, "buildlib.tasks.database:Database.done", 1, "before", "-n", "0")
    set_version(world, 4)
    world.good()
    assert_whole(world, expected(4))


def test_clean_after_a_kill_leaves_nothing(built: World) -> None:
    world = built
    set_version(world, 2)
    kill_at(world, "buildlib.tasks.database:Database.done", 2, "before", "-n", "0")
    world.good("clean")
    assert world.outputs() == {}
    assert list(world.root.glob("*/*/dist")) == []


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("-n", "0"), ("-n", "4")], ids=["serial", "parallel"])
def test_killed_after_any_time_the_next_run_is_right(
    built: World, expected: Callable[[int], dict[str, bytes]], arguments: tuple[str, ...]
) -> None:
    world = built
    wanted = {1: expected(1), 2: expected(2)}
    chance = random.Random(7)
    for round_ in range(int(os.environ.get("LAWS_KILLS", "8"))):
        number = 2 - round_ % 2
        set_version(world, number)
        out = kill_after(world, chance.uniform(0.15, 1.2), *arguments)
        run = world.good()
        finished = {task for task, word, _ in _run(0, out, "").steps if word != "failed"}
        assert finished.isdisjoint(run.ran), (out, run.out)
        assert_whole(world, wanted[number])
        assert world.good().ran == []


def kill_after(world: World, seconds: float, *arguments: str) -> str:
    """Start `doit`, kill it after a while, check that nothing of it lives on; return what it had printed."""
    process = world.start(*arguments)
    time.sleep(seconds)
    process.kill()
    out = process.communicate()[0]
    assert_no_orphans(world)
    return out


def wait_for(world: World, pattern: str) -> None:
    """Wait until a file appears."""
    until = time.monotonic() + 30
    while not list(world.root.glob(pattern)):
        assert time.monotonic() < until, f"{pattern} never appeared"
        time.sleep(0.005)


def test_a_child_that_left_its_session_does_not_hold_the_lock_nor_live_on(world: World) -> None:
    directory = world.library("a")
    sleeper = 'subprocess.Popen(["sleep", "31.4"], start_new_session=True)'
    began = f'import subprocess, time; {sleeper}; open("began.mark", "w").close(); time.sleep(30)'
    world.edit(
        f"{directory}/backend/tiny.py", "metadata_directory=None):\n", f"metadata_directory=None):\n    {began}\n"
    )
    process = world.start()
    wait_for(world, ".buildlib/tmp/*/root/libs/a/began.mark")
    process.kill()
    process.communicate()
    assert_no_orphans(world)
    world.edit(f"{directory}/backend/tiny.py", "time.sleep(30)", "pass")
    started = time.monotonic()
    assert world.good().ran == ["wheel:a"]
    assert time.monotonic() - started < 10
    assert_no_orphans(world)


# Damaged state ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(world: World) -> World:
    """Return a world of three projects, built."""
    world.library("a")
    world.library("b", "a")
    world.service("svc", "b")
    world.good()
    return world


STATE = ["quick.index", "tree.index", "workspace.index", "state.db"]


def damage(path: Path, how: str) -> None:
    """Damage a file."""
    data = bytearray(path.read_bytes())
    if how.startswith("cut"):
        data = data[
            : {
                "cut to nothing": 0,
                "cut in its head": 60,
                "cut in half": len(data) // 2,
                "cut by a byte": len(data) - 1,
            }[how]
        ]
    elif how == "noise":
        data = bytearray(random.Random(1).randbytes(len(data)))
    elif how == "zeros":
        data[:512] = bytes(min(512, len(data)))
    else:
        chance = random.Random(how)
        for _ in range(40 if data else 0):  # a run of a few steps does not write all of them anew
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


DAMAGES = [
    "cut to nothing",
    "cut in its head",
    "cut in half",
    "cut by a byte",
    "noise",
    "zeros",
    "flips 1",
    "flips 2",
    "flips 3",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", STATE)
def test_a_damaged_file_of_ours_costs_time_and_nothing_else(small: World, name: str) -> None:
    wanted = small.outputs()
    for how in DAMAGES:
        damage(small.path(f".buildlib/{name}"), how)
        small.write("libs/a/a/__init__.py", f"NOW = {how!r}\n")
        run = small.good()
        assert {"wheel:a", "stage:svc"} <= set(run.ran), (how, run.out)
        damage(small.path(f".buildlib/{name}"), how)
        small.write("libs/a/a/__init__.py", "NAME = 'a'\n")
        small.good()
        assert small.outputs() == wanted, how
        assert small.good().ran == []


def test_a_flipped_bit_in_a_record_never_passes_for_another_name(small: World) -> None:
    wanted = small.outputs()
    with sqlite3.connect(small.path(".buildlib/state.db")) as connection:
        connection.execute(
            "update record set outputs = replace(outputs, '\"a-1.0-py3-none-any', '\"c-1.0-py3-none-any')"
        )
    connection.close()
    for index in STATE[:3]:
        small.path(f".buildlib/{index}").unlink()
    small.good()
    assert small.outputs() == wanted


def test_text_in_the_database_that_is_no_text_is_damage(small: World) -> None:
    connection = sqlite3.connect(small.path(".buildlib/state.db"), isolation_level=None)
    connection.execute("update record set outputs = cast(x'5b22ff5d' as text) where task = 'wheel:a'")
    connection.close()
    small.path(".buildlib/quick.index").unlink()
    wanted = small.outputs()
    assert "wheel:a" in small.good().ran
    assert small.outputs() == wanted


def test_a_database_of_another_version_is_made_anew(small: World) -> None:
    connection = sqlite3.connect(small.path(".buildlib/state.db"), isolation_level=None)
    connection.execute("pragma user_version = 99")
    connection.close()
    small.path(".buildlib/quick.index").unlink()
    wanted = small.outputs()
    assert len(small.good().ran) == 5
    assert small.outputs() == wanted and small.good().ran == []


def test_a_lost_record_that_the_quick_index_speaks_of_is_no_crash(small: World) -> None:
    """The database loses rows behind the index's back (a damaged page); the index does not tell what a step made."""
    with sqlite3.connect(small.path(".buildlib/state.db")) as connection:
        connection.execute("delete from record")
    connection.close()
    wanted = small.outputs()
    small.write("services/svc/svc/__init__.py", "NEW = 1\n")
    small.good()
    small.write("services/svc/svc/__init__.py", "NAME = 'svc'\n")
    small.good()
    assert small.outputs() == wanted


@pytest.mark.parametrize(
    "name", [".buildlib", ".buildlib/state.db", ".buildlib/wheels", ".buildlib/lock", ".buildlib/tmp"]
)
def test_anything_of_ours_may_be_deleted(small: World, name: str) -> None:
    wanted = small.outputs()
    path = small.path(name)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    small.write("libs/b/b/__init__.py", "NEW = 1\n")
    assert {"wheel:b", "stage:svc"} <= set(small.good().ran)
    small.write("libs/b/b/__init__.py", "NAME = 'b'\n")
    small.good()
    assert small.outputs() == wanted and small.good().ran == []


@pytest.mark.parametrize("gone", ["store", "cache"])
def test_store_and_cache_may_be_deleted(small: World, tmp_path: Path, gone: str) -> None:
    small.environ |= {"BUILDLIB_CACHE": str(tmp_path / "cache"), "BUILDLIB_STORE": str(tmp_path / "store")}
    small.write("libs/a/a/__init__.py", "NEW = 1\n")
    small.good()
    shutil.rmtree(tmp_path / gone)
    small.write("libs/a/a/__init__.py", "NEW = 2\n")
    small.good()
    small.write("libs/a/a/__init__.py", "NEW = 1\n")
    run = small.good()
    assert run.word("wheel:a") == "built" if gone == "store" else run.word("wheel:a") == "fetched"
