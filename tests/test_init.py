"""`doit init`: what it writes, that it changes nothing, and what it says it found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from world import World

from buildlib.errors import BuildlibError
from buildlib.tasks import extend
from buildlib.tasks.init import DOIT

RUN = "from doit.doit_cmd import DoitMain; import sys; sys.exit(DoitMain(extra_config={'COMMAND': {'init': 'buildlib.tasks.init:Init'}}).run(sys.argv[1:]))"  # noqa: E501


class Fresh(World):
    """A repository that never heard of us."""

    def __init__(self, root: Path, cache: Path, git: bool = True) -> None:
        super().__init__(root, cache, git=git)
        for name in ("pyproject.toml", "dodo.py", ".gitignore"):
            self.path(name).unlink()

    def init(self, **environ: str) -> "subprocess.CompletedProcess[str]":
        # The entry point as the installed package has it; an editable install of yesterday may not.
        return subprocess.run(
            [sys.executable, "-c", RUN, "init"], cwd=self.root, env={**self.environ, **environ}, text=True,
            capture_output=True, check=False,
        )  # fmt: skip

    def begun(self) -> str:
        """Run init, which must succeed; return what it said on stdout."""
        done = self.init()
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def files(self) -> dict[str, bytes]:
        """Return the content of every file that git would show, by path."""
        return {n: self.path(n).read_bytes() for n in self.git("ls-files", "-co", "--exclude-standard").split()}


@pytest.fixture
def fresh(tmp_path: Path, cache: Path) -> Fresh:
    return Fresh(tmp_path / "repository", cache)


def globs(world: World) -> list[str]:
    """Return the lines of `[tool.buildlib]`."""
    return world.read("pyproject.toml").partition("[tool.buildlib]\n")[2].split("\n")[:2]


def test_after_init_and_a_commit_a_build_leaves_git_clean(fresh: Fresh) -> None:
    fresh.library("a")
    fresh.library("s", "a", folder="stack")
    said = fresh.begun()
    assert 'wrote pyproject.toml: new, [tool.doit], libs = ["libs/*"], services = ["stack/*"]' in said
    assert "libraries: 1: a (libs/a)\nservices: 1: s (stack/s)\nlocks: 0\nDockerfiles: 0\n" in said
    fresh.commit()
    assert fresh.good().ran == ["requirements:s", "stage:s", "wheel:a", "wheel:s"]
    assert fresh.git("status", "--porcelain") == ""


def test_a_second_init_writes_nothing_and_says_so(fresh: Fresh) -> None:
    fresh.library("a")
    fresh.begun()
    before = fresh.files()
    assert fresh.begun().startswith("nothing to write: all is there\n") and fresh.files() == before


def test_init_works_without_git_and_without_any_project(tmp_path: Path, cache: Path) -> None:
    fresh = Fresh(tmp_path / "empty", cache, git=False)
    done = fresh.init()
    assert done.returncode == 0 and "libraries: 0" in done.stdout and "pyproject.toml: no projects; " in done.stderr
    assert fresh.read(".gitignore") == ".buildlib/\ndist/\n__pycache__/\n" and "[tool.buildlib]" not in fresh.read(
        "pyproject.toml"
    )


def test_lines_that_are_there_stay_as_they_are(fresh: Fresh) -> None:
    fresh.library("a")
    root = '# ours\r\n[tool.doit]  # kept\r\nverbosity = 1\r\n[tool.buildlib.image]\r\npython = "3.12"\r\n'
    fresh.write("pyproject.toml", root)
    fresh.write(".gitignore", "/x\ndist")
    dodo = "DOIT_CONFIG = {'verbosity': 0}\ndef task_mine():\n    return {'actions': ['true']}\n"
    fresh.write("dodo.py", dodo)
    fresh.begun()
    lines = fresh.path("pyproject.toml").read_bytes().decode().split("\r\n")
    assert [line for line in root.split("\r\n") if line not in lines] == []
    assert lines[1:3] == ["[tool.doit]  # kept", 'loader = "buildlib"'] and "\n" not in "".join(lines)
    assert fresh.read(".gitignore") == "/x\ndist\n.buildlib/\n__pycache__/\n"
    assert fresh.read("dodo.py") == f"{dodo}\nimport buildlib.tasks.dodo  # noqa: E402, F401\n"
    assert fresh.good("list", "-q").out.split() == ["build:a", "mine"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("pyproject.toml", '[tool.doit]\nloader = "mine"\n', 'pyproject.toml: [tool.doit] has loader = "mine", and'),
        ("pyproject.toml", '[tool.doit]\ndep_file = "x"\n', 'pyproject.toml: [tool.doit] has dep_file = "x", and'),
        ("dodo.py", "def x(:\n", "dodo.py:1: not valid Python"),
        ("dodo.py", b"# \xff\n", "dodo.py:1: not UTF-8"),
        ("dodo.py", "def task_build():\n    pass\n", "dodo.py: task_build makes a task whose name is one of"),
        (".gitignore", b"\xff\n", ".gitignore:1: not UTF-8"),
    ],
)
def test_what_contradicts_is_one_line_and_nothing_is_written(
    fresh: Fresh, name: str, text: str | bytes, said: str
) -> None:
    fresh.library("a")
    fresh.write(name, text)
    if "loader" in str(text):  # doit itself looks for the plugin before any command
        fresh.write("pyproject.toml", f'{text}[tool.doit.plugins.loader]\nmine = "doit.cmd_base:DodoTaskLoader"\n')
    before = fresh.files()
    done = fresh.init()
    assert done.returncode != 0 and fresh.files() == before and done.stdout == ""
    assert done.stderr.startswith(f"ERROR: {said}") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["dodo.py", ".gitignore"])
def test_a_directory_in_place_of_a_file_is_one_line_and_nothing_is_written(fresh: Fresh, name: str) -> None:
    fresh.library("a")
    fresh.write(f"{name}/x", "")
    before = fresh.files()
    done = fresh.init()
    assert done.returncode != 0 and fresh.files() == before
    assert done.stderr.startswith(f"ERROR: {name}: cannot be read (Is a directory);") and done.stderr.count("\n") == 1


def test_the_members_of_uvs_workspace_become_the_globs(fresh: Fresh) -> None:
    root = '[project]\nname = "top"\nversion = "1"\n[tool.uv.workspace]\nmembers = ["x/*", "y"]\n'
    fresh.write("pyproject.toml", root)
    fresh.library("a", folder="x")
    fresh.library("s", folder="x")
    fresh.write("x/s/Dockerfile", "FROM scratch\n")
    fresh.write("y/pyproject.toml", '[project]\nname = "y"\nversion = "1"\n')
    fresh.begun()
    assert globs(fresh) == ['libs = [".", "x/*", "y"]', 'services = ["x/s"]']
    assert fresh.read("pyproject.toml").startswith(root)


def test_a_glob_that_would_catch_something_else_is_written_as_directories(fresh: Fresh) -> None:
    for name in ("a", "b"):
        fresh.library(name)
    fresh.write("libs/tools/pyproject.toml", "[tool.ruff]\n")
    fresh.library("p", folder="packages/group")
    fresh.library("q", folder="packages/group")
    fresh.begun()
    assert globs(fresh)[0] == 'libs = ["libs/a", "libs/b", "packages/group/*"]'


def test_a_library_with_a_dockerfile_among_others_is_written_as_a_service(fresh: Fresh) -> None:
    for name in ("a", "b"):
        fresh.library(name)
    fresh.write("libs/b/Dockerfile", "FROM scratch\n")
    fresh.begun()
    assert globs(fresh) == ['libs = ["libs/*"]', 'services = ["libs/b"]']


def test_what_is_skipped_or_wrong_or_elsewhere_is_named_once_and_the_rest_is_pinned(fresh: Fresh) -> None:
    fresh.library("a")
    fresh.write("libs/bad/pyproject.toml", b"\xff")
    fresh.write("libs/t/pyproject.toml", '[project]\nname = "{{ x }}"\n')
    fresh.write("_template/pyproject.toml", '[project]\nname = "<REPLACE ME>"\n')
    fresh.library("x", folder="tools")
    done = fresh.init()
    assert done.returncode == 0 and done.stderr.splitlines() == [
        "libs/t/pyproject.toml: a template (its name is '{{ x }}'); skipped",
        "_template/pyproject.toml: a template (its name is '<REPLACE ME>'); skipped",
        "projects elsewhere: 1: tools/x; add their folders to libs or services of [tool.buildlib] to build them",
        "libs/bad/pyproject.toml:1: not UTF-8; save the file as UTF-8",
    ]
    assert fresh.path("buildlib.lock").exists()


def test_without_an_index_all_but_the_lock_is_written_and_one_line_says_what_to_do(fresh: Fresh) -> None:
    system = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    fresh.write("libs/a/pyproject.toml", f'[project]\nname = "a"\nversion = "1"\n{system}')
    empty = str(fresh.root.parent / "empty-cache")
    nowhere = dict.fromkeys(("UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_INDEX_URL"), "http://127.0.0.1:9/simple")
    done = fresh.init(**nowhere, UV_HTTP_RETRIES="0", BUILDLIB_CACHE=empty)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("buildlib.lock: ") and "127.0.0.1:9" in done.stderr
    assert done.stderr.endswith("; run `doit lock` once there is a network\n")
    assert {"pyproject.toml", "dodo.py", ".gitignore"} <= set(os.listdir(fresh.root))


def test_an_ignored_lock_is_taken_out_of_what_git_ignores(fresh: Fresh) -> None:
    fresh.library("a")
    fresh.write(".gitignore", "*.lock\n*.pyc\n")
    fresh.begun()
    assert fresh.read(".gitignore") == "*.lock\n*.pyc\n.buildlib/\ndist/\n!buildlib.lock\n"
    assert "buildlib.lock" in fresh.files()


# -- text that is added to


@pytest.mark.parametrize(
    "text",
    [
        "",
        'a = 1',
        "[tool]\ndoit.verbosity = 1\n",
        '[tool.doit]\nloader = "buildlib"\nplugins.loader.buildlib = "buildlib.tasks.loader:Loader"\n[x]\n',
        '[ "tool" . doit ]\n[tool.doit.plugins.command]\nmine = "a:B"\n',
        's = """\n[tool.doit]\n"""\n',
        "[tool.doit]",
    ],
)  # fmt: skip
def test_a_pyproject_is_extended_whatever_its_shape(text: str) -> None:
    new = extend.extended(text, {**DOIT, "tool.buildlib": {"libs": ["l" * 80, "é"]}}, "pyproject.toml")
    assert [line for line in text.split("\n") if line not in new.split("\n")] == []
    assert extend.extended(new, DOIT, "pyproject.toml") == new


def test_a_table_that_cannot_be_added_to_is_an_error() -> None:
    with pytest.raises(BuildlibError, match=r"^pyproject\.toml: there is no safe place in it for loader"):
        extend.extended("[tool]\ndoit = {verbosity = 1}\n", DOIT, "pyproject.toml")
