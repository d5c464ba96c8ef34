"""What a room holds: exactly the declared inputs, and nothing that leads out of it."""

import dataclasses
import os
import stat
import threading
from pathlib import Path

import pytest
from test_execute_support import Tree, link

from buildlib.errors import BuildlibError
from buildlib.execute.action import ActionFailed, InputChanged, InvalidAction
from buildlib.execute.stage import FIXED_TIME_NS, collect, remove_room, stage


def listing(root: str) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in Path(root).rglob("*"))


def test_exactly_the_declared_inputs_are_there(tmp_path: Path) -> None:
    tree = Tree({"pkg/a.py": "a", "top.txt": ""})
    action = tree.action("true", links=(link("pkg/l", "../top.txt"),))
    room = tmp_path / "deep/room"
    root = stage(action, tree.read, str(room))
    assert root == str(room / "root")
    assert listing(root) == ["pkg", "pkg/a.py", "pkg/l", "top.txt"]
    assert (room / "root/pkg/a.py").read_text() == "a"
    assert os.readlink(room / "root/pkg/l") == "../top.txt"
    assert sorted(os.listdir(room)) == [".git", ".hg", ".hgignore", "home", "root", "tmp"]


def test_what_was_in_the_room_is_gone(tmp_path: Path) -> None:
    tree = Tree({"a": "1"})
    (tmp_path / "room/root/closed").mkdir(parents=True)
    (tmp_path / "room/root/closed/old").write_text("old")
    (tmp_path / "room/root/closed").chmod(0o500)
    root = stage(tree.action("true"), tree.read, str(tmp_path / "room"))
    assert listing(root) == ["a"]


def test_removing_a_room_that_is_not_there_is_fine(tmp_path: Path) -> None:
    remove_room(str(tmp_path / "room"))
    assert not (tmp_path / "room").exists()


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
def test_modes_and_times_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    tree = Tree({"d/run.sh": "#!/bin/sh\n", "d/data": "x"}, executables=("d/run.sh",))
    before = os.umask(umask)
    try:
        root = Path(stage(tree.action("true", outputs=("out/x",)), tree.read, str(tmp_path / "room")))
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE((root / path).stat().st_mode) for path in (".", "d", "out", "d/run.sh", "d/data")}
    assert modes == {".": 0o755, "d": 0o755, "out": 0o755, "d/run.sh": 0o755, "d/data": 0o644}
    assert {(root / path).stat().st_mtime_ns for path in ("d/run.sh", "d/data")} == {FIXED_TIME_NS}


def test_an_input_edited_after_it_was_declared_is_said_and_not_built(tmp_path: Path) -> None:
    tree = Tree({"libs/a.py": "before"})
    action = tree.action("true")
    tree.content["libs/a.py"] = b"after"
    with pytest.raises(InputChanged, match=r"^libs/a\.py: was edited while the build read it; "):
        stage(action, tree.read, str(tmp_path / "room"))


def test_an_input_removed_after_it_was_declared_is_said(tmp_path: Path) -> None:
    tree = Tree({"a.py": "x"})

    def read(path: str) -> bytes:
        return (tmp_path / path).read_bytes()

    with pytest.raises(InputChanged, match=r"^a\.py: was removed"):
        stage(tree.action("true"), read, str(tmp_path / "room"))


def test_an_input_that_cannot_be_read_is_said_as_that(tmp_path: Path) -> None:
    def read(path: str) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    with pytest.raises(BuildlibError, match=r"^a\.py: cannot be read \(Permission denied\); make it readable$"):
        stage(Tree({"a.py": "x"}).action("true"), read, str(tmp_path / "room"))


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a/..", "a//b", "./a", "", "a\0b", "a/"])
def test_an_input_path_outside_the_root_or_in_a_second_spelling_is_refused(tmp_path: Path, path: str) -> None:
    tree = Tree({path: "x"})
    with pytest.raises(InvalidAction):
        stage(tree.action("true"), tree.read, str(tmp_path / "room"))
    assert not (tmp_path / "room").exists()


@pytest.mark.parametrize("changes", [{"outputs": ("../x",)}, {"outputs": ("/x/",)}, {"directory": ".."}])
def test_outputs_and_directory_stay_inside_too(tmp_path: Path, changes: dict[str, object]) -> None:
    tree = Tree({"a": "x"})
    with pytest.raises(InvalidAction):
        stage(tree.action("true", **changes), tree.read, str(tmp_path / "room"))


