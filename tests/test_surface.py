"""doit's surface: what each command does with our steps, what is refused, what is said and where."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from world import World

WHEEL = "libs/base/dist/base-1.0-py3-none-any.whl"


@pytest.fixture
def built(chain: World) -> World:
    """Return the chain, by the name that says here what matters: it is built."""
    return chain


def lines(text: str) -> list[str]:
    """Return the lines of `text` without spaces at their ends."""
    return [line.rstrip() for line in text.splitlines()]


# -- list, info


def test_list_shows_each_project_and_all_shows_every_task(built: World) -> None:
    assert lines(built.good("list", "-q").out) == ["build:app", "build:base", "build:other", "build:svc"]
    every = lines(built.good("list", "-q", "--all").out)
    assert {"build", "wheel", "wheel:base", "stage:svc", "requirements:svc", "build:svc"} <= set(every)


def test_the_status_of_a_group_is_that_of_its_steps(built: World) -> None:
    assert {line[0] for line in built.good("list", "-s").out.splitlines()} == {"U"}
    built.edit("libs/base/base/__init__.py", "base", "BASE")
    assert [line[0] for line in built.good("list", "-s").out.splitlines()] == ["U", "R", "U", "R"]
    info = built.doit("info", "build:svc")
    assert info.code == 1 and " * stage svc: after wheel base" in info.out
    assert built.doit("info", "build:other").code == 0


def test_info_names_what_a_makefile_rule_would_in_one_order(built: World) -> None:
    text = built.good("info", "wheel:base").out
    assert lines(text[text.index("file_dep") :])[1:4] == [
        " - .gitignore",
        " - libs/base/backend/tiny.py",
        " - libs/base/base/__init__.py",
    ]
    stage = built.good("info", "stage:svc").out
    assert (
        " - wheel:base" in stage
        and f" - {WHEEL}" in stage
        and " - services/svc/dist/deps/base-1.0-py3-none-any.whl" in stage
    )
    assert built.good("info", WHEEL).out == text


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_completion_script_can_hold_the_tasks(built: World, shell: str) -> None:
    assert "wheel" in built.good("tabcompletion", "-s", shell, "--hardcode-tasks").out


# -- clean, forget, ignore


def test_clean_removes_what_was_made_and_nothing_else_and_is_quiet_the_second_time(built: World) -> None:
    built.write("libs/base/dist/mine", "x")
    built.write("services/svc/dist/deps/mine/x", "x")
    assert "executing" not in built.good("clean").out
    assert set(built.outputs()) == {"libs/base/dist/mine", "services/svc/dist/deps/mine/x"}
    assert not built.path("libs/app/dist").exists()
    again = built.good("clean")
    assert again.out == "" and again.err == ""
    assert built.good().counts == {"built": 6}


def test_clean_takes_verbs_projects_wildcards_and_paths(built: World) -> None:
    before = set(built.outputs())
    built.good("clean", "wheel", "stage")
    assert set(built.outputs()) == {".buildlib/requirements/svc.txt"}
    built.good()
    for words in (["build:base"], ["wheel:b*"], [WHEEL], [str(built.path(WHEEL))]):
        built.good("clean", *words)
        assert before - set(built.outputs()) == {WHEEL, ".buildlib/wheels/base/base-1.0-py3-none-any.whl"}, words
        assert built.good().ran == ["wheel:base"]


def test_clean_with_what_it_needs_goes_down_to_the_wheels(built: World) -> None:
    built.good("clean", "-c", "stage:svc")
    assert {p.split("/")[1] for p in built.outputs()} == {"other", "wheels"} and all(
        "other" in p for p in built.outputs()
    )


def test_a_dry_run_of_clean_changes_nothing(built: World) -> None:
    before = built.outputs()
    assert f"removing {WHEEL}" in built.good("clean", "-n").out
    assert built.outputs() == before and built.good().ran == []


def test_a_verb_without_steps_cleans_nothing(built: World) -> None:
    before = built.outputs()
    assert built.good("clean", "image").out == "" and built.outputs() == before
    assert built.good("image").counts == {"built": 0}


def test_clean_removes_what_projects_made_that_are_gone(built: World) -> None:
    subprocess.run(["rm", "-r", built.path("libs/other")], check=True)
    built.good()
    built.good("clean")
    assert built.outputs() == {}


def test_forgetting_a_group_forgets_its_steps_whose_older_outputs_stay_ours(built: World) -> None:
    built.good("forget", "build:base")
    built.edit("libs/base/pyproject.toml", 'version = "1.0"', 'version = "2.0"')
    assert built.good().reason("wheel:base") == "forgotten"
    assert not built.path(WHEEL).exists()
    assert "forgetting build" in built.good("forget").out
    assert len(built.good().ran) == 6


def test_an_ignored_step_is_said_once_and_the_plan_knows(built: World) -> None:
    built.good("ignore", "wheel:base")
    built.edit("libs/base/base/__init__.py", "base", "BASE")
    assert json.loads(built.good("plan", "--json").out) == []
    first, second = built.good(), built.good()
    assert [(task, word) for task, word, _ in first.steps] == [("wheel:base", "skipped"), ("stage:svc", "skipped")]
    assert (
        second.steps == ()
        and second.counts == {"built": 0, "skipped": 2, "up to date": 4}
        and second.out.count("\n") == 1
    )
    built.good("forget", "wheel:base")
    assert built.good().ran == ["stage:svc", "wheel:base"]


# -- what is asked for


@pytest.mark.parametrize("word", [WHEEL, f"./{WHEEL}", "{root}/" + WHEEL, "wheel:b*", "libs/../" + WHEEL])
def test_a_target_is_built_by_its_path_before_and_after_it_is_there(world: World, word: str) -> None:
    world.library("base")
    word = word.replace("{root}", str(world.root))
    assert world.good(word).ran == ["wheel:base"]
    assert world.good(word).counts == {"built": 0, "up to date": 1}


@pytest.mark.parametrize(
    "command", [(), ("list",), ("info",), ("clean",), ("forget",), ("ignore",), ("plan",), ("why",)]
)
def test_an_unknown_name_is_one_line_with_the_nearest(built: World, command: tuple[str, ...]) -> None:
    for word, near in (("whel:base", "wheel:base?"), ("nope:*", "list --all"), ("libs/x/dist/x.whl", "list --all")):
        run = built.doit(*command, word)
        assert run.code == 3 and run.err.count("\n") == 1 and near in run.err and run.out == ""


@pytest.mark.parametrize(
    ("arguments", "cause", "help_on"),
    [
        ("-x", "option -x not recognized", "run"), ("plan -x", "option -x not recognized", "plan"),
        ("list --nope", "option --nope not recognized", "list"), ("why wheel:base -x", "option -x not", "why"),
        ("clean -x", "option -x not recognized", "clean"), ("info -x", "option -x not recognized", "info"),
        ("dumpdb -x", "option -x not", "dumpdb"), ("lock --db-file x", "option --db-file not recognized", "lock"),
        ("-n many wheel:base", "'many'", "run"), ("-r nope", "'nope'", "run"), ("mine -x", "option -x not", "mine"),
        ("list wheel:base --status", "--status: options go before the tasks", "list"),
    ],
)  # fmt: skip
def test_an_unknown_option_is_one_line_that_names_the_help(
    world: World, arguments: str, cause: str, help_on: str
) -> None:
    world.library("base")
    task = 'def task_mine():\n    return {"actions": ["true"], "params": [{"name": "v", "default": ""}]}\n'
    world.write("dodo.py", f"{world.read('dodo.py')}\n\n{task}")
    run = world.doit(*arguments.split())
    assert (run.code, run.err.count("\n"), run.out, world.outputs()) == (3, 1, "", {})
    assert cause in run.err and f"`doit help {help_on}` shows" in run.err and "CmdOption" not in run.err


def test_options_of_plan_and_why_may_follow_the_tasks_and_help_shows_no_others(built: World) -> None:
    assert json.loads(built.good("plan", "wheel:base", "--json").out) == []
    assert json.loads(built.good("why", "wheel:base", "--json").out)[0]["task"] == "wheel:base"
    for command, option in (("plan", "--json"), ("why", "--json"), ("lock", "--upgrade")):
        said = built.good("help", command).out.partition("OPTIONS")[2]
        assert [word for word in said.split() if word.startswith("--")] == [option] and "backend" not in said


def test_a_plan_counts_what_a_run_skips(built: World) -> None:
    built.write("services/svc/Dockerfile", "FROM scratch\nCOPY . /\n")
    built.good()
    assert built.good().counts == {"built": 0, "skipped": 1, "up to date": 6}
    assert built.good("plan").err == "0 will run, 0 may run, 1 skipped, 6 up to date\n"
    built.good("ignore", "wheel:other")
    built.edit("libs/other/other/__init__.py", "other", "OTHER")
    assert built.good("plan").err == "0 will run, 0 may run, 2 skipped, 5 up to date\n"
    assert built.good().counts == {"built": 0, "skipped": 2, "up to date": 5}


@pytest.mark.parametrize(("written", "who"), [("", ""), ("77\n", " (process 77)")])
def test_who_waits_says_for_whom_if_that_is_known(built: World, written: str, who: str) -> None:
    with built.path(".buildlib/lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(written)
        held.flush()
        waiting = built.start("plan")
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
    assert said == f"waiting for another build in this workspace{who}\n"
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0


def in_folder(world: World, folder: str, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run `./doit ARGUMENTS` as the launcher does, in a folder of the world."""
    return subprocess.run(
        [sys.executable, "-c", "import sys; from buildlib.__main__ import main; sys.exit(main())", *arguments],
        cwd=world.path(folder), env={**world.environ, "BUILDLIB_ROOT": str(world.root), **environ},
        capture_output=True, text=True,
    )  # fmt: skip


