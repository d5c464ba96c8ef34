"""The key of an action: what is part of it, and what is not."""

import dataclasses

import pytest

from buildlib.execute.action import BASE_ENVIRONMENT, Action, InputFile, InputLink, MissingRequires

SAMPLE = Action(
    argv=("{python}", "a.py"),
    files=(InputFile("a.py", "0" * 64, 3, False), InputFile("b.py", "1" * 64, 4, True)),
    links=(InputLink("c", "a.py"), InputLink("d", "b.py")),
    environment=(("LANG", "C"), ("PATH", "{bin}")),
    directory="",
    outputs=("x", "out/"),
    toolchain=(("backend", "1"), ("python", "3.11")),
)

CHANGES = {
    "argv": ("{python}", "b.py"),
    "files": (InputFile("a.py", "0" * 64, 3, True), InputFile("b.py", "1" * 64, 4, True)),
    "links": (InputLink("c", "b.py"), InputLink("d", "b.py")),
    "environment": (("LANG", "C"), ("PATH", "/bin")),
    "directory": "libs",
    "outputs": ("x",),
    "toolchain": (("backend", "2"), ("python", "3.11")),
}


@pytest.mark.parametrize("field", CHANGES)
def test_every_part_that_determines_the_outputs_is_in_the_key(field: str) -> None:
    assert dataclasses.replace(SAMPLE, **{field: CHANGES[field]}).key != SAMPLE.key


def test_who_runs_an_action_is_not_in_its_key() -> None:
    assert dataclasses.replace(SAMPLE, warm=True).key == SAMPLE.key
    assert {field.name for field in dataclasses.fields(Action)} - set(CHANGES) == {"warm"}


@pytest.mark.parametrize("field", ["files", "links", "outputs"])
def test_the_order_of_inputs_and_outputs_is_not_in_the_key(field: str) -> None:
    assert dataclasses.replace(SAMPLE, **{field: getattr(SAMPLE, field)[::-1]}).key == SAMPLE.key


def test_the_order_of_argv_is_in_the_key() -> None:
    assert dataclasses.replace(SAMPLE, argv=SAMPLE.argv[::-1]).key != SAMPLE.key


def test_a_key_is_the_same_in_every_process_and_release_until_its_version_is_raised() -> None:
    assert SAMPLE.key == "9c5992037b2719551697de105187a67a7dbaa8c9ab1bf58e006c39ca31ad3bb8"


def test_a_file_name_that_is_no_utf_8_has_a_key() -> None:
    odd = InputFile(b"caf\xe9".decode("utf-8", "surrogateescape"), "0" * 64, 1, False)
    assert len(dataclasses.replace(SAMPLE, files=(odd,)).key) == 64


def test_the_base_environment_is_sorted_and_names_no_place_but_system_ones() -> None:
    assert list(BASE_ENVIRONMENT) == sorted(BASE_ENVIRONMENT)
    places = [value for _, value in BASE_ENVIRONMENT if "/" in value]
    assert places == ["/dev/null", "{bin}:/usr/local/bin:/usr/bin:/bin"]


def test_missing_requirements_are_data_and_one_line() -> None:
    problem = MissingRequires("libs/a", ("cython>=3", "numpy"), "log")
    assert problem.requires == ("cython>=3", "numpy")
    assert str(problem) == "libs/a: the build needs cython>=3, numpy; add it to build-system.requires"
