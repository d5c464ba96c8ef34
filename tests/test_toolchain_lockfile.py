"""The text of `buildlib.lock`: one meaning, one text; anything else is an error of one line."""

from __future__ import annotations

import difflib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from buildlib.errors import BuildlibError
from buildlib.toolchain.lockfile import Pin, ToolLock, dump, normal_requirements, parse

ROOT = Path(__file__).resolve().parent.parent


def digest(number: int) -> str:
    return "sha256:" + f"{number:x}".zfill(64)


def pin(name: str, version: str = "1.0", *hashes: int, marker: str = "") -> Pin:
    return Pin(name, version, tuple(map(digest, hashes or (1,))), marker)


MARKER = 'os_name == "x"'
HATCH = ToolLock().with_environment(["hatchling"], [pin("hatchling"), pin("pluggy", "1.6", 2, 3)])
FULL = (
    HATCH.with_environment(["setuptools>=64", "wheel"], [pin("setuptools", "80"), pin("wheel", "0.48")])
    .with_environment(["old"], [pin("old", "1", 4, marker="python_version < '3'"), pin("old", "2", 5, marker=MARKER)])
    .with_dynamic("orders", ["cython>=3"])
)


def test_what_is_dumped_is_parsed() -> None:
    assert parse(dump(FULL).encode()) == FULL
    assert parse(dump(ToolLock()).encode()) == ToolLock()


def test_equal_locks_have_equal_text_whatever_the_order_of_making() -> None:
    names = ["c", "a", "b"]
    one, other = ToolLock(), ToolLock()
    for name in names:
        one = one.with_environment([name], [pin(name), pin("shared")]).with_dynamic(name, ["y", "x"])
    for name in sorted(names):
        other = other.with_dynamic(name, ["x", "y"]).with_environment([name], [pin("shared"), pin(name)])
    assert one == other and dump(one) == dump(other)


def test_order_and_layout_of_the_file_carry_no_meaning() -> None:
    head, *blocks = dump(FULL).split("\n\n[[")
    text = head + "\n\n[[" + "\n\n[[".join([*reversed(blocks[:-1]), blocks[-1]])
    assert text != dump(FULL) and parse(text.replace("\n", "\r\n").encode()) == FULL


def test_the_file_says_what_it_is_and_how_to_change_it() -> None:
    head = dump(ToolLock()).split("version = 1\n")[0]
    assert "`doit lock --upgrade`" in head and "Commit it" in head


@pytest.mark.parametrize("written", [["wheel", "setuptools >= 64"], ["Wheel", "setuptools>=64", "wheel"]])
def test_requirements_that_mean_the_same_share_an_entry(written: Sequence[str]) -> None:
    assert FULL.pins(written) == (pin("setuptools", "80"), pin("wheel", "0.48"))
    assert FULL.with_environment(written, [pin("setuptools", "80"), pin("wheel", "0.48")]) == FULL


@pytest.mark.parametrize(
    "text",
    ["poetry-core", "poetry-core>=2.0,<3", "a==1.0.0", "a~=1.0rc1,!=1.5,!=1.5", "a<=1,", "a===1", "a==1.*"],
)
def test_the_quick_way_to_a_normal_requirement_gives_what_packaging_gives(text: str) -> None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        assert normal_requirements([text]) == (str(Requirement(text)),)
    except InvalidRequirement:
        assert normal_requirements([text]) == (text,)


def test_a_lock_of_plain_requirements_is_read_without_packaging() -> None:
    code = "import sys; from buildlib.toolchain.lockfile import parse; lock = parse(sys.stdin.buffer.read())"
    check = code + "; assert lock.pins(['hatchling'])"
    check += "; assert 'packaging' not in sys.modules and 'json' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], input=dump(HATCH).encode(), check=True, cwd=ROOT)


def test_what_is_not_locked_has_no_pins_and_nothing_needs_none() -> None:
    assert FULL.pins(["setuptools>=65", "wheel"]) is None and ToolLock().pins([]) == ()


def test_dynamic_requirements_are_kept_by_project() -> None:
    assert FULL.dynamic_for("orders") == ("cython>=3",) and FULL.dynamic_for("other") == ()
    assert FULL.with_dynamic("orders", []).dynamic == ()


def test_adding_an_environment_only_adds_lines() -> None:
    after = HATCH.with_environment(["flit-core"], [pin("flit-core"), pin("pluggy", "1.6", 3, 2)])
    changes = [line for line in difflib.ndiff(dump(HATCH).splitlines(), dump(after).splitlines()) if line[0] in "+-"]
    assert changes and all(line[0] == "+" for line in changes)


def test_an_upgrade_changes_a_line_and_the_hashes_of_one_release() -> None:
    after = HATCH.with_environment(["hatchling"], [pin("hatchling", "1.1", 9), pin("pluggy", "1.6", 2, 3)])
    diff = difflib.ndiff(dump(HATCH).splitlines(), dump(after).splitlines())
    gone, come = ([line[2:].strip() for line in lines] for lines in split(diff))
    assert gone == ['"hatchling==1.0",', 'version = "1.0"', f'"{digest(1)}",']
    assert come == ['"hatchling==1.1",', 'version = "1.1"', f'"{digest(9)}",']