def test_no_task_in_a_projects_folder_is_as_bare_as_at_the_root(built: World) -> None:
    built.write("services/svc/Dockerfile", "FROM scratch\nCOPY . /\n")
    first = in_folder(built, "services/svc/svc")
    assert first.returncode == 0 and "image svc" in first.stdout, first.stderr
    assert first.stdout.splitlines()[-1].startswith("1 unchanged, 1 skipped, 4 up to date in")
    again = [in_folder(built, folder, *jobs) for folder in (".", "services/svc") for jobs in ((), ("-n", "2"))]
    assert [(r.returncode, r.stdout.count("\n"), r.stderr) for r in again] == [(0, 1, "")] * 4
    counts = [r.stdout.partition(" up")[0] for r in again]
    assert counts == ["0 built, 1 skipped, 6"] * 2 + ["0 built, 1 skipped, 5"] * 2
    named = in_folder(built, "services/svc", "build:svc")
    assert named.returncode == 1 and "start Docker" in named.stderr
    assert in_folder(built, "services/svc", CI="1").returncode == 1


def test_a_workspace_without_projects_says_so(world: World) -> None:
    run = world.good()
    assert (
        run.counts == {"built": 0} and run.err.startswith("pyproject.toml: no projects;") and run.err.count("\n") == 1
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["-s", "wheel:base"], ["reset-dep"], ["--db-file", "x.db"], ["list", "--db-file", "x.db"], ["--backend", "dbm"],
        ["-P", "process"], ["-n", "-1"],
        ["strace", "wheel:base"], ["wheel:base", "-n", "2"],
    ],
)  # fmt: skip
def test_what_bypasses_the_laws_is_refused_with_a_cure_and_nothing_is_done(world: World, arguments: list[str]) -> None:
    world.library("base")
    run = world.doit(*arguments)
    assert run.code == 3 and run.err.count("\n") == 1 and ";" in run.err and world.outputs() == {}
    assert not list(world.root.glob(".doit.db*")) and not world.path("x.db").exists()


