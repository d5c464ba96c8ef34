"""buildlib.image.dockerfile: what a Dockerfile stands on and what may go wrong; never another exception."""

from __future__ import annotations

import random

import pytest

from buildlib.errors import BuildlibError
from buildlib.image.dockerfile import bases, hints, read


def _bases(text: str, target: str | None = None, **args: str) -> tuple[str, ...]:
    return bases(read(text.encode(), "svc/Dockerfile"), args, target)


def _hints(text: str, wheels: bool = True, requirements: bool = True) -> list[str]:
    found = hints(read(text.encode(), "svc/Dockerfile"), has_local_wheels=wheels, has_requirements=requirements)
    return [str(hint) for hint in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM python:3.12-slim", ("python:3.12-slim",)),
        ("\ufeff# hello\n\nfrom python as x\r\nRUN a\r\n", ("python",)),
        ("FROM --platform=linux/amd64 python AS b", ("python",)),
        ("FROM scratch\nCOPY x /", ()),
        ("FROM a AS one\nFROM One\nFROM b", ("a", "b")),
        ("FROM a\nFROM a", ("a",)),
        ("FROM later\nFROM x AS later", ("later", "x")),
        ("FROM a AS one\nFROM b\nCOPY --from=one x /\nCOPY --from=0 x /\nCOPY --from=tool:1 x /", ("a", "b", "tool:1")),
        ("FROM a\nCOPY --chown=1 --from=tool /x /", ("a", "tool")),
        ("FROM a\nRUN --mount=type=bind,from=tool,target=/x ls", ("a", "tool")),
        ("FROM \\\n# said between\n\n  python\\\n:3\nRUN x", ("python:3",)),
        ("# escape=`\nFROM a`\n:1\nRUN dir C:\\\nRUN x", ("a:1",)),
        ("FROM a\nRUN <<EOF\nFROM trap\nEOF\nRUN x <<-'E' <<F\nFROM trap\n\tE\nFROM trap\nF\nFROM b", ("a", "b")),
        ("FROM a\nRUN echo $((1<<X))\nFROM b", ("a", "b")),
        ("FROM a\nRUN echo FROM trap \\\n FROM trap\nONBUILD COPY --from=trap x y", ("a",)),
    ],
)
def test_bases_are_the_images_of_others(text: str, expected: tuple[str, ...]) -> None:
    assert _bases(text) == expected


@pytest.mark.parametrize(
    ("text", "args", "expected"),
    [
        ("ARG V=3\nFROM p:$V", {}, "p:3"),
        ("ARG V=3\nFROM p:${V}-slim", {"V": "4"}, "p:4-slim"),
        ("ARG V\nFROM p:$V", {"V": "4"}, "p:4"),
        ("ARG A=\"1\" B='2'\nARG C=$A.${B}\nFROM p:$C", {"B": "5"}, "p:1.5"),
        ("ARG V\nFROM p:${V:-3}", {}, "p:3"),
        ("ARG V=1\nFROM p${V:+:full}", {}, "p:full"),
        ("FROM p:${V:-3}", {"V": "not declared"}, "p:3"),
    ],
)
def test_variables_of_from_are_args_before_the_first_from(text: str, args: dict[str, str], expected: str) -> None:
    assert _bases(text, **args) == (expected,)


def test_a_target_needs_what_stands_before_it_and_nothing_after_it() -> None:
    text = "FROM a AS one\nFROM b AS Two\nFROM c AS three"
    assert _bases(text, "one") == ("a",)
    assert _bases(text, "two") == ("a", "b")
    assert _bases(text, "0") == ("a",)
    with pytest.raises(BuildlibError, match=r"^svc/Dockerfile: there is no stage 'x'; its stages: one, two, three$"):
        _bases(text, "x")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "svc/Dockerfile:1: the Dockerfile is empty"),
        (b" \n\n", "svc/Dockerfile:1: the Dockerfile is empty"),
        (b"# only this\n", "svc/Dockerfile:1: there is no FROM"),
        (b"\nARG A\n", "svc/Dockerfile:2: there is no FROM"),
        (b"\n\nRUN x\nFROM a", "svc/Dockerfile:3: RUN stands before the first FROM"),
        (b"FROM a\nRUN \xff", "svc/Dockerfile:2: this line is not UTF-8"),
        (b"FROM", "svc/Dockerfile:1: FROM takes `IMAGE` or `IMAGE AS NAME`"),
        (b"FROM a\nFROM a b", "svc/Dockerfile:2: FROM takes `IMAGE` or `IMAGE AS NAME`"),
        (b"FROM a\nFROM a b c", "svc/Dockerfile:2: FROM takes `IMAGE` or `IMAGE AS NAME`"),
        (b"ARG V\nFROM $V", "svc/Dockerfile:2: FROM $V gives no image name; give its ARG"),
    ],
)
def test_a_bad_dockerfile_is_an_error_with_its_line(data: bytes, error: str) -> None:
    with pytest.raises(BuildlibError) as caught:
        bases(read(data, "svc/Dockerfile"), {})
    assert str(caught.value).startswith(error)
    assert caught.value.cure


WORDS = [
    *["FROM", "from", "ARG", "COPY", "ADD", "RUN", "AS", "--from=", "--mount=from=", "--platform=x", "<<EOF", "<<-'E'"],
    *["\n", "\n", "\r\n", "\\\n", "`", "# escape=`\n", "#", " ", "\t", "$", "${", "}", ":-", "A=", '"', "'", "[", "]"],
    *["a", "b:1", "scratch", "0", "²", "pip install", "-r", "requirements.txt", "*.whl", "deps/", "--no-deps", "&&"],
    *["EOF", "\x00", "\x0c", "\u2028", "ö", "${a:-${b:-", "==", ";", "|"],
]


