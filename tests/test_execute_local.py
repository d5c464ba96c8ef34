"""Commands in a guarded subprocess: what they see, and that nothing of them outlives its parent."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from test_execute_support import HERE_TOOLS, Tree

from buildlib.errors import BuildlibError
from buildlib.execute.action import ActionFailed, Result
from buildlib.execute.local import LocalExecutor

EMPTY = Tree({})
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's subreaper")


def run(tmp_path: Path, source: str, tree: Tree = EMPTY, **changes: object) -> Result:
    executor = LocalExecutor(jobs=1)
    try:
        return executor.run(tree.script(source, **changes), tree.read, str(tmp_path / "room"), HERE_TOOLS)
    finally:
        executor.close()


def is_running(pid: int) -> bool:
    """Whether a process of that id runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")


def wait_for(what, seconds: float = 10.0):
    """The first true value of `what()`; fails after some seconds."""
    until = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
    return value


def numbers(path: Path) -> list[int]:
    words = path.read_text().split() if path.exists() else []
    return [int(word) for word in words]


def test_outputs_and_log_of_a_command(tmp_path: Path) -> None:
    source = "import sys; print('out'); sys.stderr.write('err\\n'); open('made/x', 'w').write(open('in').read())"
    result = run(tmp_path, source, Tree({"in": "hello"}), outputs=("made/x",))
    assert [(output.path, output.size) for output in result.outputs] == [("made/x", 5)]
    assert sorted(result.log.splitlines()) == ["err", "out"]
    assert (tmp_path / "room/root/made/x").read_text() == "hello"
    assert 0 < result.seconds < 10


def test_the_environment_is_the_actions_and_three_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET", "GIT_DIR", "PYTHONPATH", "LC_CTYPE"):
        monkeypatch.setenv(name, "leaks")
    environment = (
        ("A", "x=y {other}"),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("P", "{bin}:/bin"),
        ("R", "-map={root}=."),
    )
    source = "import os, json; print(json.dumps(dict(os.environ)))"
    found = json.loads(run(tmp_path, source, environment=environment).log)
    room = str(tmp_path / "room")
    assert found == {
        "A": "x=y {other}",
        "LC_ALL": "C.UTF-8",  # without it Python itself would add an LC_CTYPE
        "P": HERE_TOOLS["bin"] + ":/bin",
        "R": f"-map={room}/root=.",
        "HOME": f"{room}/home",
        "TMPDIR": f"{room}/tmp",
        "GIT_CEILING_DIRECTORIES": room,
    }


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_command_has_umask_022_no_stdin_and_its_own_directory(tmp_path: Path, umask: int) -> None:
    source = "import os, sys; print(oct(os.umask(0)), repr(sys.stdin.read()), os.isatty(0), os.getcwd())"
    before = os.umask(umask)
    try:
        log = run(tmp_path, source, directory="libs/a").log
    finally:
        os.umask(before)
    assert log.split() == ["0o22", "''", "False", str(tmp_path / "room/root/libs/a")]


def test_a_command_inherits_no_descriptor_not_even_an_inheritable_lock(tmp_path: Path) -> None:
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(lock, True)
    try:
        source = (
            "import os\nfor n in range(3, 256):\n"
            "    try: os.fstat(n)\n    except OSError: continue\n    print('open', n)\nprint('end')"
        )
        assert run(tmp_path, source).log == "end\n"
    finally:
        os.close(lock)


def test_git_does_not_find_the_repository_around_the_room(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    tree = Tree({"libs/a/x": "x"})
    executor = LocalExecutor(jobs=1)
    for directory in ("", "libs/a"):
        action = tree.action("git", "rev-parse", "--show-toplevel", directory=directory)
        with pytest.raises(ActionFailed) as raised:
            executor.run(action, tree.read, str(tmp_path / ".buildlib/tmp/room"), HERE_TOOLS)
        assert "not a git repository" in raised.value.detail


def test_a_repository_among_the_inputs_is_found(tmp_path: Path) -> None:
    source = "import subprocess as s; s.run(['git', 'init', '-q'], check=True); s.run(['git', 'status'], check=True)"
    assert "No commits yet" in run(tmp_path, source).log


def test_each_line_is_handed_out_while_the_command_runs(tmp_path: Path) -> None:
    seen: list[str] = []
    go = tmp_path / "go"

    def on_output(line: str) -> None:
        seen.append(line)
        go.touch()  # the command waits for this: it can only end if the line came before

    wait = f"while not os.path.exists({str(go)!r}): time.sleep(0.01)"
    source = f"import os, time\nprint('caf\\u00e9 1')\n{wait}\nprint('2', end='')"
    action = EMPTY.script(source)
    result = LocalExecutor(jobs=1).run(action, EMPTY.read, str(tmp_path / "room"), HERE_TOOLS, on_output)
    assert seen == ["café 1", "2"]
    assert result.log == "café 1\n2"


def test_bytes_that_are_no_text_do_not_break_the_log(tmp_path: Path) -> None:
    assert run(tmp_path, "import os; os.write(1, b'a\\xffb')").log == "a\ufffdb"


def test_a_failure_carries_the_whole_log_and_is_one_line_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ActionFailed) as raised:
        run(tmp_path, "print('line\\n' * 3); raise SystemExit(3)", directory="libs/a")
    assert str(raised.value) == "libs/a: the build ended with exit code 3 (line); see its output"
    assert raised.value.detail == "line\n" * 3 + "\n"


def test_a_failure_without_a_word_is_one_line_too(tmp_path: Path) -> None:
    with pytest.raises(ActionFailed, match=r"^libs/a: the build ended with exit code 3; see its output$"):
        run(tmp_path, "raise SystemExit(3)", directory="libs/a")


