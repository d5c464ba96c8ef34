"""poetry.lock of Poetry 1.0 and 1.1: markers on edges, files in [metadata.files], a library's path in the dev group."""

from pathlib import Path

import pytest
import tomli
from test_locks import exported, sliced

from buildlib.errors import BuildlibError
from buildlib.workspace.config import RootConfig
from buildlib.workspace.locks import Lock, Member, Target, parse
from buildlib.workspace.metadata import read_metadata

FIXTURES = Path(__file__).parent / "fixtures" / "locks"
WORLDS = ["poetry-1.0", "poetry-1.1"]
LOCAL = frozenset({"lib-core", "svc-a"})
PATHS = {"svc-a": "services/svc-a", "lib-core": "libs/lib-core"}
STALE = "run `cd services/svc-a && poetry lock`"


def lock_of(world: str, *changes: tuple[str, str]) -> Lock:
    text = (FIXTURES / world / "services/svc-a/poetry.lock").read_text()
    return parse("services/svc-a/poetry.lock", changed(text, *changes).encode())


def member_of(world: str, name: str, *changes: tuple[str, str]) -> Member:
    text = changed((FIXTURES / world / PATHS[name] / "pyproject.toml").read_text(), *changes)
    project = read_metadata(PATHS[name], text.encode(), "library", RootConfig())
    return Member(name, PATHS[name], project.requires, LOCAL, tomli.loads(text))


def changed(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("python", ["3.7", "3.8.1", "3.11", "3.12.4"])
@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
def test_a_slice_has_the_pins_and_hashes_of_poetry_export(world: str, python: str, platform: str) -> None:
    target = Target(python, platform)
    text = (FIXTURES / world / "services/svc-a/exported.txt").read_text()
    pins = lock_of(world).slice(member_of(world, "svc-a"), target)
    assert sliced(pins) == exported(text, target)
    # those of the library too, of which the service's main group says `lib-core = ""`
    assert {"click", "six", "anyio"} <= {pin.name for pin in pins}
    assert ("importlib-metadata" in {pin.name for pin in pins}) is (python == "3.7")


@pytest.mark.parametrize("world", WORLDS)
def test_a_fresh_lock_passes_for_the_service_and_for_its_library(world: str) -> None:
    lock = lock_of(world)
    for name in PATHS:
        assert lock.knows(member_of(world, name))
        lock.check(member_of(world, name))


@pytest.mark.parametrize("world", WORLDS)
def test_spelling_alone_makes_no_lock_stale(world: str) -> None:
    change = ('importlib-metadata = {version = "^4.13", python', 'importlib-metadata = {  version = "^4.13",   python')
    lock_of(world).check(member_of(world, "svc-a", change))


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("svc-a", ('anyio = "^3.6"', 'anyio = "^3.7"'), "(the content-hash differs)"),
        ("svc-a", ('pluggy = "^1.0"', 'pluggy = "^1.1"'), "(the content-hash differs)"),
        ("lib-core", ('click = "^8.0"', 'click = "^8.0"\nattrs = "*"'), "attrs is not in it"),
        ("lib-core", ('click = "^8.0"', 'click = "^9.0"'), "click<10,>=9.0 is not in it"),
        ("lib-core", ('click = "^8.0"\n', ""), "it still has click"),
    ],
)
def test_a_lock_older_than_the_service_or_its_library_is_an_error_with_the_command(
    world: str, name: str, change: tuple[str, str], says: str
) -> None:
    with pytest.raises(BuildlibError) as caught:
        lock_of(world).check(member_of(world, name, change))
    assert str(caught.value).startswith(f"services/svc-a/poetry.lock: it is older than {PATHS[name]}/pyproject.toml")
    assert says in caught.value.cause
    assert caught.value.cure == STALE


@pytest.mark.parametrize("world", WORLDS)
def test_a_library_with_another_version_than_the_locks_is_an_error(world: str) -> None:
    with pytest.raises(BuildlibError) as caught:
        lock_of(world).check(member_of(world, "lib-core", ('version = "0.1.0"', 'version = "0.2.0"')))
    assert str(caught.value) == f"services/svc-a/poetry.lock: it has lib-core 0.1.0, whose version is 0.2.0; {STALE}"


@pytest.mark.parametrize("world", WORLDS)
def test_a_lock_says_what_its_libraries_declare(world: str) -> None:
    said = lock_of(world).requires("lib-core")
    assert said is not None
    assert {"six>=1.15,<1.17", "h11>=0.14,<0.15; extra == 'http'"} <= set(said)
    assert lock_of(world).requires("svc-a") is None and lock_of(world).requires("six") is None


@pytest.mark.parametrize("world", WORLDS)
def test_a_package_whose_files_are_not_listed_has_no_hash(world: str) -> None:
    with pytest.raises(BuildlibError, match=r"services/svc-a/poetry.lock: six 1.16.0 has no hash; run `poetry cache"):
        lock_of(world, ("six = [", "sixty = [")).slice(member_of(world, "svc-a"), Target("3.11", "linux/amd64"))


def test_a_lock_of_poetry_before_lock_versions_is_read_as_1_0() -> None:
    lock = lock_of("poetry-1.0", ('lock-version = "1.0"\n', ""))
    assert lock.slice(member_of("poetry-1.0", "svc-a"), Target("3.11", "linux/amd64"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("[metadata.files]", "[metadata.other]"), "has no hash"),
        (('python = "<3.8"', 'python = "^a"'), "have the Python '^a', which is no version constraint"),
        (('marker = "platform_system', 'marker = "platform'), "cannot be evaluated"),
        (("[metadata.files]", "files = 1\n[metadata.x]"), "metadata.files is not a table"),
    ],
)
def test_a_broken_lock_is_an_error_on_one_line(change: tuple[str, str], says: str) -> None:
    with pytest.raises(BuildlibError) as caught:
        lock_of("poetry-1.0", change).slice(member_of("poetry-1.0", "svc-a"), Target("3.11", "linux/amd64"))
    assert says in str(caught.value) and str(caught.value).endswith("`cd services/svc-a && poetry lock`")
