"""Warm workers: the bytes of a fresh process, no state from one build to the next, and never a hang.

The backend is a module of a small real environment, so that a worker may import it; poetry-core is there for the bytes.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from test_execute_local import LINUX, is_running, numbers, wait_for
from test_execute_support import Tree, make_environment, poetry_project, wheel_action, wheel_tree

from buildlib.execute.action import ActionFailed, MissingRequires, Result
from buildlib.execute.local import LocalExecutor
from buildlib.execute.workers import worker_backend

POETRY = "poetry.core.masonry.api"

# Runs the project's `do.py`, so that each test says there what a backend would do; `seen` is state that must not leak.
# (A warm action never runs project code: this one does so only to look at the process from inside.)
PROBE = """
import os, sys, tempfile, time
seen, path_at_import = [], os.environ.get('PATH')
def build_wheel(directory, config_settings=None, metadata_directory=None):
    tempfile.gettempdir()  # cached for the rest of the process
    if os.path.exists('do.py'):
        exec(open('do.py').read(), globals())
    open(os.path.join(directory, 'a-1-py3-none-any.whl'), 'w').write('wheel')
    return 'a-1-py3-none-any.whl'
def get_requires_for_build_wheel(config_settings=None):
    return ['more'] if os.path.exists('wants-more') else []