@pytest.mark.parametrize(
    "setting", ["single = true", 'par_type = "process"', 'dep_file = "x.db"', 'backend = "json"', "backend"]
)
def test_the_same_is_refused_in_pyproject(world: World, setting: str) -> None:
    world.library("base")
    kept = [line for line in world.read("pyproject.toml").splitlines() if line.split(" ")[0] != setting.split(" ")[0]]
    kept.insert(1, setting if "=" in setting else "")
    world.write("pyproject.toml", "\n".join(kept))
    run = world.doit()
    assert (
        run.code == 3
        and run.err.startswith("ERROR: pyproject.toml: [tool.doit]")
        and run.err.count("\n") == 1
        and world.outputs() == {}
    )


@pytest.mark.parametrize(
    "setting", ['{"single": True}', '{"par_type": "process"}', '{"dep_file": "x.db"}', '{"backend": "json"}']
)
def test_the_same_is_refused_in_dodo(world: World, setting: str) -> None:
    world.library("base")
    world.write("dodo.py", f"from buildlib.tasks.dodo import DOIT_CONFIG\nDOIT_CONFIG.update({setting})\n")
    run = world.doit()
    assert run.code == 3 and "dodo.py: DOIT_CONFIG" in run.err and run.err.count("\n") == 1 and world.outputs() == {}