def test_no_text_makes_it_fall_over() -> None:
    """Ten thousand texts of a fixed seed: each is read, or refused with a place."""
    dice, read_well = random.Random(3), 0
    for _ in range(10_000):
        text = dice.choice(["", "FROM a\n", "ARG A=1\nFROM $A\n"]) + "".join(dice.choices(WORDS, k=dice.randrange(30)))
        data = bytearray(text.encode())
        if data and dice.random() < 0.2:
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            dockerfile = read(bytes(data), "D")
            hints(dockerfile, has_local_wheels=False, has_requirements=True)
            bases(dockerfile, {"A": "x"}, dice.choice([None, "a", "0", "²"]))
            read_well += 1
        except BuildlibError as error:
            assert error.place.startswith("D")
    assert read_well > 1000  # or the test would only see refusals


@pytest.mark.parametrize("text", ["FROM a\n" + "RUN x \\\n" * 50_000, "ARG A=" + "${A:-" * 20_000 + "\nFROM a$A"])
def test_a_long_text_is_no_trouble(text: str) -> None:
    assert _bases(text)


# --- hints


USUAL = """FROM python:3.12-slim
COPY ./deps/*.whl ./
COPY requirements.txt ./
RUN pip install --require-hashes -r requirements.txt && pip install --no-deps *.whl
COPY ./*.whl ./
RUN pip install --no-deps ./*.whl
"""


def test_the_usual_pattern_with_requirements_gets_no_hint() -> None:
    assert _hints(USUAL) == []


@pytest.mark.parametrize("source", ["deps/*.whl", "./deps/*.whl", "deps/", "/deps/*.whl", "deps"])
def test_copying_deps_without_local_libraries_is_said_with_the_line(source: str) -> None:
    text = f"FROM a\nCOPY {source} ./\n"
    assert _hints(text, wheels=True) == []
    hint = f"svc/Dockerfile:2: `COPY {source.removeprefix('./').removeprefix('/')}` finds nothing"
    assert _hints(text, wheels=False)[0].startswith(hint)


@pytest.mark.parametrize(
    ("line", "cure"),
    [
        ("COPY dist/requirements.txt .", "COPY requirements.txt ."),
        ("COPY dist/deps/ deps/", "COPY deps/ deps/"),
        ("ADD ./dist/*.whl requirements.txt /app/", "ADD *.whl requirements.txt /app/"),
        ("copy --chown=1:1 dist /app", "COPY --chown=1:1 . /app"),
        ('COPY ["dist/requirements.txt", "./"]', "COPY requirements.txt ./"),
    ],
)
def test_copying_from_dist_is_said_with_the_line_that_works(line: str, cure: str) -> None:
    for wheels in (True, False):
        found = _hints(f"FROM a\n{line}\n", wheels=wheels)
        assert "the build context is the service's dist/ itself" in found[0] and found[0].startswith(
            "svc/Dockerfile:2: "
        )
        assert found[0].endswith(f"; write `{cure}`")
    assert "dist/ itself" not in "".join(_hints(f"FROM a\n{cure}\n", wheels=False))


@pytest.mark.parametrize(
    "line", ["COPY x dist/", "COPY --from=a dist/x .", "RUN cp dist/x .", "COPY dist.txt app/dist ./"]
)
def test_other_folders_called_dist_are_nobodys_business(line: str) -> None:
    assert _hints(f"FROM a AS a\n{line}\n") == []


@pytest.mark.parametrize("line", ["COPY requirements.txt deps/*.whl ./", "COPY --from=x deps/*.whl ./", "COPY . ."])
def test_a_copy_that_has_another_source_is_fine_without_local_libraries(line: str) -> None:
    assert _hints(f"FROM a AS x\n{line}", wheels=False) == []


@pytest.mark.parametrize(
    ("run", "warned"),
    [
        ("RUN pip install *.whl", True),
        ("RUN python -m pip --quiet install --no-cache-dir ./*.whl", True),
        ("RUN uv pip install *.whl", True),
        ('RUN ["pip", "install", "x.whl"]', True),
        ("RUN pip install \\\n  *.whl", True),
        ("RUN pip install --no-deps *.whl", False),
        ("RUN pip install --upgrade pip setuptools", False),
        ("RUN pip install -r requirements.txt && pip install *.whl", False),
        ("RUN pip install --requirement=requirements.txt", False),
        ("RUN pip install 'flask>=2'", True),
        ("RUN apt-get install x", False),
    ],
)
def test_installing_third_parties_without_requirements_is_a_warning(run: str, warned: bool) -> None:
    found = _hints(f"FROM a\n{run}\n")
    assert bool(found) == warned
    if warned:
        assert found[0].startswith("svc/Dockerfile:2: pip installs ")
        assert "COPY requirements.txt" in found[0]
        assert "--require-hashes -r requirements.txt" in found[0]


def test_wheels_of_a_service_without_third_parties_need_no_requirements() -> None:
    assert _hints("FROM a\nRUN pip install *.whl", requirements=False) == []
    assert _hints("FROM a\nRUN pip install flask", requirements=False) != []


@pytest.mark.parametrize("line", ["RUN --mount=type=cache,target=/x ls", "RUN <<EOF\nls\nEOF", "COPY --link a b"])
def test_syntax_of_buildkit_is_said(line: str) -> None:
    assert "needs BuildKit" in _hints(f"FROM a\n{line}\n")[0]