"""


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("environment") / "env"
    found = make_environment(place, "poetry-core==2.5.0")
    (next(place.glob("lib/*/site-packages")) / "probe.py").write_text(PROBE)
    return found


class Builder:
    """One executor and one room per build."""

    def __init__(self, tmp_path: Path, tools: dict[str, str], jobs: int = 1) -> None:
        self.tmp_path, self.tools, self.count = tmp_path, tools, 0
        self.executor = LocalExecutor(jobs=jobs)

    def build(self, tree: Tree, backend: str = "probe", directory: str = "", warm: bool = True, **changes) -> Result:
        self.count += 1
        room = str(self.tmp_path / f"room{self.count}")
        action = wheel_action(tree, backend, directory=directory, warm=warm)
        return self.executor.run(action, tree.read, room, self.tools, **changes)

    def do(self, source: str) -> str:
        """The log of a build that runs this source in the backend."""
        return self.build(wheel_tree({"do.py": source})).log


@pytest.fixture
def builder(tmp_path: Path, tools: dict[str, str]):
    made = Builder(tmp_path, tools)
    yield made
    made.executor.close()


PARENT_IS_WORKER = "print(open(f'/proc/{os.getppid()}/cmdline').read().split(chr(0))[1].split('/')[-1])"


@LINUX
def test_warm_builds_share_a_worker_and_others_do_not(builder: Builder) -> None:
    assert [builder.do(PARENT_IS_WORKER) for _ in range(3)] == ["worker.py\n"] * 3
    workers = {builder.do("print(os.getppid())") for _ in range(3)}
    assert len(workers) == 1
    assert builder.build(wheel_tree({"do.py": PARENT_IS_WORKER}), warm=False).log != "worker.py\n"


def test_a_warm_build_has_the_bytes_of_a_fresh_process(builder: Builder) -> None:
    tree = wheel_tree(poetry_project(extra='[project.scripts]\ngo = "demo:main"\n'), "libs/demo")
    cold = builder.build(tree, POETRY, "libs/demo", warm=False).outputs
    assert [builder.build(tree, POETRY, "libs/demo").outputs for _ in range(4)] == [cold] * 4
    assert cold[0].path == ".out/demo-1.0-py3-none-any.whl"


def test_different_projects_in_one_worker_do_not_mix(builder: Builder) -> None:
    trees = [wheel_tree(poetry_project(name)) for name in ("one", "two", "three")]
    cold = [builder.build(tree, POETRY, warm=False).outputs for tree in trees]
    assert [builder.build(tree, POETRY).outputs for tree in trees] == cold


def test_no_state_of_a_build_reaches_the_next(builder: Builder) -> None:
    source = (
        "print(len(seen), 'LEAK' in os.environ, os.path.exists('left'), oct(os.umask(0)), 'odd' in sys.modules)\n"
        "seen.append(1); os.environ['LEAK'] = '1'; open('left', 'w'); os.umask(0o77); sys.modules['odd'] = 1"
    )
    assert [builder.do(source) for _ in range(4)] == ["0 False False 0o22 False\n"] * 4


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_warm_build_has_umask_022(builder: Builder, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert [builder.do("print(oct(os.umask(0)))") for _ in range(3)] == ["0o22\n"] * 3
    finally:
        os.umask(before)


def test_a_warm_build_sees_what_a_fresh_process_sees(builder: Builder) -> None:
    source = (
        "print(sorted((k, v) for k, v in os.environ.items()), os.getcwd(), oct(os.umask(0)), tempfile.gettempdir(),\n"
        "      sys.argv, sys.path, sys.flags, repr(sys.stdin.read()), time.tzname, hash('x'),\n"
        "      sorted(os.listdir(os.environ['TMPDIR'])), sys.stdout.encoding, path_at_import)\n"
        "import atexit; atexit.register(print, 'at exit')"
    )
    tree = wheel_tree({"do.py": source}, "libs/a")
    looks = []
    for warm in (False, True, True, True):
        log = builder.build(tree, directory="libs/a", warm=warm).log
        looks.append(
            log.replace(f"room{builder.count}", "ROOM").replace(".hook.py", "hook.py").replace("../hook", "hook")
        )
    assert len(set(looks)) == 1, looks


def test_the_environment_is_each_actions_own(builder: Builder) -> None:
    import dataclasses

    tree = wheel_tree({"do.py": "print(os.environ['SOURCE_DATE_EPOCH'], 'ODD2' in os.environ)"})
    logs = []
    for index, epoch in enumerate(("1", "2", "3")):
        action = wheel_action(tree, "probe", warm=True)
        environment = tuple(sorted({**dict(action.environment), "SOURCE_DATE_EPOCH": epoch, f"ODD{epoch}": ""}.items()))
        action = dataclasses.replace(action, environment=environment)
        room = str(builder.tmp_path / f"own{index}")
        logs.append(builder.executor.run(action, tree.read, room, builder.tools).log)
    assert logs == ["1 False\n", "2 True\n", "3 False\n"]


def test_log_lines_failures_and_missing_requirements_come_through(builder: Builder) -> None:
    builder.do("")
    lines: list[str] = []
    builder.build(wheel_tree({"do.py": "print('out'); print('err', file=sys.stderr)"}), on_output=lines.append)
    assert sorted(lines) == ["err", "out"]
    with pytest.raises(ActionFailed, match="exit code 1") as raised:
        builder.do("raise ValueError('no')")
    assert "ValueError: no" in raised.value.detail
    with pytest.raises(MissingRequires) as wanted:
        builder.build(wheel_tree({"wants-more": ""}))
    assert wanted.value.requires == ("more",)
    assert builder.do("print('still fine')") == "still fine\n"


def test_a_backend_that_cannot_be_imported_fails_with_its_traceback(builder: Builder) -> None:
    with pytest.raises(ActionFailed) as raised:
        builder.build(wheel_tree({}), "no_such_backend")
    assert "ModuleNotFoundError: No module named 'no_such_backend'" in raised.value.detail


def test_an_interpreter_that_is_not_there_fails_and_does_not_hang(tmp_path: Path) -> None:
    builder = Builder(tmp_path, {"python": "/nowhere/python", "bin": "/nowhere"})
    with pytest.raises(ActionFailed, match="exit code 127"):
        builder.do("")


# Only the first attempt does harm: the subprocess that follows finds the mark outside its room.
def once(mark: Path, harm: str) -> str:
    tell = f"open({str(mark)!r}, 'w').write(str(os.getpid()))"
    return f"if not os.path.exists({str(mark)!r}):\n    {tell}\n    {harm}\nprint('built')"


@pytest.mark.parametrize(
    "harm",
    [
        "os.kill(os.getppid(), 9); time.sleep(600)",
        "os.kill(os.getpid(), 9)",
        "os.kill(os.getppid(), 15); time.sleep(600)",
    ],
    ids=["worker shot", "child shot", "worker ended"],
)
def test_a_worker_that_dies_is_replaced_by_a_subprocess(builder: Builder, tmp_path: Path, harm: str) -> None:
    started = time.monotonic()
    assert builder.do(once(tmp_path / "mark", "open('left', 'w'); " + harm)) == "built\n"
    assert not (tmp_path / "room1/root/left").exists()
    wait_for(lambda: not is_running(int((tmp_path / "mark").read_text())), 2)
    assert builder.do("print('next')") == "next\n"
    assert time.monotonic() - started < 10


def test_a_worker_that_dies_idle_is_replaced_by_a_subprocess(builder: Builder) -> None:
    worker = int(builder.do("print(os.getppid())"))
    os.kill(worker, signal.SIGKILL)
    assert builder.do("print('built')") == "built\n"


def test_a_worker_that_talks_nonsense_is_replaced_by_a_subprocess(tmp_path: Path, tools: dict[str, str]) -> None:
    fake = tmp_path / "python"
    # Talks nonsense as a worker, and is the real interpreter for everything else.
    fake.write_text(
        f'#!/bin/sh\ncase "$1" in *worker.py) echo nonsense; exec sleep 600;; esac\nexec {tools["python"]} "$@"\n'
    )
    fake.chmod(0o755)
    builder = Builder(tmp_path, {**tools, "python": str(fake)})
    started = time.monotonic()
    assert builder.do("print('built')") == "built\n"
    builder.executor.close()
    assert time.monotonic() - started < 10


def test_what_a_warm_build_leaves_in_the_background_is_ended_with_it(builder: Builder) -> None:
    for _ in range(2):
        pid = int(builder.do("import subprocess; print(subprocess.Popen(['sleep', '600']).pid)"))
        wait_for(lambda pid=pid: not is_running(pid), 2)


HANG = (
    "import subprocess\nchild = subprocess.Popen(['sleep', '600'])\n"
    "open('pids.tmp', 'w').write(f'{os.getpid()} {os.getppid()} {child.pid}')\n"
    "os.rename('pids.tmp', 'pids')\ntime.sleep(600)"
)

PARENT = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parent.parent)]}
from test_execute_support import wheel_action, wheel_tree
from buildlib.execute.local import LocalExecutor
room, python, bin = sys.argv[1:]
tree = wheel_tree({{"do.py": {HANG!r}}})
action = wheel_action(tree, "probe", warm=True)
LocalExecutor(jobs=1).run(action, tree.read, room, {{"python": python, "bin": bin}})
"""


