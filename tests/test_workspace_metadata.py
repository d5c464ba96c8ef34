"""One pyproject.toml, in every style of declaring a local dependency, and in every way of being wrong."""
# ruff: noqa: E501 (each pyproject.toml is one line)

import random

import pytest

from buildlib.errors import BuildlibError
from buildlib.workspace.config import RootConfig
from buildlib.workspace.metadata import likely_name, parse_toml, read_metadata
from buildlib.workspace.model import Project

HEAD = '[project]\nname = "a"\nversion = "1"\n'
POETRY = '[tool.poetry]\nname = "a"\nversion = "1"\n'


def read(text: str | bytes, path: str = "libs/a", kind: str = "library") -> Project:
    data = text.encode() if isinstance(text, str) else text
    return read_metadata(path, data, kind, RootConfig())


def names(project: Project) -> list[str]:
    return [d.name for d in project.dependencies]


def fault(text: str | bytes, path: str = "libs/a") -> str:
    with pytest.raises(BuildlibError) as caught:
        read(text, path)
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (HEAD + 'dependencies = ["B.b>=1", "c[x,y]; python_version < \'3.12\'"]\n', ["b-b", "c"]),
        (POETRY + '[tool.poetry.dependencies]\npython = "^3.11"\nB_b = {path = "../b"}\nc = "*"\n', ["b-b", "c"]),
        (POETRY + '[tool.poetry.dependencies]\nb = ""\n[tool.poetry.group.dev.dependencies]\nb = {path = "../b"}\n', ["b"]),
        (POETRY + '[tool.poetry.group.dev.dependencies]\nb = {path = "../b"}\n', []),
        (POETRY + '[tool.poetry.dev-dependencies]\nb = {path = "../b"}\n', []),
        (POETRY + '[tool.poetry.dependencies]\nb = {path = "../b", optional = true}\n', []),
        (HEAD + 'dependencies = ["b"]\n[tool.poetry.dependencies]\nb = {path = "../b"}\n', ["b"]),
        (HEAD + 'dependencies = ["b"]\n[tool.poetry.dependencies]\nc = {path = "../c"}\n', ["b"]),
        (HEAD + 'dynamic = ["dependencies"]\n[tool.poetry.dependencies]\nc = {path = "../c"}\n', ["c"]),
        (HEAD + '[tool.poetry.dependencies]\nc = {path = "../c"}\n', ["c"]),
        (HEAD + 'dependencies = ["b"]\n[tool.uv.sources]\nb = {workspace = true}\n', ["b"]),
        (HEAD + 'dependencies = ["b @ {root:uri}/../b"]\n', ["b"]),
        (HEAD + 'dependencies = ["b @ file:///${PROJECT_ROOT}/../b ; python_version > \'3\'"]\n', ["b"]),
        (HEAD + 'dependencies = []\n[dependency-groups]\ndev = ["b @ file:../b"]\n', []),
    ],
)  # fmt: skip
def test_every_style_of_declaring_dependencies_is_read(text: str, found: list[str]) -> None:
    assert names(read(text)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (POETRY + '[tool.poetry.dependencies]\nb = {path = "../b/"}\n', {"b": "libs/b"}),
        (POETRY + '[tool.poetry.dependencies]\nb = [{path = "../b", python = "<3.12"}, {path = "../b"}]\n', {"b": "libs/b"}),
        (POETRY + '[tool.poetry.group.dev.dependencies]\nb = {path = "../b"}\n', {"b": "libs/b"}),
        (POETRY + '[tool.poetry.dependencies]\nb = {path = "../../wheels/b-1-py3-none-any.whl"}\n', {}),
        (HEAD + '[tool.uv.sources]\nB_b = {path = "../../tools/b", editable = true}\n', {"b-b": "tools/b"}),
        (HEAD + '[tool.uv.sources]\nb = [{path = "../b", marker = "os_name == \'posix\'"}, {index = "x"}]\n', {"b": "libs/b"}),
        (HEAD + 'dependencies = ["b @ {root:uri}/../b"]\n', {"b": "libs/b"}),
        (HEAD + 'dependencies = ["b @ {root:parent:uri}/b"]\n', {"b": "libs/b"}),
        (HEAD + 'dependencies = ["b[x] @ file:///${PROJECT_ROOT}/../b"]\n', {"b": "libs/b"}),
        (HEAD + 'dependencies = ["b @ file:../b"]\n', {"b": "libs/b"}),
        (HEAD + 'dependencies = ["b @ https://example.org/b.whl", "c @ file:///srv/c"]\n', {}),
        (HEAD + '[tool.uv.sources]\nroot = {path = "../.."}\n', {"root": ""}),
    ],
)  # fmt: skip
def test_the_directory_of_every_path_dependency_is_known(text: str, found: dict[str, str]) -> None:
    assert read(text).declared_paths == found


