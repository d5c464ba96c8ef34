"""The launcher: `./doit` and `tests/run` on a fresh machine, after changes, when killed, when something is missing.

Most tests use a small copy of the tool (the real launcher and bootstrap, a stub of a package, a lock of one wheel that
is downloaded once); one makes the real environment.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from buildlib import bootstrap

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "requirements.lock").read_text()
BACKEND_PIN = re.findall(r"^poetry-core==.*(?:\n    --hash.*)+\n", LOCK, re.MULTILINE)[0]
BASE_PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
STUB = """
import json, os, sys
def main():
    print(json.dumps([os.environ["BUILDLIB_ROOT"], os.getcwd(), sys.argv[1:], sys.prefix]))
    return 7
"""
PYPROJECT = """
[project]
name = "buildlib"
version = "1.0"
[build-system]
requires = ["poetry-core"]
build-backend = "poetry.core.masonry.api"
"""


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the one wheel that the small copy's lock names."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    lock = folder / "lock"
    lock.write_text(BACKEND_PIN)
    argv = [
        BASE_PYTHON,
        "-I",
        bootstrap.bundled_pip() + "/pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary",
        ":all:",
    ]
    subprocess.run([*argv, "-d", folder, "-r", lock], check=True)
    return folder


class Copy:
    """A small copy of the tool, and how to run its launcher."""

    def __init__(self, root: Path, wheelhouse: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "BUILDLIB_"))}
        offline = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheelhouse)}
        self.environ.update(offline, PATH=self.path_of(python3=f'exec "{BASE_PYTHON}" "$@"'))

    def path_of(self, without: tuple[str, ...] = (), **scripts: str) -> str:
        """A PATH with the system's tools that the launcher may use, and these shell scripts, and no other Python."""
        folder = self.folder / f"bin{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        for name in {"sh", "cmp", "readlink", "git"} - set(without):
            (folder / name).symlink_to(shutil.which(name) or pytest.fail(f"{name} is not installed"))
        for name, script in scripts.items():
            file = folder / name.replace("_", ".")
            file.write_text(f"#!/bin/sh\n{script}\n")
            file.chmod(0o755)
        return str(folder)

    def start(self, *args: str, **environ: str) -> "subprocess.Popen[str]":
        """The launcher in a session of its own, so that a test can kill all of it."""
        return subprocess.Popen(
            [self.root / "doit", *args],
            cwd=self.folder,
            env=self.environ | environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *args: str, **environ: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr of the launcher."""
        process = self.start(*args, **environ)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def works(self, **environ: str) -> str:
        """Run once, demand success, and return stderr."""
        code, out, err = self.run("list", **environ)
        assert (code, json.loads(out or "null")) == (7, [str(self.root), str(self.folder), ["list"], self.venv]), err
        return err

    def fails(self, **environ: str) -> str:
        """Run once, demand a failure of one line (after the progress line), and return that line."""
        code, out, err = self.run("list", **environ)
        lines = [line for line in err.splitlines() if "making .venv" not in line]
        assert (code, out, len(lines)) == (1, "", 1), err
        return lines[0]

    @property
    def venv(self) -> str:
        return str(self.root / ".venv")


@pytest.fixture
def copy(tmp_path: Path, wheelhouse: Path) -> Copy:
    """The small copy, in a path with spaces and other signs that a shell cares about."""
    root = tmp_path / "a tool's $HOME" / "repo"
    (root / "buildlib").mkdir(parents=True)
    for name in ("doit", "buildlib/bootstrap.sh", "buildlib/bootstrap.py"):
        shutil.copy(ROOT / name, root / name)
    (root / "buildlib/__init__.py").touch()
    (root / "buildlib/__main__.py").write_text(STUB)
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "requirements.lock").write_text(BACKEND_PIN)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return Copy(root, wheelhouse, folder)


def made_when(copy: Copy) -> tuple[int, int]:
    """Changes when the environment is made anew: its configuration is a new file then."""
    stat = os.stat(copy.root / ".venv/pyvenv.cfg")
    return stat.st_ino, stat.st_mtime_ns


def test_the_first_run_makes_the_environment_and_says_one_line(copy: Copy) -> None:
    assert copy.works() == "doit: making .venv (once; up to a minute) …\n"


def test_later_runs_are_silent_and_need_no_python_on_path(copy: Copy) -> None:
    copy.works()
    before = made_when(copy)
    assert copy.works(PATH=copy.path_of()) == ""
    assert made_when(copy) == before


def test_arguments_directory_and_exit_code_pass_through_a_symlink(copy: Copy) -> None:
    (copy.folder / "links").mkdir()
    (copy.folder / "links" / "first").symlink_to(os.path.relpath(copy.root / "doit", copy.folder / "links"))
    (copy.folder / "d").symlink_to("links/first")
    for argv in (["./d"], [str(copy.folder / "d")], ["sh", "d"]):
        done = subprocess.run([*argv, "a b", "", "*"], cwd=copy.folder, env=copy.environ, stdout=subprocess.PIPE)
        expected = [str(copy.root), str(copy.folder), ["a b", "", "*"], copy.venv]
        assert (done.returncode, json.loads(done.stdout)) == (7, expected)


def test_the_users_python_settings_do_not_reach_the_tool(copy: Copy) -> None:
    (copy.folder / "buildlib").mkdir()
    (copy.folder / "buildlib/__init__.py").write_text("raise SystemExit('the wrong one')")
    copy.works(PYTHONPATH=str(copy.folder), PYTHONHOME="/nowhere", PIP_TARGET=str(copy.folder), PIP_USER="1")


def test_a_lock_with_other_content_of_equal_size_and_time_remakes_the_environment(copy: Copy) -> None:
    lock = copy.root / "requirements.lock"
    lock.write_text("# one\n" + BACKEND_PIN)
    copy.works()
    before, times = made_when(copy), lock.stat()
    lock.write_text("# two\n" + BACKEND_PIN)
    os.utime(lock, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "making" in copy.works()
    assert made_when(copy) != before


def test_a_touched_lock_remakes_nothing(copy: Copy) -> None:
    copy.works()
    (copy.root / "requirements.lock").touch()
    assert copy.works() == ""


def test_a_changed_pyproject_redoes_the_editable_install_only_and_needs_no_network(copy: Copy) -> None:
    copy.works()
    before = made_when(copy)
    (copy.root / "pyproject.toml").write_text(PYPROJECT.replace("1.0", "2.0"))
    copy.works(PIP_NO_INDEX="", PIP_FIND_LINKS="", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0")
    assert made_when(copy) == before
    assert [path.name for path in copy.root.glob(".venv/lib/python*/site-packages/buildlib-*")] == [
        "buildlib-2.0.dist-info"
    ]


def test_a_moved_checkout_is_noticed(copy: Copy) -> None:
    copy.works()
    copy.root = copy.root.rename(copy.root.with_name("moved"))
    assert "making" in copy.works()


def test_a_removed_base_python_is_noticed(copy: Copy) -> None:
    copy.works()
    link = copy.root / ".venv/bin/python"
    inner = link.with_name(os.path.basename(BASE_PYTHON))
    assert os.readlink(inner) == BASE_PYTHON, "`python3` would go on working, without packages, after an upgrade"
    link.unlink()
    link.symlink_to("/nowhere/python3.11")
    assert "making" in copy.works()


@pytest.mark.parametrize("leftover", ["file", "directory", "link"])
def test_a_foreign_venv_is_refused_and_left_alone(copy: Copy, leftover: str) -> None:
    venv = copy.root / ".venv"
    target = copy.folder / "mine" if leftover == "link" else venv
    if leftover == "file":
        venv.write_text("mine")
    else:
        target.mkdir()
        (target / "pyvenv.cfg").write_text("mine")
    if leftover == "link":
        venv.symlink_to(target)
    assert copy.fails() == (
        "doit: .venv was not made by ./doit; move it away (mv .venv .venv.old), then run ./doit again"
    )
    assert (venv if leftover == "file" else venv / "pyvenv.cfg").read_text() == "mine"


# Seconds after the start: before the environment exists, inside `venv`, inside pip, at the editable install.
MOMENTS = (0.05, 0.15, 0.4, 0.9, 1.5)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("victim", ["all processes", "the parent only"])
def test_a_killed_creation_does_not_poison_the_next(copy: Copy, moment: float, victim: str) -> None:
    process = copy.start()
    time.sleep(moment)
    if victim == "all processes":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        for pid in children_of(process.pid) or [process.pid]:  # the shell waits for bootstrap.py, which runs pip
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    copy.works()
    assert copy.works(PATH=copy.path_of()) == ""


def children_of(pid: int) -> list[int]:
    """The direct children, from /proc."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_two_at_once_make_it_once(copy: Copy) -> None:
    processes = [copy.start(), copy.start()]
    results = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [7, 7], results
    assert sorted(err for _, err in results) == [
        "doit: making .venv (once; up to a minute) …\n",
        "doit: waiting for another run that makes .venv …\n",
    ]


def test_sigterm_ends_the_creation_and_its_children(copy: Copy) -> None:
    process = copy.start()
    assert process.stderr is not None
    assert "making" in process.stderr.readline()
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=2)
    copy.works()


