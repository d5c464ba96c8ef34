"""Seventy hatchling packages in a dozen folders: one namespace, versions in files, `==` pins of siblings."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from adopt import (
    WORKSPACES,
    Adopted,
    Repository,
    adopt,
    built_by_build,
    checked,
    exported_by_uv,
    install,
    pinned,
    plain,
    requires,
    run,
)
from world import World

pytestmark = pytest.mark.slow

VERSION = "0.66b0.dev"  # as a file says it; its normal form is 0.66b0.dev0

FOLDERS = {
    "instrumentation": 32,
    "instrumentation-genai": 5,
    "exporter": 6,
    "propagator": 4,
    "processor": 2,
    "resource": 5,
    "sdk-extension": 3,
    "util": 4,
    "detector": 3,
    "opamp": 2,
    "bridge": 2,
}
"""How many packages are in which folder; two more lie at the top, and an application in `services`."""

ALONE = ("acme-core", "acme-distro")

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
dynamic = ["version"]
description = "{name}"
readme = "README.rst"
license = "Apache-2.0"
requires-python = ">=3.10"
dependencies = {dependencies}

[project.optional-dependencies]
instruments = {instruments}

[project.entry-points.acme_plugins]
{module} = "{dotted}:Plugin"

[tool.hatch.version]
path = "{version}"

[tool.hatch.build.targets.sdist]
include = ["/src", "/tests"]

[tool.hatch.build.targets.wheel]
packages = ["src/acme"]
"""

ROOT = """\
[project]
name = "acme-contrib"
version = "0.0.0"
requires-python = ">=3.10"
dependencies = {dependencies}

[tool.uv]
package = false
required-version = ">=0.6.0"

[tool.uv.sources]
{sources}

[tool.uv.workspace]
members = {members}
exclude = ["instrumentation-genai/acme-left-out"]
"""


def package(world: World, folder: str, name: str, needs: list[str], extra: list[str]) -> None:
    """Write a package of the namespace `acme`."""
    short = name.removeprefix("acme-").replace("-", "_")
    where = f"{folder}/{name}" if folder else name
    source = f"src/acme/{short}"
    text = PYPROJECT.format(
        name=name,
        dependencies=json.dumps(needs, indent=2),
        instruments=json.dumps(extra),
        module=short,
        dotted=f"acme.{short}",
        version=f"{source}/version.py",
    )
    world.write(f"{where}/pyproject.toml", text)
    world.write(f"{where}/README.rst", f"{name}\n{'=' * len(name)}\n")
    world.write(f"{where}/{source}/__init__.py", f"class Plugin:\n    name = {name!r}\n")
    world.write(f"{where}/{source}/version.py", f'__version__ = "{VERSION}"\n')
    world.write(f"{where}/{source}/package.py", f"_instruments = {tuple(extra)!r}\n")
    world.write(f"{where}/tests/test_{short}.py", "")


def names(folder: str, count: int) -> list[str]:
    return [f"acme-{folder}-{number:02}" for number in range(count)]


def write_seventy(world: World) -> dict[str, str]:
    """Write the repository; return the directory of each package."""
    pin = f" == {VERSION}"
    package(world, "", "acme-core", ["typing-extensions >= 4.10"], [])
    package(world, "", "acme-distro", [f"acme-core{pin}", f"acme-instrumentation-31[instruments]{pin}"], [])
    paths = {name: name for name in ALONE}
    for folder, count in FOLDERS.items():
        for number, name in enumerate(names(folder, count)):
            before = [f"{names(folder, count)[number - 1]}{pin}"] if number else []
            util = [f"acme-util-00{pin}"] if folder != "util" else []
            extra = ["idna ~= 3.0", f"acme-exporter-{number % 6:02}{pin}"] if folder == "instrumentation" else []
            package(world, folder, name, [f"acme-core{pin}", *util, *before], extra)
            paths[name] = f"{folder}/{name}"
    world.write("_template/pyproject.toml", PYPROJECT.format(
        name="<REPLACE ME>", dependencies="[]", instruments="[]", module="REPLACE_ME", dotted="acme.<REPLACE>",
        version="src/acme/<REPLACE ME>/version.py",
    ))  # fmt: skip
    world.write("_template/src/acme/REPLACE_ME/__init__.py", "")
    world.write(
        "instrumentation-genai/acme-left-out/pyproject.toml", "[project]\nname = 'acme-left-out'\nversion = '1'\n"
    )
    world.write("services/gateway/pyproject.toml", (
        '[project]\nname = "gateway"\nversion = "1.0"\nrequires-python = ">=3.10"\n'
        f'dependencies = ["acme-distro{pin}", "acme-instrumentation-03[instruments]{pin}"]\n'
    ))  # fmt: skip
    world.write("services/gateway/main.py", (
        "from importlib.metadata import entry_points\n\nprint(len(entry_points(group='acme_plugins')))\n"
    ))  # fmt: skip
    members = [*(f"{folder}/*" for folder in FOLDERS), *ALONE, "services/*"]
    local = sorted([*paths, "gateway"])
    text = ROOT.format(
        dependencies=json.dumps(["acme-distro"]),
        sources="\n".join(f"{name} = {{ workspace = true }}" for name in local),
        members=json.dumps(members),
    )
    world.write("pyproject.toml", text)
    world.write("README.md", "# acme\n")
    world.write(".gitignore", "*.py[cod]\n__pycache__/\ndist/\n.venv*/\n")
    return paths