def test_extras_and_markers_of_dependencies_are_kept() -> None:
    one = read(HEAD + "dependencies = [\"b[Y_y,x]; sys_platform == 'win32'\"]\n").dependencies[0]
    assert (one.name, one.extras, one.marker) == ("b", ("x", "y-y"), 'sys_platform == "win32"')


def test_poetrys_python_and_platform_of_a_dependency_become_its_marker() -> None:
    text = (
        POETRY
        + '[tool.poetry.dependencies]\nb = {path = "../b", python = "^3.11", platform = "linux", markers = "os_name == \'posix\'"}\n'
    )
    marker = read(text).dependencies[0].marker
    assert 'os_name == "posix"' in marker and 'sys_platform == "linux"' in marker
    assert 'python_full_version >= "3.11"' in marker and 'python_full_version < "4"' in marker


def test_optional_dependencies_are_read_by_their_normalised_extra() -> None:
    project = read(HEAD + '[project.optional-dependencies]\nFast_io = ["b", "a[other]"]\n')
    assert [d.name for d in project.optional["fast-io"]] == ["b", "a"] and project.dependencies == ()
    poetry = read(
        POETRY + '[tool.poetry.dependencies]\nb = {path = "../b", optional = true}\n[tool.poetry.extras]\nx = ["b"]\n'
    )
    assert [d.name for d in poetry.optional["x"]] == ["b"]


@pytest.mark.parametrize(
    ("constraint", "specifier"),
    [
        ("^3.11", ">=3.11,<4"), ("~3.11", ">=3.11,<3.12"), ("~3.11.2", ">=3.11.2,<3.12"), ("~3", ">=3,<4"), ("^0.3", ">=0.3,<0.4"),
        (">=3.11,<3.14", ">=3.11,<3.14"), (">= 3.11, < 4", ">=3.11,<4"), (">=3.11 <4", ">=3.11,<4"), ("3.11.*", "==3.11.*"),
        ("3.12", "==3.12"), ("*", ""), ("~=3.11", "~=3.11"), ("^3.9 || ^4.0", ">=3.9,<4 || >=4.0,<5"),
    ],
)  # fmt: skip
def test_poetrys_python_constraints_are_said_as_pep_440(constraint: str, specifier: str) -> None:
    assert read(POETRY + f'[tool.poetry.dependencies]\npython = "{constraint}"\n').requires_python == specifier


def test_files_that_metadata_names_outside_the_project_are_inputs() -> None:
    assert read(HEAD + 'readme = "../../README.md"\nlicense = {file = "../../LICENSE"}\n').outside == (
        "README.md",
        "LICENSE",
    )
    assert read(HEAD + 'readme = {file = "../NOTES.md", content-type = "text/markdown"}\n').outside == (
        "libs/NOTES.md",
    )
    assert read(POETRY + 'readme = ["README.md", "../../more.md"]\n').outside == ("more.md",)
    assert read(HEAD + 'readme = "README.md"\nlicense = "MIT"\n').outside == ()
    assert read(HEAD + 'readme = "../../../etc/passwd"\n').outside == ()


def test_a_build_system_is_read_and_its_absence_means_setuptools() -> None:
    assert (
        read(HEAD).build_requires == ("setuptools>=40.8.0",)
        and read(HEAD).backend == "setuptools.build_meta:__legacy__"
    )
    own = read(HEAD + '[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["x"]\n')
    assert (own.backend, own.backend_path, own.build_requires, own.warm) == ("b", ("x",), (), False)


def test_only_poetry_core_without_a_build_script_is_warm() -> None:
    system = '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
    assert read(HEAD + system).warm and not read(POETRY + 'build = "build.py"\n' + system).warm
    assert not read(HEAD + system + 'backend-path = ["."]\n').warm


