"""Repositories that nobody meant to be hard: odd places, odd names, odd files."""
# ruff: noqa: E501 (each pyproject.toml is one line)

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from world import World

pytestmark = pytest.mark.slow


def good(world: World) -> World:
    """Add a library and a service, build, and check that a second run has nothing to do."""
    world.library("base")
    world.service("svc", "base")
    assert world.good().ran == ["requirements:svc", "stage:svc", "wheel:base", "wheel:svc"]
    assert world.good().ran == []
    return world


def edited(world: World) -> None:
    """Check that an edit of the library reaches the stage."""
    world.write("libs/base/base/more.py", "x = 1\n")
    assert world.good().ran == ["stage:svc", "wheel:base"]


@pytest.mark.parametrize("name", ["with space", "ümläut", 'we\'ird "$HOME" [x]*', "line\nbreak", "-dash", "a#b%20c"])
def test_any_directory_name_above_the_workspace_is_fine(tmp_path: Path, cache: Path, name: str) -> None:
    edited(good(World(tmp_path / name, cache)))


@pytest.mark.parametrize("folder", ["my lib", "größe", "[x]", "a b#c"])
def test_any_directory_name_of_a_project_is_fine(world: World, folder: str) -> None:
    world.library("base")
    world.path("libs/base").rename(world.path(f"libs/{folder}"))
    world.service("svc", "base")
    assert len(world.good().ran) == 4
    world.write(f"libs/{folder}/base/more.py", "x = 1\n")
    assert world.good().ran == ["stage:svc", "wheel:base"] and world.good().ran == []


def test_a_workspace_in_a_folder_of_a_bigger_repository(tmp_path: Path, cache: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("*.secret\n")
    world = good(World(tmp_path / "deep/workspace", cache, git=False))
    world.write("libs/base/base/x.secret", "s")
    assert world.good().ran == []
    edited(world)


def test_a_worktree_a_shallow_clone_and_a_clone_with_no_commit(world: World, tmp_path: Path, cache: Path) -> None:
    good(world)
    world.commit()
    first = world.outputs()
    world.git("worktree", "add", "-q", str(tmp_path / "tree"), "HEAD")
    subprocess.run(
        ["git", "clone", "-q", "--depth", "1", f"file://{world.root}", str(tmp_path / "shallow")], check=True
    )
    for name in ("tree", "shallow"):
        other = World(tmp_path / name, cache, git=False)
        assert len(other.good().ran) == 4 and other.outputs() == first and other.good().ran == []
        edited(other)


def test_a_submodule_is_a_library(world: World, tmp_path: Path, cache: Path) -> None:
    source = World(tmp_path / "source", cache)
    folder = source.library("base")
    for path in list(source.path(folder).iterdir()):
        path.rename(source.path(path.name))
    source.path("dodo.py").unlink()
    source.commit()
    world.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(source.root), "libs/base")
    world.service("svc", "base")
    assert len(world.good().ran) == 4 and world.good().ran == []
    edited(world)


def test_the_root_itself_may_be_a_library_with_others_in_it(world: World) -> None:
    world.library("base", "top")
    world.write("backend/tiny.py", world.read("libs/base/backend/tiny.py"))
    world.write("top/__init__.py", "x = 1\n")
    own = '[project]\nname = "top"\nversion = "1.0"\n[build-system]\nrequires = []\nbuild-backend = "tiny"\nbackend-path = ["backend"]\n[tool.buildlib]\nlibs = [".", "libs/*"]\n'
    world.write("pyproject.toml", own + world.read("pyproject.toml"))
    world.service("svc", "base")
    assert world.good().ran == ["requirements:svc", "stage:svc", "wheel:base", "wheel:svc", "wheel:top"]
    assert world.path("dist/top-1.0-py3-none-any.whl").is_file() and not Path("/dist").exists()
    assert world.good().ran == []
    world.write("libs/base/base/more.py", "x = 1\n")
    assert world.good().ran == ["stage:svc", "wheel:base"]
    world.write("top/more.py", "x = 1\n")
    assert world.good().ran == ["stage:svc", "wheel:top"]