def test_always_may_be_set_in_dodo(built: World) -> None:
    built.write("dodo.py", "from buildlib.tasks.dodo import DOIT_CONFIG\nDOIT_CONFIG['always'] = True\n")
    assert built.good("wheel:base").ran == ["wheel:base"]


@pytest.mark.parametrize("command", ["plan", "why", "lock"])
def test_our_commands_say_where_they_have_no_sense_and_leave_no_database(tmp_path: Path, command: str) -> None:
    (tmp_path / "dodo.py").write_text("def task_x():\n    return {'actions': ['true']}\n")
    done = subprocess.run(["doit", command], cwd=tmp_path, env=_path(), capture_output=True, text=True, check=False)
    assert done.returncode == 3 and done.stderr.count("\n") == 1 and 'loader = "buildlib"' in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == ["dodo.py"]


def _path() -> dict[str, str]:
    import sys

    return {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}


@pytest.mark.parametrize("command", ["run", "plan", "clean"])
def test_a_state_directory_that_cannot_be_is_one_line(world: World, command: str) -> None:
    world.library("base")
    world.write(".buildlib", "in the way")
    run = world.doit(command)
    assert run.code == 3 and ".buildlib" in run.err and run.err.count("\n") == 1


# -- output


@pytest.mark.parametrize("reporter", ["json", "zero", "executed-only", "console", "error-only"])
def test_other_reporters_work_and_the_log_is_written_all_the_same(world: World, reporter: str) -> None:
    world.library("base")
    assert world.good("-r", reporter, "wheel:base").err == ""
    assert json.loads(world.good("why", "--json", "wheel:base").out)[0]["word"] == "built"
    assert [json.loads(line)["event"] for line in world.read(".buildlib/log.jsonl").splitlines()] == [
        "run",
        "step",
        "end",
    ]
    assert world.good().counts == {"built": 0, "up to date": 1}


def test_a_failed_group_is_said_once_and_its_code_is_that_of_the_failure(built: World) -> None:
    built.write("libs/base/backend/tiny.py", "raise SystemExit('broken')\n")
    for word in ("wheel:base", "build:base", "build", "wheel"):
        run = built.doit(word)
        assert run.code == 1 and "UnmetDependency" not in run.out and run.counts["failed"] == 1, word
        assert run.reason("wheel:base") != "forgotten"


def test_names_of_any_bytes_keep_a_line_a_line(built: World) -> None:
    for name in ("new\nline.bin", "tab\t.bin", "ümläut.bin", "sp ace.bin"):
        built.write(f"libs/base/base/{name}", "x")
    built.path("libs/base/base").joinpath(os.fsdecode(b"bad\xff.bin")).write_text("x")
    planned = built.good("plan", environ={"LC_ALL": "C", "PYTHONIOENCODING": "ascii"})
    assert planned.out.count("\n") == 2 and "libs/base/base/bad\\udcff.bin added" in planned.out
    run = built.good(environ={"LC_ALL": "C", "PYTHONIOENCODING": "ascii"})
    assert run.ran == ["wheel:base"] and run.out.count("\n") == 2
    built.write("libs/base/base/new\nline.bin", "yy")
    assert built.good().reason("wheel:base") == "libs/base/base/new\\nline.bin changed"
    assert built.good("why", "wheel:base").out.count("\n") == 1 and built.good("info", "wheel:base").code == 0