def split(diff: object) -> tuple[list[str], list[str]]:
    lines = list(diff)  # type: ignore[call-overload]
    return [line for line in lines if line[0] == "-"], [line for line in lines if line[0] == "+"]


def test_a_release_has_the_hashes_of_all_its_files() -> None:
    lock = HATCH.with_environment(["pluggy"], [pin("pluggy", "1.6", 7)])
    assert lock.pins(["pluggy"]) == (pin("pluggy", "1.6", 2, 3, 7),)
    assert (lock.pins(["hatchling"]) or ())[1] == pin("pluggy", "1.6", 2, 3, 7)


def test_the_newest_locked_versions_are_what_to_prefer() -> None:
    lock = HATCH.with_environment(["pluggy<2"], [pin("pluggy", "1.10", 8)])
    assert lock.versions() == {"hatchling": "1.0", "pluggy": "1.10"}


def test_two_branches_that_add_at_different_places_merge(tmp_path: Path) -> None:
    base = ToolLock()
    for name in ("hatchling", "poetry-core"):
        base = base.with_environment([name], [pin(name)])
    ours = base.with_environment(["flit-core"], [pin("flit-core")])
    theirs = base.with_environment(["setuptools"], [pin("setuptools")])
    for name, lock in {"base": base, "ours": ours, "theirs": theirs}.items():
        (tmp_path / name).write_text(dump(lock))
    merge = ["git", "merge-file", "-p", "ours", "base", "theirs"]
    merged = subprocess.run(merge, cwd=tmp_path, capture_output=True, check=True).stdout
    assert parse(merged) == ours.with_environment(["setuptools"], [pin("setuptools")])


GOOD = dump(FULL)
FAULTS: Mapping[str, tuple[str, str]] = {
    "conflict": (GOOD.replace("version = 1\n", "<<<<<<< HEAD\n=======\nversion = 1\n>>>>>>> x\n"), "conflict markers"),
    "no TOML": ("version = ", "not readable as TOML"),
    "empty": ("", "`version` is not 1"),
    "older": (GOOD.replace("version = 1\n", "version = 0\n"), "`version` is not 1"),
    "newer": (GOOD.replace("version = 1\n", "version = 2\n"), "newer buildlib"),
    "true": (GOOD.replace("version = 1\n", "version = true\n"), "`version` is not 1"),
    "unknown table": (GOOD + "[images]\n", "no key 'images'"),
    "unknown key": (GOOD.replace("pins = ", "pin = ", 1), "has not just the keys"),
    "package gone": (GOOD.replace('name = "hatchling"', 'name = "hutchling"'), "no [[package]] table"),
    "package twice": (GOOD.replace('"pluggy"', '"hatchling"').replace('"1.6"', '"1.0"'), "there twice"),
    "environment twice": (GOOD.replace('["old"]', '["Hatchling"]'), "there twice"),
    "bad hash": (GOOD.replace("sha256:00", "sha256:0g"), "lacks good hashes"),
    "no hash": (GOOD.replace(f'    "{digest(4)}",\n', ""), "lacks good hashes"),
    "weak hash": (GOOD.replace("sha256:", "md5:"), "lacks good hashes"),
    "bad pin": (GOOD.replace("pluggy==1.6", "pluggy>=1.6"), "does not read"),
    "bad marker": (GOOD.replace("python_version <", "python <"), "no environment marker"),
    "bad name": (GOOD.replace('name = "hatchling"', 'name = "../x"'), "no package is called"),
    "name of another type": (GOOD.replace('name = "hatchling"', "name = 1"), "no string"),
    "pins of another type": (GOOD.replace("pins = [", "pins = 1 #[", 1).replace("\n]", "\n#]", 1), "TOML"),
    "packages of another type": ("version = 1\npackage = 1\n", "no table array"),
    "dynamic of another type": ("version = 1\ndynamic = 1\n", "not a table"),
    "dynamic of other values": ("version = 1\n[dynamic]\na = 1\n", "no list of strings"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_lock_is_an_error_with_a_cure(fault: str) -> None:
    text, cause = FAULTS[fault]
    assert text != GOOD
    with pytest.raises(BuildlibError) as caught:
        parse(text.encode(), "buildlib.lock")
    assert str(caught.value).startswith("buildlib.lock: ") and cause in str(caught.value) and caught.value.cure


def test_no_damage_of_a_lock_raises_anything_else() -> None:
    data = GOOD.encode()
    for at in range(0, len(data), 7):
        head, tail = data[:at], data[at + 1 :]
        for damaged in (head, head + b"\xff" + tail, head + b'"' + tail, head + tail):
            try:
                parse(damaged)
            except BuildlibError:
                continue
