"""Discovery and the graph: which projects a tree has, what they need of each other, and what is wrong with that."""
# ruff: noqa: E501 (each pyproject.toml is one line)

import os
import time
from pathlib import Path

import pytest

from buildlib.errors import BuildlibError
from buildlib.fingerprint.working import WorkingTree
from buildlib.workspace.graph import checked, closure, reached
from buildlib.workspace.model import Workspace
from buildlib.workspace.read import Memo, enclosing, read_workspace


class Tree:
    """A directory with pyproject files, written by one line each."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str | bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)

    def project(self, path: str, *needs: str, name: str = "", more: str = "") -> None:
        text = f'[project]\nname = "{name or os.path.basename(path)}"\nversion = "1"\ndependencies = {list(needs)!r}\n{more}'
        self.write(f"{path}/pyproject.toml", text)

    def read(self, memo: Memo | None = None) -> Workspace:
        return checked(read_workspace(WorkingTree(str(self.root)), memo))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def problem(workspace: Workspace, name: str) -> str:
    found = workspace.projects[name].problem
    return str(found.error()) if found else ""


# -- discovery


def test_the_default_globs_find_libraries_and_services(tree: Tree) -> None:
    tree.project("libs/a")
    tree.project("services/s", "a")
    tree.project("tools/t")
    tree.write("libs/notes/README.md", "")
    tree.write("libs/file", "")
    found = tree.read().projects
    assert {(n, p.kind, p.path) for n, p in found.items()} == {
        ("a", "library", "libs/a"),
        ("s", "service", "services/s"),
    }


@pytest.mark.parametrize(
    ("globs", "found"),
    [
        ('["packages/**"]', {"a", "b", "deep"}),
        ('["packages/*/*"]', {"deep"}),
        ('["./packages/a/", "packages/a"]', {"a"}),
        ('["packages/[ab]"]', {"a", "b"}),
        ('["nowhere/*"]', set()),
        ("[]", set()),
    ],
)
def test_globs_are_configured(tree: Tree, globs: str, found: set[str]) -> None:
    tree.write("pyproject.toml", f"[tool.buildlib]\nlibs = {globs}\n")
    for path in ("packages/a", "packages/b", "packages/group/deep", "packages/.hidden", "packages/a/node_modules/x"):
        tree.project(path)
    assert set(tree.read().projects) == found


@pytest.mark.parametrize("glob", ["../x/*", "/etc/*", "", "libs/../../x"])
def test_a_glob_that_leaves_the_workspace_is_an_error(tree: Tree, glob: str) -> None:
    tree.write("pyproject.toml", f'[tool.buildlib]\nlibs = ["{glob}"]\n')
    with pytest.raises(
        BuildlibError, match=r"^pyproject\.toml: tool\.buildlib\.libs names .* no place in the workspace; "
    ):
        tree.read()


@pytest.mark.parametrize(
    "text", ["tool = 5\n", "[tool]\nbuildlib = 5\n", "[tool.buildlib]\nlib = []\n", "x = \n", b"\xff"]
)
def test_a_wrong_root_configuration_is_one_line(tree: Tree, text: str | bytes) -> None:
    tree.write("pyproject.toml", text)
    with pytest.raises(BuildlibError, match=r"^pyproject\.toml(:1)?: ") as caught:
        tree.read()
    assert "\n" not in str(caught.value)


def test_every_directory_in_which_a_project_may_appear_is_watched(tree: Tree) -> None:
    tree.write("pyproject.toml", '[tool.buildlib]\nlibs = ["packages/*/*"]\n')
    tree.project("packages/group/a")
    tree.write("packages/group/empty/README.md", "")
    assert {".", "packages", "packages/group", "packages/group/empty"} <= set(tree.read().looked)


def test_a_directory_that_is_both_is_a_service(tree: Tree) -> None:
    tree.write("pyproject.toml", '[tool.buildlib]\nlibs = ["all/*"]\nservices = ["all/s"]\n')
    tree.project("all/s")
    assert tree.read().projects["s"].kind == "service"


def test_the_root_may_be_a_project_with_others_in_it(tree: Tree) -> None:
    tree.write("pyproject.toml", '[project]\nname = "top"\n[tool.buildlib]\nlibs = [".", "libs/*"]\n')
    tree.project("libs/a")
    workspace = tree.read()
    assert workspace.projects["top"].path == "" and workspace.projects["top"].pyproject == "pyproject.toml"
    inner = [enclosing(workspace, d) for d in ("libs/a/x", "libs", "")]
    assert [p.name if p else None for p in inner] == ["a", "top", "top"]


def test_a_path_dependency_outside_the_globs_is_a_library_and_so_are_its_own(tree: Tree) -> None:
    tree.project("services/s", "a", more='[tool.uv.sources]\na = {path = "../../shared/a"}\n')
    tree.project("shared/a", "b @ {root:uri}/../b")
    tree.project("shared/b")
    workspace = tree.read()
    assert workspace.projects["b"].kind == "library" and closure(workspace, "s") == ("a", "b")


def test_a_nested_project_is_one_of_its_own(tree: Tree) -> None:
    tree.write("pyproject.toml", '[tool.buildlib]\nlibs = ["libs/**"]\n')
    tree.project("libs/a")
    tree.project("libs/a/plugins/p")
    assert tree.read().paths == {"libs/a", "libs/a/plugins/p"}


def test_a_linked_pyproject_is_read_again_when_its_target_changes(tree: Tree) -> None:
    tree.write("common.toml", '[project]\nname = "a"\n')
    tree.write("libs/a/x.py", "")
    (tree.root / "libs/a/pyproject.toml").symlink_to("../../common.toml")
    memo: Memo = {}
    assert set(tree.read(memo).projects) == {"a"}
    tree.write("common.toml", '[project]\nname = "b"\n')
    assert set(tree.read(memo).projects) == {"b"}


def test_a_linked_directory_is_read_at_its_real_place_and_once(tree: Tree) -> None:
    tree.project("elsewhere/a", name="a")
    tree.project("elsewhere/b", name="b", more='[tool.uv.sources]\na = {path = "../../libs/a"}\n')
    tree.write("libs/.keep", "")
    (tree.root / "libs/a").symlink_to("../elsewhere/a")
    (tree.root / "libs/again").symlink_to("a")
    (tree.root / "libs/out").symlink_to("/etc")
    (tree.root / "services").symlink_to("elsewhere")
    workspace = tree.read()
    assert {(p.name, p.path, p.kind) for p in workspace.projects.values()} == {
        ("a", "elsewhere/a", "service"),
        ("b", "elsewhere/b", "service"),
    }
    assert not any(p.problem for p in workspace.projects.values())


def test_an_unchanged_project_is_not_parsed_again(tree: Tree) -> None:
    tree.project("libs/a")
    memo: Memo = {}
    first, second = (read_workspace(WorkingTree(str(tree.root)), memo).projects["a"] for _ in range(2))
    assert second is first
    tree.write("pyproject.toml", '[tool.buildlib.image]\npython = "3.13"\n')
    assert tree.read(memo).projects["a"].config.image.python == "3.13"


# -- what is wrong with one project


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\n", "libs/bad/pyproject.toml:1: not UTF-8"),
        (b"[project]\nname = 'bad'\nx = \n", "libs/bad/pyproject.toml:3: not valid TOML"),
        (b"[tool.ruff]\n", "libs/bad/pyproject.toml: no [project] table; add one with name and version"),
    ],
)
def test_a_broken_project_that_a_glob_names_does_not_hide_the_others(tree: Tree, data: bytes, said: str) -> None:
    tree.write("pyproject.toml", '[tool.buildlib]\nlibs = ["libs/*"]\n')
    tree.project("libs/good")
    tree.write("libs/bad/pyproject.toml", data)
    workspace = tree.read()
    assert problem(workspace, "good") == "" and problem(workspace, "bad").startswith(said)


def test_a_pyproject_that_cannot_be_opened_does_not_hide_the_others(tree: Tree) -> None:
    tree.project("libs/good")
    (tree.root / "libs/bad").mkdir()
    (tree.root / "libs/bad/pyproject.toml").symlink_to("gone.toml")
    (tree.root / "libs/loop").mkdir()
    (tree.root / "libs/loop/pyproject.toml").symlink_to("pyproject.toml")
    (tree.root / "libs/pipe").mkdir()
    os.mkfifo(tree.root / "libs/pipe/pyproject.toml")
    workspace = tree.read()
    assert problem(workspace, "good") == "" and "pipe" not in workspace.projects
    assert problem(workspace, "bad").startswith("libs/bad/pyproject.toml: cannot be read (No such file")
    assert problem(workspace, "loop").startswith("libs/loop/pyproject.toml: cannot be read (Too many levels")


def test_a_broken_library_is_still_local_to_its_dependents(tree: Tree) -> None:
    tree.write("libs/tracking/pyproject.toml", '[project]\nname = "parcel-tracking"\ndependencies = ["a b"]\n')
    tree.project("services/s", "parcel-tracking")
    assert closure(tree.read(), "s") == ("parcel-tracking",)


def test_two_projects_of_one_name_are_an_error_that_names_both(tree: Tree) -> None:
    tree.project("libs/one", name="Foo.Bar")
    tree.project("libs/two", name="foo-bar")
    said = problem(tree.read(), "foo-bar")
    assert said == "libs/two/pyproject.toml: libs/one/pyproject.toml has the same name, foo-bar; rename one of the two"


# -- dependencies that lead nowhere


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('{path = "../gone"}', "the path dependency b points to libs/gone, where no project is; correct the path"),
        ('{path = "../../../b"}', "the path dependency b points to ../b, outside the workspace"),
        ('{path = "/srv/b"}', "the path dependency b points to /srv/b, outside the workspace"),
        ('{path = "../other"}', "the path dependency b points to libs/other, whose name is other; depend on other"),
        (
            '{path = "../bad"}',
            "the path dependency b points to libs/bad, whose name cannot be read; mend libs/bad/pyproject.toml",
        ),
        (
            "{workspace = true}",
            "b is said to be in this workspace, where no project has that name; add its directory to libs",
        ),
    ],
)
def test_a_local_dependency_that_is_not_there_is_never_taken_from_an_index(tree: Tree, source: str, said: str) -> None:
    tree.project("libs/a", "b", more=f"[tool.uv.sources]\nb = {source}\n")
    tree.project("libs/other")
    tree.write("libs/bad/pyproject.toml", b"\xff")
    workspace = tree.read()
    assert problem(workspace, "a").startswith(f"libs/a/pyproject.toml: {said}") and not problem(workspace, "other")


def test_a_path_in_a_development_group_that_leads_nowhere_is_no_error(tree: Tree) -> None:
    tree.project("libs/a", more='[tool.poetry.group.dev.dependencies]\nb = {path = "../gone"}\n')
    tree.project("libs/c", more='[tool.uv.sources]\nb = {path = "../b-1.0.whl"}\n')
    assert not problem(tree.read(), "a") and not problem(tree.read(), "c")


# -- cycles


def test_every_project_on_a_cycle_says_the_whole_cycle_in_the_same_words(tree: Tree) -> None:
    tree.project("libs/a", "b")
    tree.project("libs/b", "c")
    tree.project("libs/c", "a")
    tree.project("libs/d", "c")
    tree.project("libs/e")
    workspace = tree.read()
    line = "libs/a/pyproject.toml: its dependencies form a cycle: a -> b -> c -> a; remove one of them"
    assert {problem(workspace, n) for n in "abc"} == {line}
    assert [n for n in "abcde" if problem(workspace, n)] == ["a", "b", "c"]
    assert closure(workspace, "d") == ("a", "b", "c")


def test_a_project_on_a_longer_second_cycle_is_found_too(tree: Tree) -> None:
    tree.project("libs/a", "b", "d")
    tree.project("libs/b", "c")
    tree.project("libs/c", "a")
    tree.project("libs/d", "c")
    assert "a -> d -> c -> a" in problem(tree.read(), "d")


def test_a_project_that_needs_itself_is_a_cycle_unless_it_asks_for_an_extra(tree: Tree) -> None:
    tree.project("libs/a", "a")
    tree.project("libs/b", "b[x]", more='[project.optional-dependencies]\nx = ["c"]\nall = ["b[x]"]\n')
    tree.project("libs/c")
    workspace = tree.read()
    assert "a -> a" in problem(workspace, "a") and problem(workspace, "b") == "" and closure(workspace, "b") == ("c",)


def test_a_cycle_of_three_hundred_and_a_chain_of_a_thousand_are_no_trouble(tree: Tree) -> None:
    for i in range(300):
        tree.project(f"libs/r{i}", f"r{(i + 1) % 300}")
    for i in range(1000):
        tree.project(f"libs/c{i}", *([f"c{i + 1}"] if i < 999 else []))
    started = time.perf_counter()
    workspace = tree.read()
    assert problem(workspace, "r7").count(" -> ") == 300 and len(closure(workspace, "c0")) == 999
    assert time.perf_counter() - started < 10


# -- closures


def test_an_extra_that_is_asked_for_pulls_its_own_local_dependencies(tree: Tree) -> None:
    tree.project("services/s", "lib[fast]", "plain")
    tree.project(
        "libs/lib",
        more='[project.optional-dependencies]\nfast = ["speed", "lib[more]", "numpy"]\nmore = ["extra"]\nslow = ["snail"]\n',
    )
    for name in ("speed", "extra", "snail"):
        tree.project(f"libs/{name}")
    tree.project("libs/plain", "lib")
    workspace = tree.read()
    assert closure(workspace, "s") == ("extra", "lib", "plain", "speed")
    assert closure(workspace, "plain") == ("lib",) and "numpy" in reached(workspace, "s")


def test_a_service_may_need_a_service(tree: Tree) -> None:
    tree.project("services/s", "t")
    tree.project("services/t", "a")
    tree.project("libs/a")
    assert closure(tree.read(), "s") == ("a", "t")


def test_a_marker_that_does_not_hold_leaves_a_library_out(tree: Tree) -> None:
    tree.project("services/s", "win; sys_platform == 'win32'", "lin; sys_platform == 'linux'")
    tree.project("libs/win", "deep")
    tree.project("libs/lin")
    tree.project("libs/deep")
    workspace = tree.read()
    assert closure(workspace, "s") == ("deep", "lin", "win")
    assert closure(workspace, "s", lambda marker, _extra: "win32" not in marker) == ("lin",)