@pytest.mark.parametrize(
    "links",
    [
        {"l": "/etc/passwd"},
        {"l": "../outside"},
        {"d/l": "../../outside"},
        {"d/l": "x/../../../outside"},
        # Each looks harmless alone: the first leads up to the root, the second one more up from there.
        {"d/e/up": "../..", "l": "d/e/up/../outside"},
        {"l": "m", "m": "l"},
    ],
)
def test_a_link_that_leaves_the_root_is_refused(tmp_path: Path, links: dict[str, str]) -> None:
    tree = Tree({"a": "x"})
    action = tree.action("true", links=tuple(link(path, target) for path, target in links.items()))
    with pytest.raises(InvalidAction, match="links to"):
        stage(action, tree.read, str(tmp_path / "room"))


@pytest.mark.parametrize("target", ["a", "d/../a", "missing", ".", "d/up/a"])
def test_a_link_that_stays_inside_is_made_as_it_is(tmp_path: Path, target: str) -> None:
    tree = Tree({"a": "x", "d/b": "y"})
    action = tree.action("true", links=(link("l", target), link("d/up", "..")))
    assert os.readlink(os.path.join(stage(action, tree.read, str(tmp_path / "room")), "l")) == target


def test_nothing_can_be_placed_through_a_link_or_below_a_file(tmp_path: Path) -> None:
    tree = Tree({"l/x": "1"})
    for action in (
        tree.action("true", links=(link("l", "d"),)),
        Tree({"l/x": "1", "l": "2"}).action("true"),
        Tree({"l": "2"}).action("true", outputs=("l/out/",)),
        Tree({"l": "2"}).action("true", directory="l"),
    ):
        with pytest.raises(InvalidAction, match="lies below l"):
            stage(action, tree.read, str(tmp_path / "room"))


def test_a_path_declared_twice_is_refused(tmp_path: Path) -> None:
    tree = Tree({"a": "1"})
    action = tree.action("true", links=(link("a", "b"),))
    with pytest.raises(InvalidAction, match="twice"):
        stage(action, tree.read, str(tmp_path / "room"))


def test_outputs_are_read_recursively_sorted_and_with_their_bits(tmp_path: Path) -> None:
    tree = Tree({"a": "1"})
    action = tree.action("true", outputs=("out/", "one", "out/z"))
    root = Path(stage(action, tree.read, str(tmp_path / "room")))
    (root / "out/sub").mkdir(parents=True)
    for path in ("out/z", "out/sub/b", "one", "undeclared"):
        (root / path).write_text(path)
    (root / "one").chmod(0o755)
    found = collect(action, str(root))
    assert [(output.path, output.size, output.executable) for output in found] == [
        ("one", 3, True),
        ("out/sub/b", 9, False),
        ("out/z", 5, False),
    ]


def test_an_output_that_is_missing_or_a_link_is_a_failure(tmp_path: Path) -> None:
    tree = Tree({"a": "1"})
    action = tree.action("true", outputs=("out/", "x/y"))
    root = Path(stage(action, tree.read, str(tmp_path / "room")))
    with pytest.raises(ActionFailed, match=r"^out/: is declared as an output and was not made"):
        collect(action, str(root))
    (root / "out").mkdir()
    with pytest.raises(ActionFailed, match=r"^x/y: is declared as an output and was not made"):
        collect(action, str(root))
    (root / "out/secret").symlink_to("/etc/passwd")
    with pytest.raises(ActionFailed, match=r"^out/secret: is an output reached by a link"):
        collect(action, str(root))
    (root / "out/secret").unlink()
    (root / "x").rmdir()
    (tmp_path / "y").write_text("elsewhere")
    (root / "x").symlink_to(tmp_path)
    with pytest.raises(ActionFailed, match=r"^x/y: is an output reached by a link"):
        collect(action, str(root))


def test_staging_in_several_threads_does_not_mix(tmp_path: Path) -> None:
    trees = {name: Tree({f"f{index}": f"{name}{index}" for index in range(50)}) for name in "abcd"}
    roots: dict[str, str] = {}

    def one(name: str) -> None:
        roots[name] = stage(trees[name].action("true"), trees[name].read, str(tmp_path / name))

    threads = [threading.Thread(target=one, args=(name,)) for name in trees]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: Path(root, "f49").read_text() for name, root in roots.items()} == {n: f"{n}49" for n in "abcd"}


def test_the_declared_size_does_not_replace_the_bytes(tmp_path: Path) -> None:
    tree = Tree({"a": "12345"})
    action = tree.action("true")
    lying = dataclasses.replace(action, files=(dataclasses.replace(action.files[0], size=1),))
    with pytest.raises(InputChanged):
        stage(lying, tree.read, str(tmp_path / "room"))