def test_a_missing_output_is_a_failure_with_the_log(tmp_path: Path) -> None:
    with pytest.raises(ActionFailed, match=r"^x: is declared as an output") as raised:
        run(tmp_path, "print('nothing made')", outputs=("x",))
    assert raised.value.detail == "nothing made\n"


def test_a_command_that_does_not_exist_is_a_failure_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ActionFailed, match="exit code 127") as raised:
        LocalExecutor(jobs=1).run(EMPTY.action("no-such-tool"), EMPTY.read, str(tmp_path / "room"), HERE_TOOLS)
    assert "no-such-tool: No such file or directory" in raised.value.detail


@pytest.mark.parametrize("victim", ["os.getpid()", "0"], ids=["itself", "its group"])
def test_a_command_that_kills_itself_is_a_failure_that_names_the_signal(tmp_path: Path, victim: str) -> None:
    with pytest.raises(ActionFailed, match="killed by signal 15"):
        run(tmp_path, f"import os; os.kill({victim}, 15)")


def test_a_command_that_shoots_its_guard_is_a_failure_and_no_hang(tmp_path: Path) -> None:
    with pytest.raises(ActionFailed, match="killed by signal 9"):
        run(tmp_path, "import os, time; os.kill(os.getppid(), 9); time.sleep(600)")


def test_a_room_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildlibError, match="its build room cannot be written"):
        LocalExecutor(jobs=1).run(EMPTY.action("true"), EMPTY.read, str(tmp_path / "file/room"), HERE_TOOLS)


def test_what_a_build_leaves_in_the_background_is_ended_with_it(tmp_path: Path) -> None:
    source = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid)"
    started = time.monotonic()
    pid = int(run(tmp_path, source).log)
    assert time.monotonic() - started < 5
    wait_for(lambda: not is_running(pid), 2)


@LINUX
def test_a_daemon_of_a_build_is_ended_with_it(tmp_path: Path) -> None:
    source = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"
    pid = int(run(tmp_path, source).log)
    wait_for(lambda: not is_running(pid), 2)


# The command writes its own pid, a child's and a daemon's, then hangs, deaf to polite signals.
HANG = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(['sleep', '600'])
daemon = subprocess.Popen(['sleep', '600'], start_new_session=sys.platform == 'linux')
open('pids.tmp', 'w').write(f'{os.getpid()} {child.pid} {daemon.pid}')
os.rename('pids.tmp', 'pids')
time.sleep(600)
"""

PARENT = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parent.parent)]}
from test_execute_support import HERE_TOOLS, Tree
from buildlib.execute.local import LocalExecutor
tree = Tree({{}})
LocalExecutor(jobs=1).run(tree.script({HANG!r}), tree.read, sys.argv[1], HERE_TOOLS)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_everything_ends_within_two_seconds_of_the_death_of_the_parent(tmp_path: Path, number: int) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "room")])
    pids = wait_for(lambda: numbers(tmp_path / "room/root/pids"))
    assert len(pids) == 3 and all(is_running(pid) for pid in pids)
    os.kill(parent.pid, number)
    parent.wait()
    wait_for(lambda: not any(is_running(pid) for pid in pids), 2)


def test_kill_ends_a_running_command_from_another_thread(tmp_path: Path) -> None:
    executor = LocalExecutor(jobs=1)
    failures: list[BuildlibError] = []

    def build() -> None:
        try:
            executor.run(EMPTY.script(HANG), EMPTY.read, str(tmp_path / "room"), HERE_TOOLS)
        except BuildlibError as problem:
            failures.append(problem)

    thread = threading.Thread(target=build)
    thread.start()
    pids = wait_for(lambda: numbers(tmp_path / "room/root/pids"))
    executor.kill()
    wait_for(lambda: not any(is_running(pid) for pid in pids), 2)
    thread.join(2)
    assert not thread.is_alive()
    assert [problem.cause for problem in failures] == ["the build was stopped"]
    with pytest.raises(ActionFailed, match="was stopped"):
        executor.run(EMPTY.action("true"), EMPTY.read, str(tmp_path / "room"), HERE_TOOLS)


def test_an_interrupt_in_the_thread_that_runs_ends_the_command(tmp_path: Path) -> None:
    executor = LocalExecutor(jobs=1)
    seen: list[str] = []

    def interrupt(line: str) -> None:
        seen.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor.run(
            EMPTY.script("import os, time; print(os.getpid()); time.sleep(600)"),
            EMPTY.read,
            str(tmp_path / "room"),
            HERE_TOOLS,
            interrupt,
        )
    wait_for(lambda: not is_running(int(seen[0])), 2)


def test_runs_in_several_threads_keep_their_logs_and_directories_apart(tmp_path: Path) -> None:
    executor = LocalExecutor(jobs=2)
    results: dict[int, Result] = {}

    def one(index: int) -> None:
        tree = Tree({"me": str(index)})
        action = tree.script(f"print(open('me').read(), {index})")
        results[index] = executor.run(action, tree.read, str(tmp_path / f"room{index}"), HERE_TOOLS)

    where = os.getcwd()
    threads = [threading.Thread(target=one, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {index: result.log for index, result in results.items()} == {i: f"{i} {i}\n" for i in range(6)}
    assert os.getcwd() == where


def test_runs_leave_no_descriptor_and_no_zombie(tmp_path: Path) -> None:
    executor = LocalExecutor(jobs=1)

    def once() -> None:
        executor.run(EMPTY.action("true"), EMPTY.read, str(tmp_path / "room"), HERE_TOOLS)

    once()
    before = os.open(os.devnull, os.O_RDONLY)
    os.close(before)
    for _ in range(3):
        once()
    after = os.open(os.devnull, os.O_RDONLY)
    os.close(after)
    assert after == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
