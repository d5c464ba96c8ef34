"""Normalised wheels: real ones of several backends, and crafted ones that must be refused."""

from __future__ import annotations

import base64
import csv
import email
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

from buildlib.errors import BuildlibError
from buildlib.steps.normalise import normalise

NAME = "demo-1.0-py3-none-any.whl"
METADATA = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n\nRequires-Dist: body @ file:///not/a/header\n"
INFO = "demo-1.0.dist-info"


def digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def record(files: Mapping[str, bytes], own: str = f"{INFO}/RECORD") -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([(name, digest(data), len(data)) for name, data in files.items()] + [(own, "", "")])
    return out.getvalue().encode()


def pack(entries: Sequence[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return out.getvalue()


def wheel(files: Mapping[str, bytes] | None = None, metadata: bytes = METADATA) -> bytes:
    named = dict(files or {"demo.py": b"x = 1\n"})
    named |= {f"{INFO}/METADATA": metadata, f"{INFO}/WHEEL": b"Wheel-Version: 1.0\n"}
    return pack([*named.items(), (f"{INFO}/RECORD", record(named))])


def contents(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def requirements(data: bytes) -> list[str]:
    """What METADATA requires, read by somebody else."""
    metadata = next(text for name, text in contents(data).items() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(metadata).get_all("Requires-Dist", [])


def requires_of(line: bytes, local: Sequence[str] = ("x-y",)) -> bytes:
    metadata = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n" + line + b"Author: J\xc3\xb6rg\n\nbody\n"
    written = contents(normalise(NAME, wheel(metadata=metadata), local, "p"))[f"{INFO}/METADATA"]
    head, tail = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n", b"Author: J\xc3\xb6rg\n\nbody\n"
    assert written.startswith(head) and written.endswith(tail)
    return written[len(head) : -len(tail)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Requires-Dist: x-y @ file:///a/b/x\n", b"Requires-Dist: x-y\n"),
        (b"Requires-Dist: X_y @ file:///a/x\n", b"Requires-Dist: X_y\n"),
        (b"Requires-Dist: x.y[a,b] @ file:///a/x ; extra == 'q'\n", b"Requires-Dist: x.y[a,b] ; extra == 'q'\n"),
        (b"Requires-Dist: x-y@ file:///a%20b\n", b"Requires-Dist: x-y\n"),
        (b"Requires-Dist: x-y @ ../x\n", b"Requires-Dist: x-y\n"),
        (b"Requires-Dist: x-y @ /abs/x\n", b"Requires-Dist: x-y\n"),
        (b"Requires-Dist: x-y @ file:../x\n", b"Requires-Dist: x-y\n"),
        (b"Requires-Dist: x-y @ file:///x\r\n", b"Requires-Dist: x-y\r\n"),
        (b"requires-dist: x-y @ file:///x ;\n python_version > '3'\n", b"Requires-Dist: x-y ; python_version > '3'\n"),
    ],
)
def test_a_local_dependency_by_place_is_named_plainly(before: bytes, after: bytes) -> None:
    assert requires_of(before) == after


@pytest.mark.parametrize(
    "line",
    [
        b"Requires-Dist: other @ file:///a/other\n",
        b"Requires-Dist: x-y @ git+https://host/x\n",
        b"Requires-Dist: x-y @ https://host/x-1.0-py3-none-any.whl\n",
        b"Requires-Dist:   x-y  (==0.1.dev)\n",
        b"Requires-Dist: x-y>=1;extra=='a'\n",
        b"Summary: x-y @ file:///a\n",
        b"Description: one\n        x-y @ file:///a\n",
        b"Obsolete: caf\xe9\n",
        b"\rOdd: 1\n",
    ],
)
def test_every_other_line_stays_byte_for_byte(line: bytes) -> None:
    assert requires_of(line) == line


def test_the_body_is_no_header() -> None:
    assert contents(normalise(NAME, wheel(), ["body"], "p"))[f"{INFO}/METADATA"] == METADATA


def test_bytes_depend_on_nothing_but_names_contents_and_the_executable_bit() -> None:
    files = {"b.py": b"b", "a/run.sh": b"#!/bin/sh\n", "é.txt": b""}
    plain = normalise(NAME, wheel(files), [], "p")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_BZIP2) as archive:
        archive.comment = b"made today"
        archive.writestr("a/", b"")
        for name, data in reversed(contents(wheel(files)).items()):
            entry = zipfile.ZipInfo(name, (2026, 11, 24, 1, 2, 4))
            entry.external_attr = 0o100666 << 16
            entry.extra = b"\x55\x54\x05\x00\x01\x00\x00\x00\x00"
            archive.writestr(entry, data)
    assert normalise(NAME, out.getvalue(), [], "p") == plain


def test_entries_are_sorted_dated_and_plain() -> None:
    out = io.BytesIO(wheel({"z.py": b"", "a.sh": b""}))
    with zipfile.ZipFile(out) as before, zipfile.ZipFile(made := io.BytesIO(), "w") as archive:
        for name in before.namelist():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o100711 if name == "a.sh" else 0o100600) << 16
            archive.writestr(entry, before.read(name))
    with zipfile.ZipFile(io.BytesIO(normalise(NAME, made.getvalue(), [], "p"))) as archive:
        names = ["a.sh", "z.py", f"{INFO}/METADATA", f"{INFO}/WHEEL", f"{INFO}/RECORD"]
        assert archive.namelist() == names
        assert [entry.external_attr >> 16 for entry in archive.infolist()] == [0o100755] + [0o100644] * 4
        assert {(e.date_time, e.create_system, e.extra, e.comment) for e in archive.infolist()} == {
            ((1980, 1, 1, 0, 0, 0), 3, b"", b"")
        }
        rows = list(csv.reader(archive.read(names[-1]).decode().splitlines()))
    assert [row[0] for row in rows] == names and rows[-1][1:] == ["", ""]


@pytest.mark.parametrize("name", ["a\u2028b.txt", "a,b.txt", 'a"b.txt', "a\nb.txt"])
def test_odd_file_names_survive(name: str) -> None:
    made = normalise(NAME, wheel({name: b"x"}), [], "p")
    assert contents(made)[name] == b"x" and normalise(NAME, made, [], "p") == made


def test_a_signature_of_the_old_record_goes() -> None:
    files = dict(contents(wheel()))
    data = pack([*files.items(), (f"{INFO}/RECORD.jws", b"{}")])
    assert f"{INFO}/RECORD.jws" not in contents(normalise(NAME, data, [], "p"))


def test_a_file_that_record_forgot_is_listed() -> None:
    data = pack([*contents(wheel()).items(), ("extra.py", b"")])
    assert b"extra.py,sha256=" in contents(normalise(NAME, data, [], "p"))[f"{INFO}/RECORD"]


def replaced(name: str, data: bytes) -> bytes:
    return pack(list((contents(wheel()) | {name: data}).items()))


def renamed(old: str, new: str) -> bytes:
    return pack([(new if name == old else name, data) for name, data in contents(wheel()).items()])


def twice() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate"):
        return pack([*contents(wheel()).items(), ("demo.py", b"y = 2\n")])


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "no zip": (lambda: b"<html>", "not a readable zip"),
    "empty": (lambda: b"", "not a readable zip"),
    "cut off": (lambda: wheel()[:-30], "not a readable zip"),
    "bad content": (lambda: wheel().replace(b"x = 1\n", b"x = 2\n"), "not a readable zip"),
    "traversal": (lambda: wheel({"../evil.py": b""}), "leads out"),
    "deep traversal": (lambda: wheel({"a/../../evil.py": b""}), "leads out"),
    "absolute": (lambda: wheel({"/etc/evil": b""}), "leads out"),
    "backslash": (lambda: wheel({"..\\evil": b""}), "leads out"),
    "duplicate": (twice, "twice"),
    "other content than RECORD": (lambda: replaced("demo.py", b"y = 2\n"), "does not match the content of demo.py"),
    "other size than RECORD": (
        lambda: replaced(f"{INFO}/RECORD", contents(wheel())[f"{INFO}/RECORD"].replace(b",6\n", b",7\n")),
        "does not match the content of demo.py",
    ),
    "weak hash": (lambda: replaced(f"{INFO}/RECORD", b"demo.py,md5=AAAA,6\n"), "does not match the content of demo.py"),
    "listed but absent": (lambda: replaced(f"{INFO}/RECORD", b"gone.py,,\n"), "does not match the content of gone.py"),
    "RECORD of two columns": (lambda: replaced(f"{INFO}/RECORD", b"demo.py,\n"), "not path, hash, size"),
    "RECORD that is no text": (lambda: replaced(f"{INFO}/RECORD", b"\xff\n"), "RECORD is not readable"),
    "no METADATA": (lambda: renamed(f"{INFO}/METADATA", "METADATA"), "METADATA is missing"),
    "no RECORD": (lambda: renamed(f"{INFO}/RECORD", "RECORD"), "RECORD is missing"),
    "no WHEEL": (lambda: renamed(f"{INFO}/WHEEL", "WHEEL"), "WHEEL is missing"),
    "two dist-infos": (lambda: wheel({"other-1.dist-info/METADATA": b""}), "2 *.dist-info folders"),
    "no dist-info": (lambda: pack([("demo.py", b"")]), "0 *.dist-info folders"),
    "another name inside": (lambda: wheel(metadata=METADATA.replace(b"demo", b"omed")), "do not agree"),
    "another version inside": (lambda: wheel(metadata=METADATA.replace(b"1.0", b"1.1")), "do not agree"),
    "no version": (lambda: wheel(metadata=METADATA.replace(b"Version: 1.0\n", b"")), "one Name and one Version"),
    "two names": (lambda: wheel(metadata=b"Name: demo\n" + METADATA), "one Name and one Version"),
    "bad version": (lambda: wheel(metadata=METADATA.replace(b": 1.0", b": one")), "not a wheel's name and version"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_faulty_wheel_is_refused_in_one_line(fault: str) -> None:
    make, cause = REFUSED[fault]
    with pytest.raises(BuildlibError) as caught:
        normalise(NAME, make(), [], "libs/demo")
    assert str(caught.value).startswith("libs/demo: ") and cause in str(caught.value) and caught.value.cure


@pytest.mark.parametrize("name", ["demo.whl", "omed-1.0-py3-none-any.whl", "demo-2.0-py3-none-any.whl", "demo-1.0.zip"])
def test_a_file_name_that_disagrees_is_refused(name: str) -> None:
    with pytest.raises(BuildlibError):
        normalise(name, wheel(), [], "p")


def test_no_damage_of_a_wheel_raises_anything_else() -> None:
    good = normalise(NAME, wheel(), [], "p")
    for at in range(len(good)):
        damaged = good[:at] + bytes([good[at] ^ 0x41]) + good[at + 1 :]
        try:
            normalise(NAME, damaged, [], "p")
        except BuildlibError:
            continue


def test_equal_names_and_versions_may_be_spelled_differently() -> None:
    named = {"a_b-1.0.dist-info/METADATA": b"Name: A.b\nVersion: 1.00\n", "a_b-1.0.dist-info/WHEEL": b""}
    data = pack([*named.items(), ("a_b-1.0.dist-info/RECORD", record(named, "a_b-1.0.dist-info/RECORD"))])
    assert normalise("a_b-1.0-py3-none-any.whl", data, [], "p")


# Real backends -------------------------------------------------------------------------------------------------------

PROJECTS = {
    "poetry-core": """
[project]
name = "real-demo"
version = "1.0"
requires-python = ">=3.9"
dependencies = ["packaging", "b_lib", "a-lib @ file://{root}/a-lib ; python_version >= '3.9'"]
[tool.poetry.dependencies]
b_lib = {{path = "../b-lib", develop = true}}
[tool.poetry]
packages = [{{include = "real_demo"}}]
[project.scripts]
real-demo = "real_demo:main"
[build-system]
requires = ["poetry-core>=2"]
build-backend = "poetry.core.masonry.api"
""",
    "poetry-core with Poetry's tables": """
[tool.poetry]
name = "real-demo"
version = "1.0"
description = ""
authors = []
packages = [{{include = "real_demo"}}]
[tool.poetry.dependencies]
python = ">=3.9"
packaging = "*"
a-lib = {{path = "../a-lib", python = ">=3.9"}}
b_lib = {{path = "../b-lib", develop = true}}
[tool.poetry.scripts]
real-demo = "real_demo:main"
[build-system]
requires = ["poetry-core>=2"]
build-backend = "poetry.core.masonry.api"
""",
    "hatchling": """
[project]
name = "real-demo"
version = "1.0"
dependencies = ["packaging", "a-lib @ {{root:uri}}/../a-lib ; python_version >= '3.9'", "b_lib @ {{root:uri}}/../b-lib"]
[project.scripts]
real-demo = "real_demo:main"
[tool.hatch.metadata]
allow-direct-references = true
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
""",
    "setuptools": """
[project]
name = "real-demo"
version = "1.0"
dependencies = ["packaging", "a-lib @ file://{root}/a-lib ; python_version >= '3.9'", "b_lib @ file://{root}/b-lib"]
[project.scripts]
real-demo = "real_demo:main"
[tool.setuptools]
packages = ["real_demo"]
[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"
""",
}


@cache
def uv() -> str:
    from uv import find_uv_bin

    return str(find_uv_bin())


def built(backend: str, root: Path) -> tuple[str, bytes]:
    project = root / "real-demo"
    (project / "real_demo").mkdir(parents=True)
    (project / "real_demo/__init__.py").write_text("def main():\n    print('it runs')\n")
    (project / "pyproject.toml").write_text(PROJECTS[backend].format(root=root))
    for name in ("a-lib", "b-lib"):
        (root / name).mkdir()
        (root / name / "pyproject.toml").write_text(f'[project]\nname = "{name}"\nversion = "1.0"\n')
    subprocess.run([uv(), "build", "--wheel", "-q", "-o", str(root / "out"), str(project)], check=True)
    (path,) = (root / "out").glob("*.whl")
    return path.name, path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("backend", PROJECTS)
def test_a_real_wheel_is_normalised_and_installs(backend: str, tmp_path: Path) -> None:
    umask = os.umask(0o077)
    try:
        name, first = built(backend, tmp_path / "one")
    finally:
        os.umask(umask)
    again, second = built(backend, tmp_path / "a longer path" if backend == "hatchling" else tmp_path / "two")
    made = normalise(name, first, {"a-lib", "b-lib"}, "real-demo")
    assert again == name and normalise(name, second, {"a-lib", "b-lib"}, "real-demo") == made
    assert normalise(name, made, {"a-lib", "b-lib"}, "real-demo") == made
    assert str(tmp_path).encode() in b"".join(contents(first).values())
    assert str(tmp_path).encode() not in b"".join(contents(made).values())
    requires = sorted(text.replace('"', "'").replace("b_lib", "b-lib") for text in requirements(made))
    assert [text.split(" ;")[0].split(";")[0] for text in requires] == ["a-lib", "b-lib", "packaging"]
    assert "python_version >= '3.9'" in requires[0]
    install_and_run(name, made, tmp_path)


def install_and_run(name: str, data: bytes, root: Path) -> None:
    """pip takes it, checks RECORD, and the installed program runs."""
    from installer.sources import WheelFile

    path = root / name
    path.write_bytes(data)
    with WheelFile.open(path) as source:
        source.validate_record()
    target = root / "target"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target), str(path)]
    subprocess.run(pip, check=True)
    program = [str(target / "bin/real-demo")]
    ran = subprocess.run(program, capture_output=True, text=True, env={"PYTHONPATH": str(target)})
    assert ran.stdout == "it runs\n", ran.stderr