def test_a_linked_project_directory_is_built_and_watched(world: World) -> None:
    world.library("base", folder="elsewhere")
    world.path("libs").mkdir()
    world.path("libs/base").symlink_to("../elsewhere/base")
    world.service("svc", "base")
    assert len(world.good().ran) == 4 and world.good().ran == []
    world.write("elsewhere/base/base/more.py", "x = 1\n")
    assert world.good().ran == ["stage:svc", "wheel:base"] and world.good().ran == []


def test_names_that_differ_in_writing_only_are_an_error(world: World) -> None:
    world.library("foo-bar")
    world.library("Foo.Bar")
    run = world.doit()
    assert run.code != 0 and run.err.count("\n") == 1 and "has the same name, foo-bar" in run.err


def test_odd_files_in_a_project_are_no_trouble(world: World) -> None:
    good(world)
    world.write("libs/base/base/two\nlines.md", "x")
    world.write("libs/base/base/big.txt", b"0123456789" * 1_000_000)
    world.write("libs/base/base/ - .txt", "x")
    world.path("libs/base/empty/deeper").mkdir(parents=True)
    assert world.good().ran == ["stage:svc", "wheel:base"] and world.good().ran == []


def test_files_that_are_none_are_left_out(world: World) -> None:
    good(world)
    os.mkfifo(world.path("libs/base/pipe"))
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        try:
            os.chdir(world.path("libs/base"))
            listening.bind("s")
        finally:
            os.chdir(here)
    run = world.doit()
    assert run.code == 0 and "stage:svc" not in run.ran and world.good().ran == []


@pytest.mark.parametrize("target", ["gone", "loop", "/etc/hostname", "../../../../outside"])
def test_a_link_that_leads_nowhere_or_out_is_one_line_or_no_trouble(world: World, target: str) -> None:
    good(world)
    world.path("libs/base/base/loop").symlink_to(target)
    run = world.doit()
    assert "Traceback" not in run.out + run.err
    if run.code:
        assert run.err.startswith("libs/base/base/loop: links to ") and run.err.count("\n") == 1
        assert run.word("wheel:svc") == ""
    world.path("libs/base/base/loop").unlink()
    world.good()
    assert world.good().ran == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_one_line(world: World) -> None:
    good(world)
    world.write("libs/base/base/x.py", "x").chmod(0)
    run = world.doit()
    assert run.err.startswith("libs/base/base/x.py: cannot be read") and run.err.count("\n") == 1


@pytest.mark.parametrize("kind", ["file", "link", "directory in a wheel's place", "deps is a file"])
def test_something_else_where_an_output_should_go_is_one_line_and_stays(
    world: World, kind: str, tmp_path: Path
) -> None:
    world.library("base")
    world.service("svc", "base")
    match kind:
        case "file":
            world.write("libs/base/dist", "mine")
        case "link":
            (tmp_path / "far").mkdir()
            world.path("libs/base/dist").symlink_to(tmp_path / "far")
        case "directory in a wheel's place":
            world.write("libs/base/dist/base-1.0-py3-none-any.whl/mine", "mine")
        case "deps is a file":
            world.write("services/svc/dist/deps", "mine")
    run = world.doit()
    assert run.code != 0 and "Traceback" not in run.err + run.out
    assert run.err.count("\n") == 1 and run.err.startswith(("libs/base/dist", "services/svc/dist")), run.err
    assert not list((tmp_path / "far").glob("*")) if kind == "link" else True
    again = world.doit()
    assert again.code != 0 and again.err == run.err