OLD = 'case "$*" in *version_info*) exit 1 ;; esac; echo "too old to run" >&2; exit 9'
BROKEN_SHIM = 'echo "pyenv: python3.13: command not found" >&2; exit 127'
NO_VENV = f'case "$*" in *ensurepip*) exit 1 ;; esac; exec "{BASE_PYTHON}" "$@"'
GOOD = f'exec "{BASE_PYTHON}" "$@"'


def test_old_and_broken_pythons_are_passed_over(copy: Copy) -> None:
    copy.works(PATH=copy.path_of(python3=OLD, python3_13=BROKEN_SHIM, python3_12=NO_VENV, python3_11=GOOD))


def test_no_python_that_is_new_enough_is_one_line(copy: Copy) -> None:
    assert copy.fails(PATH=copy.path_of(python3=OLD, python3_13=BROKEN_SHIM)) == (
        "doit: no Python 3.11 or newer on PATH; "
        "install one (apt-get install python3 python3-venv), then run ./doit again"
    )
    assert not (copy.root / ".venv").exists()


def test_the_test_command_speaks_in_its_own_name(copy: Copy) -> None:
    (copy.root / "tests").mkdir()
    shutil.copy(ROOT / "tests/run", copy.root / "tests/run")
    (copy.root / "tests/requirements.lock").write_text(BACKEND_PIN)
    argv, path = [str(copy.root / "tests/run"), "-q"], copy.path_of(dirname=f'exec {shutil.which("dirname")} "$@"')
    done = subprocess.run(argv, cwd=copy.folder, env=copy.environ | {"PATH": path}, text=True, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.startswith("tests/run: no Python 3.11 or newer on PATH; ")


def test_a_missing_venv_module_is_one_line(copy: Copy) -> None:
    assert copy.fails(PATH=copy.path_of(python3=NO_VENV)) == (
        "doit: python3 has no venv module; run: apt-get install python3-venv (Debian, Ubuntu), then ./doit again"
    )


def test_no_git_is_one_line(copy: Copy) -> None:
    assert copy.fails(PATH=copy.path_of(without=("git",), python3=GOOD)) == (
        "doit: git is missing; install it (apt-get install git), then run ./doit again"
    )


def test_no_network_is_one_line_and_the_next_run_recovers(copy: Copy) -> None:
    unreachable = {"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
    assert copy.fails(**unreachable, PIP_RETRIES="0", PIP_NO_CACHE_DIR="1") == (
        "doit: cannot download the packages (Connection refused): "
        "check the network or PIP_INDEX_URL, then run ./doit again"
    )
    copy.works()


def test_another_hash_is_one_line_that_names_the_package(copy: Copy) -> None:
    (copy.root / "requirements.lock").write_text(re.sub(r"sha256:.{4}", "sha256:0000", BACKEND_PIN))
    line = copy.fails()
    assert line.startswith("doit: requirements.lock has another hash for poetry-core==")
    assert "git checkout requirements.lock" in line


def test_a_missing_lock_is_one_line(copy: Copy) -> None:
    (copy.root / "requirements.lock").unlink()
    assert copy.fails() == ("doit: requirements.lock is missing; git checkout requirements.lock, then run ./doit again")


def test_a_broken_pyproject_is_one_line(copy: Copy) -> None:
    (copy.root / "pyproject.toml").write_text("[project\n")
    assert "at line 1" in copy.fails()


def test_a_backend_that_refuses_the_project_is_quoted_in_one_line(copy: Copy) -> None:
    (copy.root / "pyproject.toml").write_text(PYPROJECT.replace("1.0", "no version"))
    line = copy.fails()
    assert line.startswith("doit: cannot make .venv: ")
    assert "project.version" in line
    (copy.root / "pyproject.toml").write_text(PYPROJECT)
    copy.works()


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n",
            "cannot write .venv (No space left on device); free about 100 MB, then run ./doit again",
        ),
        (
            "Error: [Errno 30] Read-only file system: '/x/.venv/bin'\n",
            "cannot write .venv (Read-only file system); work in a checkout that you may write to",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement x==2 (from versions: 1)\n"
            "ERROR: No matching distribution found for x==2\n",
            "cannot make .venv: Could not find a version that satisfies the requirement x==2 (from versions: 1); "
            "the whole output is .venv/.made/output, then run ./doit again",
        ),
    ],
)
def test_what_pip_prints_becomes_cause_and_cure(output: str, line: str) -> None:
    assert bootstrap.explain(bootstrap.Job("/x", ".venv", "requirements.lock", "./doit"), output, "") == line