def test_a_byte_order_mark_and_windows_line_ends_are_no_trouble() -> None:
    assert read(b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode()).name == "a"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "libs/a/pyproject.toml: no [project] table; add one"),
        ("[build-system]\nrequires = []\n", "libs/a/pyproject.toml: no [project] table"),
        ("[project]\nversion = '1'\n", "the project has no name"),
        ('[project]\nname = "a b"\n', "'a b' is no valid project name"),
        ("[project]\nname = 5\n", "name is not a string"),
        ("project = 5\n", "project is not a table; write it as [project]"),
        ("tool = []\n" + HEAD, "tool is not a table"),
        ("[project]\nname = \n", "libs/a/pyproject.toml:2: not valid TOML"),
        (b"[project]\nname = 'a'\nversion = '\xff'\n", "libs/a/pyproject.toml:3: not UTF-8; save the file as UTF-8"),
        (HEAD + 'dependencies = "requests"\n', "dependencies is no list of strings"),
        (HEAD + 'dependencies = [5]\n', "dependencies is no list of strings"),
        (HEAD + 'dependencies = ["b >>= 1"]\n', "'b >>= 1' is no valid requirement"),
        (HEAD + '[project.optional-dependencies]\nx = "b"\n', "the extra x is no list of strings"),
        (HEAD + "requires-python = 3.11\n", "requires-python is not a string"),
        (HEAD + 'requires-python = "3.11"\n', "requires-python '3.11' is no version specifier"),
        (POETRY + '[tool.poetry.dependencies]\npython = "^x"\n', "is no version specifier"),
        (HEAD + '[build-system]\nbuild-backend = "x"\n', "build-system.requires is missing"),
        (HEAD + '[build-system]\nrequires = "poetry-core"\n', "build-system.requires is no list of strings"),
        (HEAD + '[build-system]\nrequires = []\nbuild-backend = 5\n', "build-system.build-backend is not a string"),
        (HEAD + '[build-system]\nrequires = []\nbackend-path = "x"\n', "build-system.backend-path is no list of strings"),
        (HEAD + '[build-system]\nrequires = ["a b c"]\n', "'a b c' is no valid requirement"),
        (HEAD + "[tool.buildlib]\ninput = []\n", "unknown key tool.buildlib.input; did you mean inputs?"),
        (HEAD + "[tool.buildlib]\ninputs = 'x'\n", "tool.buildlib.inputs has the wrong type"),
        (HEAD + "[tool.buildlib.image]\npyton = '3.12'\n", "unknown key tool.buildlib.image.pyton; did you mean python?"),
        (HEAD + "[tool.buildlib.image]\npython = 3.12\n", "tool.buildlib.image.python has the wrong type; write a string"),
        (HEAD + "[tool.buildlib]\nimage = 'x'\n", "tool.buildlib.image has the wrong type; write a table"),
        (HEAD + "[tool.buildlib.image]\nfiles = {x = 1}\n", "tool.buildlib.image.files has the wrong type"),
        (HEAD + "x = " + "[" * 2000 + "]" * 2000, "libs/a/pyproject.toml"),
        (HEAD + "x = " + "1" * 5000, "not valid TOML"),
        ("[project]\nname = 'a'\n[tool.poetry]\ndependencies = 5\n", "dependencies is not a table"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_a_place(text: str | bytes, said: str) -> None:
    assert said in fault(text)


def test_a_project_overrides_the_images_settings_key_by_key() -> None:
    from buildlib.workspace.config import read_root

    root = read_root({"image": {"python": "3.12", "platforms": ["linux/arm64"]}}, "pyproject.toml")
    one = read_metadata("services/a", (HEAD + '[tool.buildlib.image]\npython = "3.13"\n').encode(), "service", root)
    assert (one.config.image.python, one.config.image.platforms) == ("3.13", ("linux/arm64",))


def test_a_broken_file_still_says_who_it_is() -> None:
    assert likely_name("libs/tracking", b'[project]\nname = "Parcel_Tracking"\nversion = \n') == "parcel-tracking"
    assert likely_name("libs/My_Lib", b"\xff") == "my-lib" and likely_name("", b"") == "root"


SEEDS = [
    HEAD
    + 'dependencies = ["b[x]>=1; python_version<\'4\'"]\nreadme = "../R.md"\n[project.optional-dependencies]\nx = ["c"]\n',
    POETRY + '[tool.poetry.dependencies]\npython = "^3.11"\nb = {path = "../b", extras = ["x"], python = "<3.14"}\n'
    '[tool.poetry.group.dev.dependencies]\nc = [{path = "../c"}]\n[tool.poetry.extras]\nx = ["b"]\n',
    HEAD
    + '[tool.uv.sources]\nb = [{path = "../b"}, {workspace = true}]\n[dependency-groups]\ndev = ["x", {include-group = "y"}]\n'
    '[build-system]\nrequires = ["x"]\nbackend-path = ["b"]\n[tool.buildlib]\ninputs = ["x"]\n[tool.buildlib.image.args]\nx = "1"\n',
]
VALUES = [
    "5",
    '"x"',
    "[]",
    "{}",
    "[5]",
    "[[]]",
    "{x = 5}",
    "true",
    "1979-05-27",
    '""',
    "[{}]",
    '["x @ y @ z"]',
    "nan",
    '"^"',
    '"<"',
]


def test_no_mutation_of_a_pyproject_raises_anything_but_our_error() -> None:
    chance = random.Random(3)
    wrong = 0
    for _ in range(3000):
        data = bytearray(chance.choice(SEEDS).encode())
        if chance.random() < 0.5:  # another value behind some key
            lines = data.decode().splitlines()
            at = chance.choice([i for i, line in enumerate(lines) if "=" in line])
            lines[at] = lines[at].partition("=")[0] + "= " + chance.choice(VALUES)
            data = bytearray("\n".join(lines).encode())
        for _ in range(chance.randrange(3)):
            at = chance.randrange(len(data))
            data[at : at + chance.randrange(3)] = bytes(chance.choices(b'\0\xff"[]{}=.,x5\n@;', k=chance.randrange(3)))
        try:
            read(bytes(data))
        except BuildlibError as error:
            wrong += 1
            assert "\n" not in str(error) and str(error).startswith("libs/a/pyproject.toml")
    assert wrong > 500  # most mutations hurt: the fuzz does reach the checks


def test_toml_is_parsed_with_the_line_of_the_fault() -> None:
    with pytest.raises(BuildlibError, match=r"^x\.toml:3: "):
        parse_toml("x.toml", b"a = 1\nb = 2\nc = = 3\n")


def test_poetrys_version_constraint_is_part_of_the_requirement() -> None:
    table = b'[tool.poetry]\nname = "a"\nversion = "1"\n[tool.poetry.dependencies]\nidna = "^3.2"\nsix = "*"\nlib = {path = "../b"}\n'
    project = read_metadata("libs/a", table, "library", RootConfig())
    assert project.requires == ("idna>=3.2,<4", "six", "lib")


SYSTEM = '[build-system]\nrequires = []\nbuild-backend = "x"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[project]\nname = "a"\n' + SYSTEM, '[project] has no version; add version = "…", or list it in dynamic'),
        ('[project]\nname = "a"\nversion = "one"\n', "version 'one' is none; write one like \"1.2.0\" (PEP 440)"),
        (
            '[project]\nname = "a"\nversion = "1"\n[tool.uv]\nsources = []\n',
            "sources is not a table; write it as [sources]",
        ),
        ('[tool.poetry]\nname = "a"\ndependencies = []\n', "dependencies is not a table; write it as [dependencies]"),
    ],
)
def test_what_a_backend_would_say_in_a_traceback_is_said_in_one_line(text: str, said: str) -> None:
    with pytest.raises(BuildlibError) as error:
        read_metadata("libs/a", text.encode(), "library", RootConfig())
    assert str(error.value) == f"libs/a/pyproject.toml: {said}"


def test_a_project_of_poetrys_without_a_build_system_is_built_by_poetry_core() -> None:
    text = b'[tool.poetry]\nname = "a"\nversion = "1.0"\n'
    project = read_metadata("libs/a", text, "library", RootConfig())
    assert (project.package, project.backend, project.build_requires) == (
        True,
        "poetry.core.masonry.api",
        ("poetry-core",),
    )