def test_a_project_that_is_renamed_moved_or_deleted(world: World) -> None:
    good(world)
    world.edit("libs/base/pyproject.toml", 'name = "base"', 'name = "better"')
    world.edit("services/svc/pyproject.toml", '"base"', '"better"')
    world.good()
    assert sorted(p.name for p in world.path("services/svc/dist/deps").iterdir()) == ["better-1.0-py3-none-any.whl"]
    world.path("libs/moved").mkdir()
    for name in ("pyproject.toml", "backend", "base"):
        world.path(f"libs/base/{name}").rename(world.path(f"libs/moved/{name}"))
    world.good()
    assert world.path("libs/moved/dist/better-1.0-py3-none-any.whl").is_file()
    assert world.good().ran == []


def test_a_chain_of_three_hundred_projects(worlds: Callable[..., World]) -> None:
    world = worlds("chain", store="off")
    for i in range(300):
        world.write(
            f"libs/c{i:03}/pyproject.toml",
            f'[project]\nname = "c{i:03}"\nversion = "1"\ndependencies = {[f"c{i + 1:03}"] if i < 299 else []!r}\n[build-system]\nrequires = ["poetry-core>=2"]\nbuild-backend = "poetry.core.masonry.api"\n',
        )
        world.write(f"libs/c{i:03}/c{i:03}.py", "")
    world.service("svc", "c000")
    run = world.good()
    assert run.counts == {"built": 303} and len(list(world.path("services/svc/dist/deps").iterdir())) == 300
    world.write("libs/c299/c299.py", "x = 1\n")
    assert world.good().ran == ["stage:svc", "wheel:c299"] and world.good().ran == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[tool.buildlib]\ninputs = ["../../../x"]\n', "libs/bad/pyproject.toml: inputs names '../../../x', which is outside the workspace"),
        ('[build-system]\nrequires = ["a-name-that-nobody-has-taken-yet-x7q"]\n', "libs/bad/pyproject.toml: the build requirement"),
        ('[build-system]\nrequires = ["x @ https://example.org/x.whl"]\n', "libs/bad/pyproject.toml: 'x @ https://example.org/x.whl' names a place"),
        ('[build-system]\nrequires = []\nbuild-backend = "tiny"\nbackend-path = ["gone"]\n', "libs/bad: the build ended with exit code 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_one_project_does_not_stop_the_others(world: World, text: str, said: str) -> None:
    world.library("good")
    world.write("libs/bad/pyproject.toml", f'[project]\nname = "bad"\nversion = "1"\n{text}')
    run = world.doit()
    assert run.code != 0 and run.word("wheel:good") == "built" and run.word("wheel:bad") == "failed"
    assert run.err.splitlines()[-1].startswith(said)


def test_a_lock_that_cannot_be_written_is_one_line(world: World) -> None:
    world.write(
        "libs/a/pyproject.toml",
        '[project]\nname = "a"\nversion = "1"\n[build-system]\nrequires = ["poetry-core>=2"]\nbuild-backend = "poetry.core.masonry.api"\n',
    )
    world.write("libs/a/a.py", "")
    world.path("buildlib.lock").mkdir()
    run = world.doit()
    assert run.code != 0 and run.err.count("\n") == 1 and "buildlib.lock: cannot be written (Is a directory)" in run.err


def test_a_project_that_appears_at_any_depth_of_a_glob_is_seen_after_a_noop(world: World) -> None:
    world.write(
        "pyproject.toml", '[tool.buildlib]\nlibs = ["packages/*/*", "more/**"]\n' + world.read("pyproject.toml")
    )
    world.library("a", folder="packages/one")
    world.library("b", folder="more/x")
    world.good()
    assert world.good().ran == []
    world.library("c", folder="packages/two")
    assert world.good().ran == ["wheel:c"] and world.good().ran == []
    world.library("d", folder="more/y/z")
    assert world.good().ran == ["wheel:d"] and world.good().ran == []
    world.write("pyproject.toml", world.read("pyproject.toml").replace('"more/**"', '"more/x/*"'))
    assert "wheel:d" not in world.good("list", "--all").out


def test_a_python_version_or_a_nearer_lock_that_appears_is_seen_after_a_noop(world: World) -> None:
    world.service("svc", extra="[tool.buildlib.image]\n")
    world.write(
        "services/svc/uv.lock",
        'version = 1\nrequires-python = ">=3.10"\n[[package]]\nname = "svc"\nversion = "1.0"\nsource = { virtual = "." }\n',
    )
    os.rename(world.path("services/svc/uv.lock"), world.path("uv.lock"))
    world.write("uv.lock", world.read("uv.lock").replace('"."', '"services/svc"'))
    world.good("requirements:svc")
    assert world.good("requirements:svc").ran == []
    world.write("services/svc/.python-version", "3.9\n")
    assert (
        "it is locked for Python >=3.10" in world.doit("requirements:svc").err
        or world.doit("requirements:svc").code == 0
    )
    world.write("services/svc/.python-version", "nonsense\n")
    assert world.doit("requirements:svc").err.startswith(
        "services/svc/.python-version: 'nonsense' is no Python version"
    )
    world.path("services/svc/.python-version").unlink()
    world.good("requirements:svc")
    world.write("services/svc/uv.lock", "broken")
    assert world.doit("requirements:svc").err.startswith("services/svc/uv.lock: it is no valid TOML")


def test_a_linked_glob_directory_and_a_project_that_moves_behind_a_link(world: World) -> None:
    world.library("base", folder="packages")
    world.path("libs").symlink_to("packages")
    assert world.good().ran == ["wheel:base"] and world.good().ran == []
    assert world.path("packages/dist").exists() is False and world.path("packages/base/dist").is_dir()
    world.library("more", folder="packages")
    assert world.good().ran == ["wheel:more"]
    world.path("libs").unlink()
    world.path("libs").symlink_to("packages2")
    world.library("third", folder="packages2")
    assert world.good().ran == ["wheel:third"]


def test_what_a_project_left_that_is_gone_goes_at_the_next_run(world: World) -> None:
    import shutil

    good(world)
    world.library("other")
    world.good()
    shutil.rmtree(world.path("libs/other/backend"))
    world.path("libs/other/pyproject.toml").unlink()
    world.write("libs/other/dist/foreign.txt", "mine")
    assert world.good().ran == []
    assert not world.path(".buildlib/wheels/other").exists() and not list(world.path("libs/other/dist").glob("*.whl"))
    assert world.read("libs/other/dist/foreign.txt") == "mine" and world.good().ran == []
    world.edit("services/svc/pyproject.toml", '"svc"', '"new"')
    world.path("services/svc/svc").rename(world.path("services/svc/new"))
    world.good()
    assert sorted(p.name for p in world.path(".buildlib/requirements").iterdir()) == ["new.txt"]
    assert sorted(p.name for p in world.path("services/svc/dist").iterdir()) == [
        "deps",
        "new-1.0-py3-none-any.whl",
        "requirements.txt",
    ]


def test_a_link_that_leads_upwards_below_a_recursive_glob_has_an_end(world: World) -> None:
    world.write("pyproject.toml", '[tool.buildlib]\nlibs = ["libs/**"]\n' + world.read("pyproject.toml"))
    for name in ("a", "b", "c"):
        world.library(name)
        world.path(f"libs/{name}/up").symlink_to("..")
    run = world.doit()
    assert run.word("wheel:a") in ("built", "failed") and "Traceback" not in run.err


def test_a_library_that_a_marker_keeps_out_of_the_image_is_not_staged(world: World) -> None:
    world.library("wide")
    world.library("never")
    world.service("svc", "wide", "never; sys_platform == 'win32'")
    world.good()
    assert [p.name for p in world.path("services/svc/dist/deps").iterdir()] == ["wide-1.0-py3-none-any.whl"]