def test_a_worker_and_its_build_end_when_the_parent_is_killed(tmp_path: Path, tools: dict[str, str]) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "room"), tools["python"], tools["bin"]])
    pids = wait_for(lambda: numbers(tmp_path / "room/root/pids"))
    assert len(pids) == 3 and all(is_running(pid) for pid in pids)
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(is_running(pid) for pid in pids), 2)


def test_kill_and_close_end_a_warm_build(builder: Builder) -> None:
    failures: list[str] = []

    def build() -> None:
        try:
            builder.do(HANG)
        except ActionFailed as problem:
            failures.append(problem.cause)

    thread = threading.Thread(target=build)
    thread.start()
    pids = wait_for(lambda: numbers(builder.tmp_path / "room1/root/pids"))
    builder.executor.kill()
    wait_for(lambda: not any(is_running(pid) for pid in pids), 2)
    thread.join(2)
    assert failures == ["the build was stopped"]


def test_close_ends_idle_workers(builder: Builder) -> None:
    worker = int(builder.do("print(os.getppid())"))
    assert is_running(worker)
    builder.executor.close()
    assert not is_running(worker)


def test_there_are_never_more_workers_than_jobs(tmp_path: Path, tools: dict[str, str]) -> None:
    builder = Builder(tmp_path, tools, jobs=2)
    tree = wheel_tree({"do.py": "print(os.getppid()); time.sleep(0.1)"})
    logs: list[str] = []

    def several(first: int) -> None:
        for index in range(3):
            action = wheel_action(tree, "probe", warm=True)
            room = str(tmp_path / f"t{first}-{index}")
            logs.append(builder.executor.run(action, tree.read, room, tools).log)

    threads = [threading.Thread(target=several, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(logs)) <= 2 and len(logs) == 6
    builder.build(wheel_tree(poetry_project()), POETRY)  # another backend takes an idle worker's place
    assert sum(is_running(int(log)) for log in set(logs)) <= 1
    builder.executor.close()


def test_only_builds_that_run_no_project_code_and_our_hook_may_be_warm() -> None:
    tree = wheel_tree({"a.py": ""}, "libs/a")
    assert worker_backend(wheel_action(tree, "probe", directory="libs/a", warm=True), sha(tree, ".hook.py")) == "probe"
    assert worker_backend(wheel_action(tree, "probe", directory="libs/a"), sha(tree, ".hook.py")) is None
    own = wheel_action(tree, "probe", "--backend-path", ".", directory="libs/a", warm=True)
    assert worker_backend(own, sha(tree, ".hook.py")) is None
    older = wheel_action(tree, "probe", directory="libs/a", warm=True)
    assert worker_backend(older, sha(tree, "libs/a/a.py")) is None


def sha(tree: Tree, path: str) -> str:
    return next(file.sha256 for file in tree.inputs() if file.path == path)
