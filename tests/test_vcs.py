"""Versions that come from git: the wheels are those of a fresh clone, dirty by own edits only, and never stale."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from test_real_backends import built_by_build, built_by_us
from world import World

pytestmark = pytest.mark.slow

HEAD = '[project]\nname = "{name}"\ndynamic = ["version"]\nrequires-python = ">=3.8"\n'
PLUGINS = {
    "hv": HEAD
    + '[build-system]\nrequires = ["hatch-vcs", "hatchling"]\nbuild-backend = "hatchling.build"\n'
    + '[tool.hatch.version]\nsource = "vcs"\nraw-options = {{ root = "../.." }}\n',
    "ss": HEAD
    + '[build-system]\nrequires = ["setuptools>=77", "setuptools-scm>=8"]\nbuild-backend = "setuptools.build_meta"\n'
    + '[tool.setuptools_scm]\nroot = "../.."\n',
    "ud": HEAD
    + '[build-system]\nrequires = ["hatchling", "uv-dynamic-versioning"]\nbuild-backend = "hatchling.build"\n'
    + '[tool.hatch.version]\nsource = "uv-dynamic-versioning"\n[tool.uv-dynamic-versioning]\ndirty = true\n',
    "pd": '[tool.poetry]\nname = "{name}"\nversion = "0.0.0"\ndescription = ""\nauthors = ["a <a@b.c>"]\n'
    + '[build-system]\nrequires = ["poetry-core>=1", "poetry-dynamic-versioning>=1,<2"]\n'
    + 'build-backend = "poetry_dynamic_versioning.backend"\n'
    + '[tool.poetry-dynamic-versioning]\nenable = true\nvcs = "git"\ndirty = true\n',
    "pm": HEAD
    + '[build-system]\nrequires = ["pdm-backend"]\nbuild-backend = "pdm.backend"\n[tool.pdm.version]\nsource = "scm"\n',
}


def project(world: World, name: str, plugin: str, more: str = "", folder: str = "libs") -> None:
    world.write(f"{folder}/{name}/pyproject.toml", PLUGINS[plugin].format(name=name) + more)
    world.write(f"{folder}/{name}/{name}/__init__.py", "x = 1\n")
    world.write(f"{folder}/{name}/{name}/data.txt", "data\n")


def version(world: World, name: str) -> str:
    (wheel,) = world.path(f".buildlib/wheels/{name}").glob("*.whl")
    return wheel.name.split("-")[1]


@pytest.fixture
def tagged(world: World) -> World:
    """A world with one project for each plugin, tagged v1.2.0, with a commit after it."""
    for plugin in PLUGINS:
        project(world, plugin, plugin)
    world.library("plain")
    world.good()  # writes buildlib.lock
    world.commit()
    world.git("tag", "v1.2.0")
    world.write("libs/hv/hv/more.py", "y = 1\n")
    world.commit()
    world.good()
    return world


def test_a_clean_tree_gives_the_wheels_of_a_fresh_clone(tagged: World, tmp_path: Path) -> None:
    for name in PLUGINS:
        assert built_by_us(tagged, name) == built_by_build(tagged, f"libs/{name}", tmp_path / name), name
        assert version(tagged, name).startswith(("1.2.0.post1.dev0+", "1.2.1.dev1+")), version(tagged, name)
    assert tagged.good().ran == []


def test_only_own_edits_make_a_version_dirty_and_dirt_elsewhere_runs_nothing(tagged: World) -> None:
    before = {name: version(tagged, name) for name in PLUGINS}
    tagged.edit("libs/plain/plain/__init__.py", "plain", "PLAIN")
    tagged.write("notes.txt", "not tracked")
    assert tagged.good().ran == ["wheel:plain"]
    for name in PLUGINS:
        tagged.edit(f"libs/{name}/{name}/__init__.py", "1", "2")
        run = tagged.good()
        assert run.ran == [f"wheel:{name}"]  # so the others' versions are as they were
        assert run.reason(f"wheel:{name}") == f"libs/{name}/{name}/__init__.py changed"
        assert version(tagged, name) != before[name], name


def test_a_commit_and_a_tag_are_reasons_and_a_no_op_after_them_is_one(tagged: World) -> None:
    wheels = sorted(f"wheel:{name}" for name in PLUGINS)
    old = tagged.git("rev-parse", "HEAD")[:7]
    tagged.git("commit", "-q", "--allow-empty", "-m", "empty")
    new = tagged.git("rev-parse", "HEAD")[:7]
    run = tagged.good()
    assert run.ran == wheels and {run.reason(w) for w in wheels} == {f"the commit changed ({old} -> {new})"}
    assert tagged.good().ran == []
    tagged.git("tag", "-a", "-m", "release", "v1.3.0")
    run = tagged.good()
    assert run.ran == wheels and {run.reason(w) for w in wheels} == {"a tag changed"}
    assert {version(tagged, name) for name in PLUGINS} == {"1.3.0"}
    assert tagged.good().ran == []
    tagged.git("pack-refs", "--all")
    assert tagged.good().ran == []


def test_incremental_is_what_a_build_from_nothing_gives(tagged: World, worlds: Callable[..., World]) -> None:
    tagged.edit("libs/ud/ud/__init__.py", "1", "3")
    tagged.path("libs/ss/ss/data.txt").unlink()
    tagged.git("tag", "v2.0.0")
    tagged.good()
    shutil.copytree(tagged.root, tagged.root.parent / "copy", ignore=shutil.ignore_patterns(".buildlib", "dist"))
    other = worlds("copy", store="off")
    other.good()
    assert other.outputs() == tagged.outputs()


def test_a_commit_that_changes_no_version_ends_unchanged(world: World) -> None:
    project(world, "pd", "pd", 'format = "{base}"\n')
    world.commit()
    world.git("tag", "v3.1.0")
    world.good()
    world.git("commit", "-q", "--allow-empty", "-m", "empty")
    run = world.good()
    assert run.word("wheel:pd") == "unchanged" and version(world, "pd") == "3.1.0"


def test_a_workspace_within_a_repository_a_worktree_and_a_detached_head(worlds: Callable[..., World]) -> None:
    world = worlds("repo/sub/ws", store="off", git=False)
    top = world.root.parent.parent
    subprocess.run(["git", "init", "-q", str(top)], check=True)
    for name in ("ud", "pm"):
        project(world, name, name)
    world.good()
    world.git("add", "-A", str(top))
    world.commit()
    world.git("tag", "v4.0.0")
    (top / "elsewhere.txt").write_text("dirt")
    world.good()
    assert {version(world, name) for name in ("ud", "pm")} == {"4.0.0"}
    world.git("worktree", "add", "-q", "--detach", str(top.parent / "tree"))
    tree = worlds("tree/sub/ws", store="off", git=False)
    tree.git("checkout", "-q", "--", ".")
    tree.good()
    assert tree.outputs() == world.outputs()
    tree.git("commit", "-q", "--allow-empty", "-m", "more")
    tree.git("tag", "v5.0.0")
    assert tree.good().ran == ["wheel:pm", "wheel:ud"] and version(tree, "ud") == "5.0.0"


@pytest.mark.parametrize("plugin", ["hv", "ud"])
def test_without_a_repository_or_a_commit_the_backends_error_comes_with_a_cure(world: World, plugin: str) -> None:
    project(world, plugin, plugin)
    shutil.rmtree(world.path(".git"))
    run = world.doit()
    assert run.code != 0
    last = run.err.splitlines()[-1]
    assert last.startswith(f"libs/{plugin}: its version comes from git, and there is no repository here")
    world.git("init", "-q")
    run = world.doit()
    if run.code:  # some plugins take the version 0 then
        assert "there is no commit yet" in run.err.splitlines()[-1]
    world.commit()
    world.git("tag", "v0.5.0")
    world.good()
    assert version(world, plugin) == "0.5.0"


def test_without_git_the_cure_is_to_install_it(world: World, tmp_path: Path) -> None:
    project(world, "hv", "hv")
    world.commit()
    run = world.doit(environ={"PATH": str(tmp_path)})
    assert run.code != 0
    last = run.err.splitlines()[-1]
    assert last.startswith("libs/hv: its version comes from git, which is not here (")
    assert last.endswith("; install git")