@pytest.fixture(scope="module")
def paths() -> dict[str, str]:
    """Return the directory of each package; filled by `adopted`."""
    return {}


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory, cache: Path, paths: dict[str, str]) -> Adopted:
    repository = Repository(tmp_path_factory.mktemp("seventy") / "w", cache)
    paths.update(write_seventy(repository))
    # `uv lock` of it asks seventy backends, which takes half a minute: made once.
    repository.write("uv.lock", (WORKSPACES / "seventy/uv.lock").read_bytes())
    repository.commit()
    return adopt(repository)


@pytest.fixture(scope="module")
def clone(adopted: Adopted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adopted.repository.clone(tmp_path_factory.mktemp("seventy-clone") / "c")


def closure(paths: dict[str, str], repository: World, name: str, *extras: str) -> set[str]:
    """Return the siblings that a package names, with those of some extras, and so on: a walk of its own."""
    raw = tomllib.loads(repository.read(f"{paths.get(name, 'services/gateway')}/pyproject.toml"))["project"]
    wishes = [*raw["dependencies"], *(w for extra in extras for w in raw["optional-dependencies"][extra])]
    found = set()
    for wish in wishes:
        match = re.match(r"([\w.-]+)(?:\[(\w+)\])?", wish)
        assert match
        if match[1] in paths:
            found |= {match[1], *closure(paths, repository, match[1], *filter(None, [match[2]]))}
    return found


def test_all_of_them_are_built_and_the_tree_stays_clean(adopted: Adopted, paths: dict[str, str]) -> None:
    assert len(paths) == 70
    assert adopted.init.code == 0, adopted.init.out + adopted.init.err
    assert adopted.first.code == 0, adopted.first.out + adopted.first.err
    assert adopted.projects("wheel") == set(paths)
    assert adopted.first.counts == {"built": 72}
    assert adopted.status == ""
    assert adopted.second.ran == [] and adopted.second.counts["built"] == 0
    assert adopted.again.code == 0 and adopted.after == adopted.before


def test_the_template_is_no_project(adopted: Adopted) -> None:
    assert not adopted.repository.path("_template/dist").exists()
    assert "REPLACE" not in adopted.first.out + adopted.first.err + adopted.planned.out


def test_what_uv_leaves_out_is_left_out(adopted: Adopted) -> None:
    assert "acme-left-out" not in adopted.projects("wheel")
    assert not adopted.repository.path("instrumentation-genai/acme-left-out/dist").exists()


def test_the_stage_has_the_closure_with_the_siblings_that_extras_name(adopted: Adopted, paths: dict[str, str]) -> None:
    needed = closure(paths, adopted.repository, "gateway")
    assert {"acme-exporter-01", "acme-exporter-03", "acme-instrumentation-00"} <= needed and len(needed) < 60
    own = {"app/main.py", "app/pyproject.toml", "requirements.txt"}
    assert adopted.repository.staged("services/gateway") == own | {f"deps/{name}.whl" for name in needed}


def test_pins_of_siblings_stay_as_they_are_written(adopted: Adopted) -> None:
    wheel = adopted.repository.wheel("acme-distro")
    assert wheel["name"][0] == b"acme_distro-0.66b0.dev0-py3-none-any.whl"
    assert requires(wheel) == [f"acme-core=={VERSION}", f"acme-instrumentation-31[instruments]=={VERSION}"]


@pytest.mark.parametrize(
    "name", ["acme-core", "acme-distro", "acme-instrumentation-31", "acme-exporter-05", "acme-util-01", "acme-opamp-01"]
)
def test_a_wheel_has_the_content_that_build_makes_of_a_fresh_clone(
    adopted: Adopted, paths: dict[str, str], clone: Path, name: str, tmp_path: Path, cache: Path
) -> None:
    theirs, ours = plain(built_by_build(clone, paths[name], tmp_path, cache)), adopted.repository.wheel(name)
    assert sorted(ours) == sorted(theirs)
    for file, found in theirs.items():
        assert ours[file] == found, file


def test_requirements_are_what_uv_exports(adopted: Adopted, clone: Path) -> None:
    ours = pinned(adopted.repository.read("services/gateway/dist/requirements.txt"))
    assert set(ours) == {"typing-extensions", "idna"} and ours == exported_by_uv(clone, ".", "gateway")


def test_the_installed_stage_is_one_namespace_that_works(
    adopted: Adopted, paths: dict[str, str], tmp_path: Path
) -> None:
    stage = adopted.repository.path("services/gateway/dist")
    python = install(stage, tmp_path / "venv")
    assert "No broken requirements found." in checked(python)
    plugins = len(closure(paths, adopted.repository, "gateway"))
    assert run(python, "app/main.py", cwd=stage).strip() == str(plugins)


def test_one_changed_package_rebuilds_its_wheel_and_the_stage_that_has_it(adopted: Adopted) -> None:
    world = adopted.repository
    world.write("util/acme-util-00/src/acme/util_00/more.py", "x = 1\n")
    assert world.good().ran == ["stage:gateway", "wheel:acme-util-00"]
    world.path("util/acme-util-00/src/acme/util_00/more.py").unlink()
    assert world.good().ran == ["stage:gateway", "wheel:acme-util-00"]