@pytest.mark.parametrize("command", ["list", "plan", "-a", "info wheel:base", "dumpdb"])
def test_a_reader_that_goes_away_is_no_error(built: World, command: str) -> None:
    process = subprocess.Popen(
        built.command(*command.split()),
        cwd=built.root,
        env=built.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 0 and "Traceback" not in errors and "BrokenPipe" not in errors


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_under_stdout_is_one_line(built: World) -> None:
    for command in (["-a"], ["list"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                built.command(*command),
                cwd=built.root,
                env=built.environ,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode != 0 and "output: cannot be written" in done.stderr and "Traceback" not in done.stderr


def terminal(world: World, *arguments: str, **environ: str) -> str:
    """Return what `doit ARGUMENTS` writes on a terminal."""
    child, descriptor = pty.fork()
    if child == 0:
        os.chdir(world.root)
        os.execvpe(world.command()[0], world.command(*arguments), {**world.environ, "TERM": "xterm", **environ})
    written = b""
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:
            break
        if not piece:
            break
        written += piece
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(descriptor)
    return written.decode()


def test_colours_are_for_terminals_that_want_them(built: World) -> None:
    assert "\033[2munchanged\033[0m" in terminal(built, "-a", "wheel:base")
    assert "\033" not in terminal(built, "-a", "wheel:base", NO_COLOR="1")
    assert "\033" not in terminal(built, "-a", "wheel:base", TERM="dumb")
    assert "\033" not in built.good("-a", "wheel:base").out


@pytest.mark.slow
def test_the_progress_bar_leaves_each_line_alone(world: World) -> None:
    for name in ("a", "b", "c"):
        world.edit(
            f"{world.library(name)}/backend/tiny.py",
            '    with open("py',
            '    import time; time.sleep(1.5)\n    with open("py',
        )
    written = terminal(world, "-n", "2")
    assert "0/3" in written
    shown = [
        line.rpartition("\033[2K")[2]
        for line in written.replace("\r\n", "\n").split("\n")
        if " built" in line or "\033[32mbuilt" in line
    ]
    assert [line.split()[:2] for line in shown[:3]] == [["wheel", line.split()[1]] for line in shown[:3]] and shown[
        3
    ].startswith("3 built in")


# -- being interrupted


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("jobs", ["0", "4"])
def test_an_interrupted_run_keeps_what_finished_and_leaves_nothing_behind(
    world: World, number: int, code: int, jobs: str
) -> None:
    world.library("quick")
    for name in ("slow-a", "slow-b"):
        world.edit(
            f"{world.library(name)}/backend/tiny.py",
            '    with open("py',
            '    import time; time.sleep(30)\n    with open("py',
        )
    world.good("wheel:quick")
    world.edit("libs/quick/quick/__init__.py", "quick", "QUICK")
    process = world.start("-n", jobs, "wheel:quick", "wheel:slow-a", "wheel:slow-b")
    time.sleep(2.5)
    started = time.monotonic()
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code and time.monotonic() - started < 2
    assert out.splitlines()[-1].startswith("1 built in") and err == "interrupted; what had finished is kept\n"
    assert os.listdir(world.path(".buildlib/tmp")) == [] and not _working_in(world.root)
    assert [p["task"] for p in json.loads(world.good("plan", "--json").out)] == ["wheel:slow-a", "wheel:slow-b"]


def _working_in(root: Path) -> list[str]:
    """Return the processes whose working directory lies below `root`."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{process}/cwd").startswith(str(root)):
                found.append(process)
        except OSError:
            continue
    return found