def pins(lock: str) -> dict[str, str]:
    """Name to version and hashes, without markers."""
    found = re.findall(r"^([\w.-]+)==(\S+).*((?:\n    --hash.*)+)", lock, re.MULTILINE)
    return {name: version + hashes for name, version, hashes in found}


def test_the_tests_run_with_the_tools_own_pins() -> None:
    tested = pins((ROOT / "tests/requirements.lock").read_text())
    assert pins(LOCK).items() <= tested.items()


@pytest.mark.parametrize("name", ["requirements.lock", "tests/requirements.lock"])
def test_a_lock_names_no_index_and_every_package_has_hashes(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"https?:|index-url|find-links|file:", text)
    assert len(pins(text)) == len(re.findall(r"^\S+==", text, re.MULTILINE)) > 10


@pytest.mark.slow
def test_a_fresh_clone_makes_the_real_environment(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    for name in ("doit", "pyproject.toml", "requirements.lock", "buildlib/bootstrap.sh", "buildlib/bootstrap.py"):
        shutil.copy(ROOT / name, clone / name)
    (clone / "README.md").touch()
    done = subprocess.run([clone / "doit", "--version"], cwd=tmp_path, text=True, capture_output=True)
    assert done.stderr == "doit: making .venv (once; up to a minute) …\n"
    python = clone / ".venv/bin/python"
    code = "import importlib.metadata as m; print(*sorted(d.metadata['Name'].lower() for d in m.distributions()))"
    names = subprocess.run([python, "-I", "-c", code], text=True, stdout=subprocess.PIPE, check=True).stdout.split()
    assert "buildlib" in names
    assert {"pip", "setuptools"}.isdisjoint(names)
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone, text=True, stdout=subprocess.PIPE, check=True)
    assert ".venv" not in status.stdout
