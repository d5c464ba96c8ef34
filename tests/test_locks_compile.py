"""A pylock.toml made with uv: what it is made from, what it keeps, how its errors are said."""

import os
from pathlib import Path

import pytest

from buildlib.errors import BuildlibError
from buildlib.toolchain.compile import compile_lock
from buildlib.workspace.locks import Member, Target, parse


def compiled(
    *requirements: str, previous: bytes | None = None, environ: dict[str, str] | None = None, cache: str = ""
) -> bytes:
    return compile_lock(requirements, "3.11", {**os.environ, **(environ or {})}, previous, cache)


def test_the_order_of_requirements_and_the_folder_change_no_byte() -> None:
    one = compiled("six<2", "click; sys_platform == 'win32'")
    assert one == compiled("click;sys_platform=='win32'", "six <2", "six<2")
    assert one.startswith(b'lock-version = "1.0"\n') and b"#" not in one.partition(b"[[packages]]")[0]


def test_the_reader_takes_what_it_makes() -> None:
    member = Member("svc", "svc", ("six<2",), frozenset(), {}, frozenset({"six"}))
    lock = parse("svc/pylock.toml", compiled("six<2"))
    lock.check(member, Target("3.12", "linux/amd64"))
    assert [pin.name for pin in lock.slice(member, Target("3.12", "linux/amd64"))] == ["six"]


def test_pins_of_before_are_kept_where_they_fit() -> None:
    old = compiled("six<1.17")
    assert b'version = "1.16.0"' in old and compiled("six", previous=old) == old
    assert b'version = "1.16.0"' not in compiled("six>1.16", previous=old)
    assert compiled("six", previous=b"no [toml") == compiled("six", previous=b"x = 1") == compiled("six")


def test_nothing_is_needed_and_nothing_is_pinned() -> None:
    assert b"packages = []" in compiled()


@pytest.mark.parametrize(
    ("requirements", "says"),
    [
        (
            ("six<1.10", "six>1.12"),
            "pylock.toml: no versions fit together: Because you require six<1.10 and six>1.12; change",
        ),
        (("six==99",), "pylock.toml: the package index does not have six==99; check the version where it is required"),
        (("!!",), "pylock.toml: '!!' is no requirement (PEP 508); change the requirement in the pyproject.toml"),
    ],
)
def test_what_cannot_be_locked_is_one_line_that_names_the_requirement(requirements: tuple[str, ...], says: str) -> None:
    with pytest.raises(BuildlibError) as caught:
        compiled(*requirements)
    assert str(caught.value).startswith(says)


def test_no_network_is_one_line(tmp_path: Path) -> None:
    nowhere = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": "",
        "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple",
        "UV_HTTP_RETRIES": "0",
    }
    with pytest.raises(BuildlibError, match=r"pylock\.toml: cannot reach .*; connect to the network and run again"):
        compiled("six", environ=nowhere, cache=str(tmp_path))
