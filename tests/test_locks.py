"""Slices and staleness of lock files, on locks that the real tools made (tests/fixtures/locks/README.md)."""

import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli
from packaging.requirements import Requirement
from packaging.version import Version

from buildlib.errors import BuildlibError
from buildlib.workspace.locks import Lock, Member, Pin, Target, lock_files, missing, parse, requirements_text
from buildlib.workspace.locks.base import same_marker, same_pythons
from buildlib.workspace.locks.poetry import allows

FIXTURES = Path(__file__).parent / "fixtures" / "locks"
LOCAL = frozenset({"acme", "lib-core", "lib-log", "lib-http", "svc-a", "svc-b", "svc-c"})
AMD = Target("3.12", "linux/amd64")
TARGETS = [
    Target(python, f"linux/{arch}") for python in ("3.11.2", "3.11.9", "3.12", "3.13.1") for arch in ("amd64", "arm64")
]
DIGEST = "sha256:" + "0" * 64

# Poetry's own tables as the requirements that the workspace room makes of them
CLASSIC = {
    "svc-b": (
        "anyio>=4.0,<5.0",
        "lib-core[http]",
        "idna==3.4; sys_platform == 'linux'",
        "idna==3.6; sys_platform != 'linux'",
    ),
    "lib-core": ("six>=1.16,<1.17", "click>=8.1,<9.0"),
}
POETRY_1 = {
    "svc-b": (
        "anyio>=4.0,<5.0",
        "lib-core[http]",
        "sniffio==1.3.0; python_version < '3.13'",
        "sniffio==1.3.1; python_version >= '3.13'",
    ),
    "svc-c": (
        "anyio>=4.0,<5.0",
        "lib-core[http]",
        "idna==3.4; python_version < '3.13'",
        "idna==3.6; python_version >= '3.13'",
    ),
    "lib-core": CLASSIC["lib-core"],
}


def member_of(world: str, path: str, requires: tuple[str, ...] | None = None, text: str | None = None) -> Member:
    data = tomli.loads(text if text is not None else (FIXTURES / world / path / "pyproject.toml").read_text())
    name = re.sub(r"[-_.]+", "-", (data.get("project") or data["tool"]["poetry"])["name"]).lower()
    if requires is None:
        requires = tuple(data["project"].get("dependencies", ()))
    return Member(name, path, requires, LOCAL, data)


def lock_of(world: str, path: str) -> Lock:
    return parse(path, (FIXTURES / world / path).read_bytes())


def names(pins: tuple[Pin, ...]) -> list[str]:
    return [f"{pin.name}=={pin.version}" for pin in pins]


UV_WORKSPACE = [("uv-workspace", "uv.lock", f"services/{name}", None) for name in ("svc-a", "svc-b")]
UV_CONFLICT = [("uv-conflict", "uv.lock", f"services/{name}", None) for name in ("svc-a", "svc-b")]
UV_PATHS = ("uv-paths", "services/svc-a/uv.lock", "services/svc-a", None)
POETRY_PROJECT = ("poetry-project", "services/svc-a/poetry.lock", "services/svc-a", None)
POETRY_CLASSIC = ("poetry-classic", "services/svc-b/poetry.lock", "services/svc-b", CLASSIC["svc-b"])
POETRY_ONE = ("poetry-1", "services/svc-b/poetry.lock", "services/svc-b", POETRY_1["svc-b"])
POETRY_FORK = ("poetry-1", "services/svc-c/poetry.lock", "services/svc-c", POETRY_1["svc-c"])
POETRY = [POETRY_PROJECT, POETRY_CLASSIC, POETRY_ONE]
EVERY = [*UV_WORKSPACE, *UV_CONFLICT, UV_PATHS, *POETRY, POETRY_FORK]
Case = tuple[str, str, str, tuple[str, ...] | None]


# --- the same as the real tools print --------------------------------------------------------------------------------


def exported(text: str, target: Target) -> dict[str, tuple[str, tuple[str, ...]]]:
    """name -> (version or URL, hashes) of an export, for one target."""
    found = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip() or line.lstrip().startswith(("#", "-")):
            continue
        what, *hashes = re.split(r"\s+--hash=", line.strip())
        needed = Requirement(what)
        if needed.marker is None or needed.marker.evaluate({**target.environment(), "extra": ""}):
            assert needed.name not in found, f"{needed.name} twice for {target}"
            found[needed.name] = (needed.url or str(needed.specifier).removeprefix("=="), tuple(sorted(hashes)))
    return found


def sliced(pins: tuple[Pin, ...]) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {pin.name: (pin.source if pin.direct else pin.version, pin.hashes) for pin in pins}


def in_a_tree(world: str, root: Path) -> Path:
    """The fixture's projects with importable packages, which poetry asks for."""
    for source in (FIXTURES / world).rglob("*.*"):
        if source.is_file():
            copy = root / source.relative_to(FIXTURES / world)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
    for project in root.rglob("pyproject.toml"):
        package = project.parent / project.parent.name.replace("-", "_")
        package.mkdir()
        (package / "__init__.py").touch()
    return root


def uv(*argv: str, cwd: Path) -> str:
    from uv import find_uv_bin

    run = subprocess.run([find_uv_bin(), "--offline", "--no-config", *argv], cwd=cwd, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize(("world", "path", "service", "requires"), [*UV_WORKSPACE, *UV_CONFLICT, UV_PATHS])
def test_a_slice_of_uv_lock_has_the_pins_and_hashes_of_uv_export(
    world: str, path: str, service: str, requires: None, tmp_path: Path
) -> None:
    tree = in_a_tree(world, tmp_path)
    local = ("--package", Path(service).name, "--no-emit-workspace") if path == "uv.lock" else ("--no-emit-local",)
    output = uv("export", "--no-dev", *local, "--frozen", "--no-annotate", cwd=(tree / path).parent)
    for target in TARGETS:
        pins = lock_of(world, path).slice(member_of(world, service, requires), target)
        assert sliced(pins) == exported(output, target)
        assert len(pins) > 2


@pytest.fixture(scope="session")
def poetry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Poetry with its export plugin: $BUILDLIB_TEST_POETRY, or a venv made here."""
    import os

    given = os.environ.get("BUILDLIB_TEST_POETRY")
    if given:
        return given
    venv = tmp_path_factory.mktemp("poetry")
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([venv / "bin" / "pip", "install", "-q", "poetry>=2.3,<3", "poetry-plugin-export>=1.9"], check=True)
    return str(venv / "bin" / "poetry")


def run_poetry(poetry: str, *argv: str, cwd: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    import os

    environment = {**os.environ, "POETRY_CACHE_DIR": str(cache), "POETRY_VIRTUALENVS_CREATE": "false"}
    return subprocess.run([poetry, "--no-ansi", *argv], cwd=cwd, capture_output=True, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize(("world", "path", "service", "requires"), POETRY)
def test_a_slice_of_poetry_lock_has_the_pins_and_hashes_of_poetry_export(
    world: str, path: str, service: str, requires: tuple[str, ...] | None, tmp_path: Path, poetry: str
) -> None:
    tree = in_a_tree(world, tmp_path / "tree")
    run = run_poetry(poetry, "export", cwd=tree / service, cache=tmp_path / "cache")
    assert run.returncode == 0, run.stdout + run.stderr
    for target in TARGETS:
        pins = lock_of(world, path).slice(member_of(world, service, requires), target)
        assert sliced(pins) == exported(run.stdout, target)
        assert len(pins) > 2


@pytest.mark.slow
@pytest.mark.parametrize(("world", "path", "service", "requires"), [*POETRY, POETRY_FORK])
@pytest.mark.parametrize("edit", ["none", "description", "requirement", "group"])
def test_poetry_check_lock_agrees_on_staleness(
    world: str, path: str, service: str, requires: tuple[str, ...] | None, edit: str, tmp_path: Path, poetry: str
) -> None:
    tree = in_a_tree(world, tmp_path / "tree")
    pyproject = tree / service / "pyproject.toml"
    text = edited(pyproject.read_text(), edit)
    pyproject.write_text(text)
    run = run_poetry(poetry, "check", "--lock", cwd=tree / service, cache=tmp_path / "cache")
    says_stale = "poetry.lock was last generated" in run.stdout + run.stderr
    assert says_stale is (edit in ("requirement", "group"))
    member = member_of(world, service, requires, text)
    if says_stale:
        with pytest.raises(BuildlibError, match=f"cd {service} && poetry lock"):
            lock_of(world, path).check(member)
    else:
        lock_of(world, path).check(member)


def edited(text: str, edit: str) -> str:
    if edit == "description":
        return text.replace('version = "0.1.0"', 'version = "0.1.0"\nkeywords = ["new"]')
    if edit == "requirement":
        new = text.replace("six>=1.16,<2", "six>=1.15,<2").replace('anyio = "^4.0"', 'anyio = "^4.1"')
        assert new != text
        return new
    return text.replace('pluggy = "^1.5"', 'pluggy = "^1.4"') if edit == "group" else text


# --- what is in a slice ----------------------------------------------------------------------------------------------


def test_dev_groups_and_extras_of_the_service_are_not_in_a_slice() -> None:
    for world, path, service, requires in EVERY:
        found = {pin.name for pin in lock_of(world, path).slice(member_of(world, service, requires), AMD)}
        assert not found & {"pluggy", "iniconfig", "tabulate"}, path


def test_an_extra_on_a_local_dependency_brings_its_packages() -> None:
    world, path, service, requires = UV_WORKSPACE[0]
    assert "h2" in {pin.name for pin in lock_of(world, path).slice(member_of(world, service, requires), AMD)}
    world, path, service, _ = UV_WORKSPACE[1]
    assert "h2" not in {pin.name for pin in lock_of(world, path).slice(member_of(world, service), AMD)}


@pytest.mark.parametrize(("world", "path", "service", "requires"), EVERY)
def test_a_package_for_another_platform_is_not_in_a_slice(
    world: str, path: str, service: str, requires: tuple[str, ...] | None
) -> None:
    found = {pin.name for pin in lock_of(world, path).slice(member_of(world, service, requires), AMD)}
    assert not found & {"tzdata", "colorama", "markupsafe"}


def test_the_machine_decides_a_marker_on_it() -> None:
    lock, member = lock_of("uv-workspace", "uv.lock"), member_of("uv-workspace", "services/svc-b")
    assert "markupsafe" in {pin.name for pin in lock.slice(member, Target("3.12", "linux/arm64"))}


@pytest.mark.parametrize(
    ("case", "python", "version"), [(POETRY_PROJECT, "3.12", "1.17.0"), (POETRY_PROJECT, "3.13", "1.16.0")]
)
def test_of_two_locked_versions_the_one_whose_marker_holds_is_taken(case: Case, python: str, version: str) -> None:
    world, path, service, requires = case
    pins = lock_of(world, path).slice(member_of(world, service, requires), Target(python, "linux/amd64"))
    assert f"six=={version}" in names(pins)


@pytest.mark.parametrize(("python", "version"), [("3.12", "3.4"), ("3.13", "3.6")])
def test_an_edge_without_a_bound_takes_the_version_that_another_edge_demands(python: str, version: str) -> None:
    world, path, service, requires = POETRY_FORK  # anyio wants any idna, the service one for each Python
    pins = lock_of(world, path).slice(member_of(world, service, requires), Target(python, "linux/amd64"))
    assert [name for name in names(pins) if name.startswith("idna")] == [f"idna=={version}"]


def test_the_order_of_edges_does_not_matter_where_only_a_deep_edge_has_the_bound() -> None:
    lock = poetry_lock(
        package("a", '[package.dependencies]\nz = "*"'),
        package("b", '[package.dependencies]\nz = "<2"'),
        package("z", version="1"),
        package("z", version="2"),
    )
    assert "z==1" in names(lock.slice(a_member("a", "b"), AMD))
    assert "z==1" in names(lock.slice(a_member("b", "a"), AMD))


def test_another_members_part_of_a_shared_lock_changes_nothing() -> None:
    data = (FIXTURES / "uv-workspace/uv.lock").read_text()
    other = data.replace('name = "markupsafe", marker', 'name = "iniconfig", marker')
    assert other != data
    member = member_of("uv-workspace", "services/svc-a")
    assert parse("uv.lock", other.encode()).slice(member, AMD) == parse("uv.lock", data.encode()).slice(member, AMD)


def test_local_projects_are_never_pinned() -> None:
    for world, path, service, requires in EVERY:
        assert not LOCAL & {pin.name for pin in lock_of(world, path).slice(member_of(world, service, requires), AMD)}


def test_a_lock_above_slices_any_project_below_by_its_own_requirements() -> None:
    data = (FIXTURES / "poetry-project/services/svc-a/poetry.lock").read_text()
    lock = parse("poetry.lock", data.replace("../../", "").encode())
    pins = lock.slice(member_of("poetry-project", "libs/lib-http"), AMD)
    assert "httpx==0.28.1" in names(pins)
    assert "h2==4.4.1" in names(pins)
    assert not [name for name in names(pins) if name.startswith("six")]


# --- what cannot be pinned -------------------------------------------------------------------------------------------


def uv_lock(*packages: str, head: str = "") -> Lock:
    text = f'version = 1\nrequires-python = ">=3.11"\n{head}\n' + "".join(f"[[package]]\n{each}\n" for each in packages)
    return parse("svc/uv.lock", text.encode())


def uv_svc(*dependencies: str, more: str = "") -> str:
    edges = ", ".join(f"{{ name = {each} }}" for each in dependencies)
    return f'name = "svc"\nversion = "1"\nsource = {{ virtual = "." }}\ndependencies = [{edges}]\n{more}'


def uv_package(
    name: str, source: str = 'registry = "https://pypi.org/simple"', hashes: str = f', hash = "{DIGEST}"'
) -> str:
    url = f"https://files.example/{name}-1-py3-none-any.whl"
    return f'name = "{name}"\nversion = "1"\nsource = {{ {source} }}\nwheels = [{{ url = "{url}"{hashes} }}]'


def package(name: str, more: str = "", version: str = "1", files: str = f'{{file = "x", hash = "{DIGEST}"}}') -> str:
    fields = [
        f'name = "{name}"',
        f'version = "{version}"',
        "optional = false",
        'python-versions = "*"',
        f"files = [{files}]",
    ]
    return "\n".join(["[[package]]", *fields, more, ""])


def poetry_lock(*packages: str, version: str = "2.0", pythons: str = "*") -> Lock:
    tail = f'[metadata]\nlock-version = "{version}"\npython-versions = "{pythons}"\ncontent-hash = "x"\n'
    return parse("svc/poetry.lock", ("".join(packages) + tail).encode())


def a_member(*requires: str, pyproject: str = "") -> Member:
    return Member("svc", "svc", requires, frozenset({"svc", "lib"}), tomli.loads(pyproject))


def test_a_local_name_pinned_from_an_index_is_an_error() -> None:
    for lock in (uv_lock(uv_svc('"lib"'), uv_package("lib")), poetry_lock(package("lib"))):
        with pytest.raises(
            BuildlibError, match=r"svc/\w+.lock: lib is a project of this workspace, but the lock pins 1"
        ):
            lock.slice(a_member("lib"), AMD)


def test_a_directory_that_is_no_project_of_the_workspace_is_an_error() -> None:
    uv_dir = uv_lock(uv_svc('"odd"'), 'name = "odd"\nversion = "1"\nsource = { directory = "../odd" }')
    poetry_dir = poetry_lock(package("odd", '[package.source]\ntype = "directory"\nurl = "../odd"', files=""))
    for lock in (uv_dir, poetry_dir):
        with pytest.raises(
            BuildlibError, match="odd is the directory odd, which is no project of this workspace; add it"
        ):
            lock.slice(a_member("odd"), AMD)


def test_git_is_an_error_since_it_has_no_hash() -> None:
    uv_git = uv_lock(uv_svc('"x"'), 'name = "x"\nversion = "1"\nsource = { git = "https://example.com/x#abc" }')
    source = (
        '[package.source]\ntype = "git"\nurl = "https://example.com/x"\nreference = "HEAD"\nresolved_reference = "abc"'
    )
    for lock in (uv_git, poetry_lock(package("x", source, files=""))):
        with pytest.raises(BuildlibError, match="x comes from git, which has no hash; depend on a release"):
            lock.slice(a_member("x"), AMD)


def test_a_package_without_hashes_is_an_error() -> None:
    with pytest.raises(
        BuildlibError, match="x 1 has no hash; use an index that gives hashes, then run `cd svc && uv lock`"
    ):
        uv_lock(uv_svc('"x"'), uv_package("x", hashes="")).slice(a_member("x"), AMD)
    with pytest.raises(
        BuildlibError, match=r"x 1 has no hash; run `poetry cache clear --all .`, then `cd svc && poetry"
    ):
        poetry_lock(package("x", files="")).slice(a_member("x"), AMD)


def test_a_url_and_a_file_are_pinned_with_their_hash() -> None:
    url = "https://files.example/x-1-py3-none-any.whl"
    table = f'type = "url"\nurl = "{url}"'
    for lock in (
        uv_lock(uv_svc('"x"'), uv_package("x", f'url = "{url}"')),
        poetry_lock(package("x", f"[package.source]\n{table}")),
    ):
        assert lock.slice(a_member("x"), AMD) == (Pin("x", "1", (DIGEST,), url, direct=True),)
    path = '[package.source]\ntype = "file"\nurl = "../vendor/x.whl"'
    for lock in (uv_lock(uv_svc('"x"'), uv_package("x", 'path = "../vendor/x.whl"')), poetry_lock(package("x", path))):
        assert lock.slice(a_member("x"), AMD) == (Pin("x", "1", (DIGEST,), "file:vendor/x.whl", direct=True),)


def test_a_file_outside_the_workspace_is_an_error() -> None:
    with pytest.raises(BuildlibError, match="outside the workspace"):
        uv_lock(uv_svc('"x"'), uv_package("x", 'path = "../../x.whl"')).slice(a_member("x"), AMD)


def test_an_index_other_than_the_default_is_kept() -> None:
    index = "https://pypi.example/simple"
    legacy = f'[package.source]\ntype = "legacy"\nurl = "{index}"\nreference = "team"'
    for lock in (uv_lock(uv_svc('"x"'), uv_package("x", f'registry = "{index}"')), poetry_lock(package("x", legacy))):
        assert lock.slice(a_member("x"), AMD) == (Pin("x", "1", (DIGEST,), index),)


@pytest.mark.parametrize("line", ["1\\n--index-url http://evil", "1 --hash=x", ""])
def test_nothing_but_a_version_gets_into_a_requirement_line(line: str) -> None:
    bad = uv_package("x").replace('version = "1"', f'version = "{line}"')
    with pytest.raises(BuildlibError, match="the version of x is"):
        uv_lock(uv_svc('"x"'), bad).slice(a_member("x"), AMD)


@pytest.mark.parametrize("url", ["https://a/x.whl\\n--pre", "https://a/x y.whl"])
def test_nothing_but_a_url_gets_into_a_requirement_line(url: str) -> None:
    with pytest.raises(BuildlibError, match="which is no URL"):
        uv_lock(uv_svc('"x"'), uv_package("x", f'url = "{url}"')).slice(a_member("x"), AMD)


def test_a_conflict_that_the_slice_meets_is_an_error_that_names_it() -> None:
    head = 'conflicts = [[{ package = "lib", extra = "cpu" }, { package = "lib", extra = "gpu" }]]'
    lib = 'name = "lib"\nversion = "1"\nsource = { directory = "../lib" }'
    wants = '"lib", extra = ["cpu"], marker = "extra == \'extra-3-lib-cpu\'"'
    with pytest.raises(BuildlibError, match=r"lib\[cpu\] is needed here and is one side of a conflict"):
        uv_lock(uv_svc(wants), lib, head=head).slice(a_member("lib[cpu]"), AMD)
    other = "\"x\", marker = \"extra != 'extra-3-lib-cpu' or extra == 'extra-3-lib-gpu'\""
    assert names(uv_lock(uv_svc('"lib"', other), lib, uv_package("x"), head=head).slice(a_member("lib"), AMD)) == [
        "x==1"
    ]


@pytest.mark.parametrize(("service", "version"), [("svc-a", "3.4"), ("svc-b", "3.6")])
def test_two_services_that_conflict_with_each_other_have_slices_of_their_own(service: str, version: str) -> None:
    pins = lock_of("uv-conflict", "uv.lock").slice(member_of("uv-conflict", f"services/{service}"), AMD)
    assert f"idna=={version}" in names(pins)
    assert "anyio" in {pin.name for pin in pins}


def test_a_service_that_needs_one_side_of_a_conflict_is_refused() -> None:
    member = Member("svc-a", "services/svc-a", (), LOCAL, {})
    text = (FIXTURES / "uv-conflict/uv.lock").read_text().replace('{ package = "svc-b" }', '{ package = "lib-core" }')
    with pytest.raises(BuildlibError, match="lib-core is needed here and is one side of a conflict declared in"):
        parse("uv.lock", text.encode()).slice(member, AMD)


def test_a_python_that_the_lock_does_not_cover_is_an_error() -> None:
    with pytest.raises(BuildlibError, match=r"locked for Python >=3.11, the image runs 3.10; change"):
        uv_lock(uv_svc()).slice(a_member(), Target("3.10", "linux/amd64"))
    with pytest.raises(BuildlibError, match=r"locked for Python \^3.11, the image runs 3.10; change"):
        poetry_lock(pythons="^3.11").slice(a_member(), Target("3.10", "linux/amd64"))
    assert poetry_lock(pythons=">=3.12.3").slice(a_member(), AMD) == ()


# --- staleness -------------------------------------------------------------------------------------------------------


def test_a_fresh_lock_passes_for_every_project_that_it_knows() -> None:
    for world, path, service, requires in EVERY:
        lock = lock_of(world, path)
        lock.check(member_of(world, service, requires))
        for lib in (FIXTURES / world / "libs").iterdir():
            if world != "uv-workspace" or lib.name in LOCAL:
                own = {"poetry-classic": CLASSIC, "poetry-1": POETRY_1}.get(world, {}).get(lib.name)
                lock.check(member_of(world, f"libs/{lib.name}", own))


UV_EDITS = [
    ("six>=1.16,<2", "six>=1.17,<2", "six<2,>=1.17 is not in it"),
    ("python_version < '3.13'", "python_version < '3.12'", "another marker"),
    ('"lib-core[http]"', '"lib-core"', "lib-core is not in it"),
    ('"lib_log",', '"lib_log", "attrs",', "attrs is not in it"),
    ("tabulate>=0.9", "tabulate>=0.8", "tabulate>=0.8 is not in it"),
    ("pluggy>=1.5", "pluggy>=1.4", "group dev: pluggy>=1.4 is not in it"),
]


@pytest.mark.parametrize(("old", "new", "says"), UV_EDITS)
def test_a_stale_uv_lock_is_an_error_with_the_exact_command(old: str, new: str, says: str, tmp_path: Path) -> None:
    tree = in_a_tree("uv-workspace", tmp_path)
    pyproject = tree / "services/svc-a/pyproject.toml"
    text = pyproject.read_text().replace(old, new)
    assert text != pyproject.read_text()
    with pytest.raises(BuildlibError) as caught:
        lock_of("uv-workspace", "uv.lock").check(member_of("uv-workspace", "services/svc-a", text=text))
    assert str(caught.value).startswith("uv.lock: it is older than services/svc-a/pyproject.toml: ")
    assert says in caught.value.cause
    assert caught.value.cure == "run `uv lock`"


SPELLING = ("six>=1.16,<2; python_version < '3.13'", 'Six <2.0, >= 1.16.0 ;python_full_version<\\"3.13\\"')


def test_spelling_alone_makes_no_lock_stale() -> None:
    text = (FIXTURES / "uv-workspace/services/svc-a/pyproject.toml").read_text()
    assert text.replace(*SPELLING) != text
    member = member_of("uv-workspace", "services/svc-a", text=text.replace(*SPELLING))
    lock_of("uv-workspace", "uv.lock").check(member)


@pytest.mark.parametrize(("old", "new", "stale"), [*((old, new, True) for old, new, _ in UV_EDITS), (*SPELLING, False)])
def test_uv_lock_check_agrees_on_staleness(old: str, new: str, stale: bool, tmp_path: Path) -> None:
    from uv import find_uv_bin

    tree = in_a_tree("uv-workspace", tmp_path)
    pyproject = tree / "services/svc-a/pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace(old, new))
    argv = [find_uv_bin(), "--offline", "--no-config", "lock", "--check"]
    run = subprocess.run(argv, cwd=tree, capture_output=True, text=True)
    assert (run.returncode != 0) is stale, run.stderr


def test_a_member_with_another_version_than_the_locks_is_stale_as_uv_says_too(tmp_path: Path) -> None:
    from uv import find_uv_bin

    tree = in_a_tree("uv-workspace", tmp_path)
    for path in ("services/svc-a", "libs/lib-core"):
        pyproject = tree / path / "pyproject.toml"
        old = pyproject.read_text()
        text = old.replace('version = "0.1.0"', 'version = "0.2.0"')
        name = path.rpartition("/")[2]
        with pytest.raises(BuildlibError) as caught:
            lock_of("uv-workspace", "uv.lock").check(member_of("uv-workspace", path, text=text))
        assert str(caught.value) == f"uv.lock: it has {name} 0.1.0, whose version is 0.2.0; run `uv lock`"
        pyproject.write_text(text)
        argv = [find_uv_bin(), "--offline", "--no-config", "lock", "--check"]
        assert subprocess.run(argv, cwd=tree, capture_output=True).returncode == 1
        dynamic = text.replace('version = "0.2.0"', 'dynamic = ["version"]')
        lock_of("uv-workspace", "uv.lock").check(member_of("uv-workspace", path, text=dynamic))
        pyproject.write_text(old)


def test_a_path_package_of_poetry_with_another_version_is_stale() -> None:
    world, path, _, _ = POETRY_PROJECT
    text = (FIXTURES / world / "libs/lib-http/pyproject.toml").read_text().replace('= "0.1.0"', '= "0.2.0"')
    with pytest.raises(
        BuildlibError, match=r"it has lib-http 0.1.0, whose version is 0.2.0; run `cd services/svc-a &&"
    ):
        lock_of(world, path).check(member_of(world, "libs/lib-http", text=text))


def test_a_lock_says_what_its_local_projects_declare() -> None:
    lock = lock_of("uv-workspace", "uv.lock")
    assert lock.requires("lib-core") == (
        "httpx[http2]>=0.27; extra == 'http'",
        "sniffio>=1.3",
        "tzdata>=2024.1; sys_platform == 'win32'",
    )
    assert "tabulate>=0.9; extra == 'cli'" in (lock.requires("svc-a") or ())
    assert lock.requires("six") is None and lock.requires("nobody") is None
    poetry = lock_of("poetry-project", POETRY_PROJECT[1])
    declared = tomli.loads((FIXTURES / "poetry-project/libs/lib-core/pyproject.toml").read_text())["project"]
    said = {Requirement(text).name for text in poetry.requires("lib-core") or ()}
    assert said == {Requirement(text).name for text in declared["dependencies"]}
    assert poetry.requires("svc-a") is None


def test_a_url_that_a_member_requires_is_kept_and_a_member_without_metadata_says_nothing() -> None:
    url = '{ name = "x", url = "https://x/x.whl", marker = "extra == \'y\'" }'
    dist = f'requires-dist = [{url}, {{ name = "g", git = "https://g" }}]'
    lock = uv_lock(uv_svc('"x"', more=f"[package.metadata]\n{dist}"), uv_package("x"))
    assert lock.requires("svc") == ("x @ https://x/x.whl ; extra == 'y'", "g @ git+https://g")
    assert uv_lock(uv_svc('"x"')).requires("svc") is None and uv_lock(uv_svc()).requires("svc") == ()


def test_what_pyproject_leaves_to_the_backend_is_not_compared() -> None:
    world, path, service, _ = UV_WORKSPACE[0]
    text = (FIXTURES / world / service / "pyproject.toml").read_text()
    pyproject = tomli.loads(text)
    del pyproject["project"]["dependencies"]
    pyproject["project"]["dynamic"] = ["dependencies"]
    for requires in ((), ("other>=1",), lock_of(world, path).requires("svc-a") or ()):
        lock_of(world, path).check(Member("svc-a", service, requires, LOCAL, pyproject))


def test_poetrys_alternatives_are_no_false_error_against_uv_lock() -> None:
    dist = '[package.metadata]\nrequires-dist = [{ name = "x", specifier = ">=1,!=2.*,<4" }]'
    svc = uv_svc('"x"', more=dist)
    pyproject = '[tool.poetry]\nname = "svc"\nversion = "1"\n[tool.poetry.dependencies]\nx = "^1 || ^3"\n'
    uv_lock(svc, uv_package("x")).check(a_member("x", pyproject=pyproject))
    with pytest.raises(BuildlibError, match="x is not in it"):
        uv_lock(svc, uv_package("x")).check(a_member("x", pyproject=pyproject.replace("^1 || ^3", "*")))


def test_the_requires_python_of_a_single_project_is_compared() -> None:
    text = (FIXTURES / "uv-paths/services/svc-a/pyproject.toml").read_text().replace(",<3.14", ",<3.15")
    with pytest.raises(BuildlibError, match=r"locked for Python >=3.11, <3.14; run `cd services/svc-a && uv lock`"):
        lock_of("uv-paths", "services/svc-a/uv.lock").check(member_of("uv-paths", "services/svc-a", text=text))


@pytest.mark.parametrize(
    ("case", "lib"), [(UV_PATHS, "libs/lib-core"), (POETRY_PROJECT, "libs/lib-core"), (POETRY_PROJECT, "libs/lib-http")]
)
def test_a_library_that_gained_a_requirement_makes_the_services_lock_stale(case: Case, lib: str) -> None:
    world, path, _, _ = case
    member = member_of(world, lib)
    grown = Member(member.name, member.path, (*member.requires, "attrs>=20"), LOCAL, {})
    tool = path.rpartition("/")[2].removesuffix(".lock")
    with pytest.raises(BuildlibError, match=f"attrs>=20 is not in it; run `cd services/svc-a && {tool} lock`"):
        lock_of(world, path).check(grown)
    shrunk = Member(member.name, member.path, member.requires[1:], LOCAL, {})
    with pytest.raises(BuildlibError, match="it still has"):
        lock_of(world, path).check(shrunk)


def test_a_stale_poetry_lock_is_an_error_with_the_exact_command() -> None:
    for world, path, service, requires in [*POETRY, POETRY_FORK]:
        text = edited((FIXTURES / world / service / "pyproject.toml").read_text(), "requirement")
        with pytest.raises(BuildlibError) as caught:
            lock_of(world, path).check(member_of(world, service, requires, text))
        assert caught.value.cure == f"run `cd {service} && poetry lock`"


def test_a_lock_of_poetry_before_2_3_ignores_dependency_groups() -> None:
    import json
    from hashlib import sha256

    pyproject = '[project]\nname = "svc"\ndependencies = ["x"]\n[dependency-groups]\ndev = ["y"]\n'
    older = json.dumps({"project": {"dependencies": ["x"]}, "tool": {"poetry": {}}}, sort_keys=True)
    digest = sha256(older.encode()).hexdigest()
    data = f'[metadata]\nlock-version = "2.1"\npython-versions = "*"\ncontent-hash = "{digest}"\n'
    parse("svc/poetry.lock", data.encode()).check(a_member("x", pyproject=pyproject))


def test_a_lock_says_whom_it_knows() -> None:
    stranger = Member("svc-z", "services/svc-z", (), LOCAL, {})
    for world, path, service, requires in EVERY:
        assert lock_of(world, path).knows(member_of(world, service, requires))
        assert not lock_of(world, path).knows(stranger)
    assert lock_of("poetry-project", POETRY_PROJECT[1]).knows(member_of("poetry-project", "libs/lib-core"))


def test_a_member_that_the_lock_does_not_know_is_an_error_with_the_command() -> None:
    stranger = Member("svc-z", "services/svc-z", (), LOCAL, {})
    with pytest.raises(
        BuildlibError, match="svc-z is not in it; make it a member of that uv workspace and run `uv lock`"
    ):
        lock_of("uv-workspace", "uv.lock").slice(stranger, AMD)
    with pytest.raises(
        BuildlibError, match="svc-z is not in it; give it a lock of its own: `cd services/svc-z && uv lock`"
    ):
        lock_of("uv-paths", "services/svc-a/uv.lock").check(stranger)


def test_a_project_without_a_lock_is_told_the_command_of_its_own_style() -> None:
    plain = Member("svc", "services/my svc", ("httpx", "lib"), frozenset({"lib"}), {})
    assert str(missing(plain)) == (
        "services/my svc/pyproject.toml: it needs httpx, and there is no lock; run `cd 'services/my svc' && uv lock`"
    )
    assert missing(a_member("x", pyproject="[tool.poetry]\n")).cure == "run `cd svc && poetry lock`"


# --- files, text, values ---------------------------------------------------------------------------------------------


def test_a_projects_own_lock_comes_before_those_above_it() -> None:
    assert lock_files("services/a") == (
        "services/a/uv.lock",
        "services/a/poetry.lock",
        "services/a/pylock.a.toml",
        "services/a/pylock.toml",
        "services/uv.lock",
        "services/poetry.lock",
        "services/pylock.toml",
        "uv.lock",
        "poetry.lock",
        "pylock.a.toml",
        "pylock.toml",
        "services/a/requirements.txt",
        "requirements.txt",
    )
    assert lock_files("") == lock_files(".") == ("uv.lock", "poetry.lock", "pylock.toml", "requirements.txt")


def test_the_requirements_file_is_sorted_and_hashed() -> None:
    pins = [Pin("b", "2", ("sha256:b", "sha256:a")), Pin("a", "1", ("sha256:c",))]
    text = "a==1 \\\n    --hash=sha256:c\nb==2 \\\n    --hash=sha256:a \\\n    --hash=sha256:b\n"
    assert requirements_text(pins) == requirements_text(reversed(pins)) == text
    assert requirements_text([]) == ""


def test_other_indexes_are_named_first() -> None:
    ours = Pin("a", "1", ("sha256:c",), "https://pypi.example/simple")
    assert requirements_text([ours]).startswith("--index-url https://pypi.example/simple\na==1")
    both = requirements_text(
        [ours, Pin("b", "1", ("sha256:c",)), Pin("c", "1", ("sha256:c",), "https://h/c.whl", True)]
    )
    assert both.startswith("--extra-index-url https://pypi.example/simple\na==1")
    assert both.endswith("c @ https://h/c.whl \\\n    --hash=sha256:c\n")


def test_a_file_of_the_workspace_is_named_by_its_path() -> None:
    text = requirements_text([Pin("x", "1", ("sha256:c",), "file:vendor/x.whl", direct=True)])
    assert text == "./vendor/x.whl \\\n    --hash=sha256:c\n"


@pytest.mark.slow
def test_pip_takes_the_requirements_in_hash_mode(tmp_path: Path) -> None:
    world, path, service, requires = UV_PATHS
    target = Target(".".join(map(str, sys.version_info[:3])), "linux/amd64")
    if sys.version_info >= (3, 14):
        pytest.skip("the fixture is locked for Python below 3.14")
    text = requirements_text(lock_of(world, path).slice(member_of(world, service, requires), target))
    (tmp_path / "requirements.txt").write_text(text)
    pip = [
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--require-hashes",
        "-d",
        str(tmp_path),
        "-r",
        str(tmp_path / "requirements.txt"),
    ]
    run = subprocess.run([sys.executable, "-m", *pip], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert len(list(tmp_path.glob("*.whl"))) == text.count("==")


def test_a_target_says_the_same_on_every_machine() -> None:
    environment = Target("3.12", "linux/arm64").environment()
    assert environment["python_full_version"] == "3.12.0"
    assert environment["python_version"] == "3.12"
    assert environment["platform_machine"] == "aarch64"
    assert Target("3.12.4", "linux/amd64").environment()["python_version"] == "3.12"


@pytest.mark.parametrize(
    ("python", "platform"), [("3", "linux/amd64"), ("three", "linux/amd64"), ("3.12", "windows/amd64")]
)
def test_a_target_that_is_none_is_an_error(python: str, platform: str) -> None:
    with pytest.raises(BuildlibError, match=r"\[tool.buildlib.image\]"):
        Target(python, platform)


@pytest.mark.parametrize(
    ("constraint", "inside", "outside"),
    [
        ("^1.2.3", "1.9", "2.0"),
        ("^0.2.3", "0.2.9", "0.3"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        ("^0", "0.9", "1.0"),
        ("~1.2.3", "1.2.9", "1.3"),
        ("~1", "1.9", "2.0"),
        ("~=1.2", "1.9", "2.0"),
        ("1.2.*", "1.2.7", "1.3"),
        ("1.2", "1.2.0", "1.2.1"),
        ("!=1.2.*,>=1", "1.3", "1.2.7"),
        (">=1,<2 || >=3", "3.1", "2.5"),
        (">= 1.0 <2.0", "1.5", "2.0"),
        ("*", "0.1", None),
    ],
)
def test_poetrys_constraints(constraint: str, inside: str, outside: str | None) -> None:
    assert allows(constraint, Version(inside))
    assert outside is None or not allows(constraint, Version(outside))


def test_markers_and_pythons_are_compared_by_meaning() -> None:
    assert same_marker("python_version < '3.12'", 'python_full_version < "3.12"')
    assert not same_marker("python_full_version < '3.12.4'", "python_full_version < '3.12.6'")
    assert not same_marker("platform_machine == 's390x'", "platform_machine == 'ppc64le'")
    assert not same_marker("extra == 'a'", "extra == 'b'")
    assert not same_marker("", "sys_platform == 'linux'")
    assert same_pythons(">=3.11,<4", ">=3.11, <4.0")
    assert not same_pythons(">=3.11", ">=3.11.4")


# --- faults ----------------------------------------------------------------------------------------------------------


FAULTS = [
    (b"\xff\xfe", "it is not UTF-8"),
    (b"[[package]\n", "it is no valid TOML"),
    (b"a = " + b"[" * 5000, "it is no valid TOML"),
    (b"version = 1\n<<<<<<< HEAD\n", "it holds the conflict markers of a merge"),
]


@pytest.mark.parametrize("name", ["uv.lock", "poetry.lock"])
@pytest.mark.parametrize(("data", "says"), FAULTS)
def test_what_is_no_lock_is_an_error_with_a_cure(name: str, data: bytes, says: str) -> None:
    with pytest.raises(BuildlibError, match=f"svc/{name}: {says}.* `cd svc && {name.removesuffix('.lock')} lock`"):
        parse(f"svc/{name}", data)


@pytest.mark.parametrize(
    ("path", "data", "says"),
    [
        ("uv.lock", b"version = 2\n", "its version is 2, this reads version 1"),
        ("uv.lock", b"", "it has no version"),
        (
            "poetry.lock",
            b'[metadata]\nlock-version = "3.0"\n',
            "its lock-version is '3.0', this reads 1.0, 1.1, 2.0 and 2.1",
        ),
        ("poetry.lock", b"", "metadata.lock-version is missing"),
        ("pdm.lock", b"", "no lock format has this file name"),
    ],
)
def test_an_unknown_version_or_format_is_an_error(path: str, data: bytes, says: str) -> None:
    with pytest.raises(BuildlibError, match=f"{path}: {says}; (run|use) "):
        parse(path, data)


def use(path: str, data: bytes, member: Member) -> str:
    """What comes out of all that can be done with a lock, or the error's line."""
    try:
        lock = parse(path, data)
        text = requirements_text(lock.slice(member, AMD))
        lock.check(member)
    except BuildlibError as error:
        assert "\n" not in str(error)
        return str(error)
    return text


@pytest.mark.parametrize(
    ("world", "path", "service", "requires"), [UV_WORKSPACE[0], UV_PATHS, POETRY_CLASSIC, POETRY_FORK]
)
def test_truncated_and_mutated_locks_raise_nothing_but_our_error(
    world: str, path: str, service: str, requires: tuple[str, ...] | None
) -> None:
    data, member, chance = (
        (FIXTURES / world / path).read_bytes(),
        member_of(world, service, requires),
        random.Random(path),
    )
    good = use(path, data, member)
    assert "--hash" in good
    for _ in range(60):
        cut = chance.randrange(len(data))
        use(path, data[:cut], member)
        use(path, data[:cut] + bytes([chance.randrange(256)]) + data[cut + 1 :], member)


@pytest.mark.parametrize(
    ("world", "path", "service", "requires"), [UV_WORKSPACE[0], UV_PATHS, POETRY_CLASSIC, POETRY_FORK]
)
def test_values_of_wrong_shapes_raise_nothing_but_our_error(
    world: str, path: str, service: str, requires: tuple[str, ...] | None
) -> None:
    text, member, chance = (
        (FIXTURES / world / path).read_text(),
        member_of(world, service, requires),
        random.Random(path),
    )
    values = list(re.finditer(r'"[^"\n]*"|\{[^{}\n]*\}|\[[^\[\]]*\]|(?m:^[a-z-]+)(?= = )', text))
    for match in chance.sample(values, 60):
        for other in ("1", "true", '""', '"?"', "[]", "{}", "[1]", '{ name = "six" }', '"extra =="', "1979-05-27"):
            use(path, (text[: match.start()] + other + text[match.end() :]).encode(), member)


@pytest.mark.parametrize(
    "pyproject",
    ["project = 1", "tool = 1", "dependency-groups = 1", "[project]\ndynamic = 1", "[tool]\nuv = 1\npoetry = 1"],
)
def test_a_pyproject_of_wrong_shapes_raises_nothing_but_our_error(pyproject: str) -> None:
    for world, path, service, requires in EVERY:
        member = member_of(world, service, requires)
        odd = Member(member.name, member.path, (*member.requires, "no requirement !"), LOCAL, tomli.loads(pyproject))
        with pytest.raises(BuildlibError):
            lock_of(world, path).check(odd)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            'version = "0.1.0"',
            "version = '1'\noptional-dependencies = { \"a'b\" = ['x'] }",
            'the extra "a\'b" has no valid name',
        ),
        ("python_full_version < '3.11.4'", "sys_platform >= 3", "is no PEP 508 requirement"),
        ('requires-python = ">=3.11,<3.14"', 'requires-python = ">=x"', "requires-python is '>=x'; write a specifier"),
    ],
)
def test_a_fault_of_the_pyproject_is_said_of_the_pyproject(old: str, new: str, says: str) -> None:
    world, path, service, _ = UV_PATHS
    text = (FIXTURES / world / service / "pyproject.toml").read_text()
    assert old in text
    with pytest.raises(BuildlibError, match=r"^services/svc-a/pyproject\.toml: ") as caught:
        lock_of(world, path).check(member_of(world, service, text=text.replace(old, new)))
    assert says in str(caught.value)


# --- speed -----------------------------------------------------------------------------------------------------------


def test_many_members_of_one_large_lock_are_sliced_in_milliseconds_each() -> None:
    edges = [
        [f'"p{(7 * i + j) % 500}", marker = "python_full_version < \'3.{13 + j}\'"' for j in range(3)]
        for i in range(500)
    ]
    packages = [
        uv_package(f"p{i}") + f"\ndependencies = [{', '.join(f'{{ name = {e} }}' for e in edges[i])}]"
        for i in range(500)
    ]
    services = [uv_svc(f'"p{i}"').replace('"svc"', f'"svc-{i}"') for i in range(50)]
    lock = uv_lock(*packages, *services)
    members = [Member(f"svc-{i}", "svc", (), frozenset(), {}) for i in range(50)]
    lock.slice(members[0], AMD)
    start = time.process_time()
    slices = [lock.slice(member, AMD) for member in members]
    assert (time.process_time() - start) / 50 < 0.02  # measured: a few ms
    assert max(map(len, slices)) > 400


def test_a_run_that_reads_no_lock_imports_neither_packaging_nor_tomli() -> None:
    code = "import sys, buildlib.workspace.locks; print(*{'packaging', 'tomli', 'subprocess'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
