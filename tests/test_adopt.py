"""Repositories of each kind, as their teams have them: `doit init`, commit, `doit`. No hand edit between."""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from adopt import (
    WORKSPACES,
    Adopted,
    Repository,
    adopt,
    built_by_build,
    checked,
    code,
    exported_by_uv,
    install,
    pinned,
    plain,
    requires,
    resolved_by_pip,
    run,
)
from uv import find_uv_bin

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Expected:
    """What is in a fixture workspace.

    Attributes:
        paths: the directory of each project; services: of each service its local closure.
        apps: services that are no packages, with what of their sources is staged.
        dockerfiles: services with a Dockerfile. exported: of each service the folder of its uv.lock.
        starts: what a service prints, and how it is started in the environment that its stage was installed in.
        warns: what the first build warns of.
    """

    paths: Mapping[str, str]
    services: Mapping[str, set[str]]
    apps: Mapping[str, set[str]] = field(default_factory=dict)
    dockerfiles: frozenset[str] = frozenset()
    exported: Mapping[str, str] = field(default_factory=dict)
    starts: Mapping[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    warns: tuple[str, ...] = ()
    tag: str = ""

    @property
    def built(self) -> dict[str, str]:
        """Return the directory of each project that has a wheel."""
        return {name: path for name, path in self.paths.items() if name not in self.apps}


def below(**folders: str) -> dict[str, str]:
    """Return the directories of projects that are called as their folders are."""
    return {name: f"{folder}/{name}" for folder, names in folders.items() for name in names.split()}


def empty_version(path: str, *names: str) -> tuple[str, ...]:
    where = f"{path}/pyproject.toml: tool.poetry.dependencies"
    says = 'has an empty version, which poetry-core refuses: built as "*"; write'
    return tuple(f'{where}.{name} {says} {name} = "*"' for name in names)


EXPECTED = {
    "poetry1": Expected(
        below(libs="liblog libqueue libmail", stack="parcel-intake parcel-notifier parcel-report"),
        {
            "parcel-intake": {"liblog", "libqueue"},
            "parcel-notifier": {"liblog", "libmail"},
            "parcel-report": {"liblog", "libqueue"},
        },
        dockerfiles=frozenset({"parcel-intake", "parcel-notifier", "parcel-report"}),
        starts={
            "parcel-intake": (("-m", "parcel_intake.main", "7"), ""),
            "parcel-notifier": (("-m", "parcel_notifier.main"), "Dear you, your parcel 1 has arrived."),
            "parcel-report": (("-m", "parcel_report.main"), "04.05.2021 arrived"),
        },
        warns=(
            *empty_version("libs/libqueue", "liblog"),
            *empty_version("stack/parcel-intake", "liblog", "libqueue"),
            *empty_version("stack/parcel-notifier", "libmail"),
            *empty_version("stack/parcel-report", "libqueue"),
        ),
    ),
    "uvroot": Expected(
        {
            "almanac": "",
            "almanac-cli": "clients/cli",
            "almanac-server": "server",
            "almanac-sky": "almanac_sky",
            "almanac-slim": "almanac_slim",
        },
        {"almanac-server": {"almanac", "almanac-cli", "almanac-sky", "almanac-slim"}},
        dockerfiles=frozenset({"almanac-server"}),
        exported={"almanac-server": "."},
        starts={"almanac-server": (("-m", "almanac_server"), "full Sirius, Canopus")},
        tag="v1.4.0",
    ),
    "native": Expected(
        below(libs="fastsum textkit oldstyle", services="scorer"),
        {"scorer": {"fastsum", "textkit", "oldstyle"}},
        starts={"scorer": (("-c", "import scorer; scorer.main()"), "xn--gre-6ka8i 4")},
    ),
    "uvapps": Expected(
        below(apps="api worker lonely", packages="greet shapes"),
        {"api": {"greet"}, "worker": {"greet", "shapes"}, "lonely": {"greet"}},
        apps={
            "api": {"app/main.py", "app/settings.py", "app/pyproject.toml", "app/README.md"},
            "worker": {"app/main.py", "app/jobs/nightly.py", "app/pyproject.toml"},
            "lonely": {"app/main.py", "app/pyproject.toml"},
        },
        dockerfiles=frozenset({"api"}),
        exported={"api": ".", "worker": ".", "lonely": "apps/lonely"},
        starts={
            "api": (("app/main.py",), "hello api h11 0.16.0"),
            "worker": (("app/main.py",), "hello worker 6"),
            "lonely": (("app/main.py",), "hello lonely 26.1.0"),
        },
    ),
    "mixed": Expected(
        below(
            libs="base poetry-path pep621-path poetry-group flit-tested uv-source hatch-uri pdm-root file-url"
            " plain-name from-file in-tree",
            services="with-uv with-poetry with-pylock with-hashes",
        ),
        {
            "with-uv": {"uv-source", "plain-name", "base"},
            "with-poetry": {"poetry-path", "pep621-path", "flit-tested", "base"},
            "with-pylock": {"pdm-root", "hatch-uri", "in-tree", "base"},
            "with-hashes": {"file-url", "pep621-path", "from-file", "poetry-group", "base"},
        },
        exported={"with-uv": "services/with-uv"},
        starts={
            "with-uv": (("-c", "import with_uv"), "18"),
            "with-poetry": (("-c", "import with_poetry"), "18"),
            "with-pylock": (("-c", "import with_pylock"), "18 stamped"),
            "with-hashes": (("-c", "import with_hashes"), "18"),
        },
    ),
}

Get = Callable[[str], Adopted]

SERVICES = [(name, service) for name, expected in EXPECTED.items() for service in expected.services]
WHEELS = [(name, project) for name, expected in EXPECTED.items() for project in expected.built]


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Get:
    """Return a maker of adopted fixture workspaces; each is made once."""
    made: dict[str, Adopted] = {}

    def get(name: str) -> Adopted:
        if name not in made:
            root = tmp_path_factory.mktemp(name) / "w"
            made[name] = adopt(Repository(root, cache, WORKSPACES / name, EXPECTED[name].tag))
        return made[name]

    return get


@pytest.fixture(scope="module")
def clone(adopted: Get, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a maker of fresh clones of adopted workspaces; each is made once."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = adopted(name).repository.clone(tmp_path_factory.mktemp(f"{name}-clone") / "c")
        return made[name]

    return get


# -- init and doit


@pytest.mark.parametrize("name", EXPECTED)
def test_init_and_doit_build_everything_and_leave_the_tree_clean(adopted: Get, name: str) -> None:
    it, expected = adopted(name), EXPECTED[name]
    assert it.init.code == 0, it.init.out + it.init.err
    assert it.first.code == 0, it.first.out + it.first.err
    built = {f"wheel:{project}" for project in expected.built}
    built |= {f"{verb}:{service}" for verb in ("requirements", "stage") for service in expected.services}
    assert {task for task, word, _ in it.first.steps if word == "built"} == built
    skipped = [(task, reason) for task, word, reason in it.first.steps if word == "skipped"]
    assert {task for task, _ in skipped} == {f"image:{service}" for service in expected.dockerfiles}
    assert all("docker.sock" in reason for _, reason in skipped)
    assert it.status == ""
    assert sorted(filter(None, it.first.err.splitlines())) == sorted(expected.warns)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_second_doit_builds_nothing_and_says_so_in_one_line(adopted: Get, name: str) -> None:
    second = adopted(name).second
    assert second.code == 0 and second.ran == [] and second.counts["built"] == 0
    assert second.out.count("\n") == 1 and second.err == ""


@pytest.mark.parametrize("name", EXPECTED)
def test_a_second_init_writes_nothing(adopted: Get, name: str) -> None:
    it = adopted(name)
    assert it.again.code == 0, it.again.out + it.again.err
    assert it.after == it.before
    assert it.repository.git("status", "--porcelain") == ""


@pytest.mark.parametrize("name", EXPECTED)
def test_init_adds_lines_and_takes_none_away(adopted: Get, name: str) -> None:
    changes = adopted(name).repository.git("diff", "--numstat", "HEAD~1", "HEAD").splitlines()
    added = {path: int(removed) for _, removed, path in (line.split("\t") for line in changes)}
    assert added == dict.fromkeys((".gitignore", "buildlib.lock", "dodo.py", "pyproject.toml"), 0)


@pytest.mark.parametrize("name", EXPECTED)
def test_init_says_what_it_found(adopted: Get, name: str) -> None:
    said = adopted(name).init.out
    for project in EXPECTED[name].paths:
        assert re.search(rf"(?<![\w-]){re.escape(project)}(?![\w-])", said), f"{project} is not in: {said}"


# -- what is there


@pytest.mark.parametrize("name", EXPECTED)
def test_projects_and_their_kinds_are_exactly_these(adopted: Get, name: str) -> None:
    it, expected = adopted(name), EXPECTED[name]
    assert it.projects("wheel") == set(expected.built)
    assert it.projects("stage") == it.projects("requirements") == set(expected.services)
    assert it.projects("image") <= expected.dockerfiles


@pytest.mark.parametrize(("name", "service"), SERVICES)
def test_a_stage_holds_exactly_its_local_closure(adopted: Get, name: str, service: str) -> None:
    expected = EXPECTED[name]
    deps = {f"deps/{project}.whl" for project in expected.services[service]}
    own = expected.apps.get(service, {f"{service}.whl"})
    assert adopted(name).repository.staged(expected.paths[service]) == {*own, *deps, "requirements.txt"}


@pytest.mark.parametrize("name", EXPECTED)
def test_dist_of_a_library_holds_its_wheel_and_nothing_else(adopted: Get, name: str) -> None:
    expected = EXPECTED[name]
    for project, path in expected.built.items():
        if project not in expected.services:
            assert adopted(name).repository.staged(path or ".") == {f"{project}.whl"}


# -- compared with other tools


@pytest.mark.parametrize(("name", "project"), WHEELS)
def test_a_wheel_has_the_content_that_build_makes_of_a_fresh_clone(
    adopted: Get, clone: Callable[[str], Path], name: str, project: str, tmp_path: Path, cache: Path
) -> None:
    path, source = EXPECTED[name].paths[project], clone(name)
    run("git", "checkout", "-q", ".", cwd=source)
    if name == "poetry1":  # whose own `""` no poetry-core of today builds
        file = source / path / "pyproject.toml"
        file.write_text(re.sub(r'(?m)^(lib\w+ = )""$', r'\1"*"', file.read_text()))
    theirs = plain(built_by_build(source, path, tmp_path, cache))
    ours = adopted(name).repository.wheel(project)
    assert sorted(ours) == sorted(theirs)
    for file_name, found in theirs.items():
        if file_name.endswith(".so"):
            assert code(ours[file_name][0], tmp_path / "ours") == code(found[0], tmp_path / "theirs"), file_name
        else:
            assert ours[file_name] == found, file_name


LOCAL = {
    "poetry-path": ["attrs>=23", "base[nice]"],
    "pep621-path": ["base>=1"],
    "poetry-group": ["base"],
    "flit-tested": ["idna>=3"],
    "uv-source": ["base"],
    "hatch-uri": ["base", "click>=8"],
    "pdm-root": ["base"],
    "file-url": ["base", "pep621-path"],
    "plain-name": ["base==1.0.2"],
    "from-file": ["base", "idna>=3"],
    "in-tree": ["base"],
}


@pytest.mark.parametrize("project", LOCAL)
def test_every_way_of_naming_a_sibling_ends_as_its_plain_name(adopted: Get, project: str) -> None:
    said = [re.sub(r"[ ()]", "", wish) for wish in requires(adopted("mixed").repository.wheel(project))]
    assert said == LOCAL[project]


def test_siblings_of_one_repository_whose_versions_are_gits_want_each_other(
    adopted: Get,
) -> None:
    it = adopted("uvroot").repository
    version = re.compile(r"1\.4\.1\.dev1\+[0-9a-f]{7,}")  # one commit after the tag: the one of `doit init`
    wishes = {name: requires(it.wheel(name)) for name in EXPECTED["uvroot"].built}
    said = {version.sub("V", wish) for wanted in wishes.values() for wish in wanted if "almanac" in wish}
    named = ("almanac-slim[http]", "almanac-cli", "almanac-slim", "almanac-slim[table]", "almanac[sky]")
    assert said == {f"{name}==V" for name in named}


@pytest.mark.parametrize(
    ("name", "service"), [(name, service) for name, expected in EXPECTED.items() for service in expected.exported]
)
def test_requirements_are_what_uv_exports(adopted: Get, clone: Callable[[str], Path], name: str, service: str) -> None:
    expected = EXPECTED[name]
    exported = exported_by_uv(clone(name), expected.exported[service], service)
    assert exported and pinned(_requirements(adopted(name), expected.paths[service])) == exported


@pytest.mark.parametrize("file", sorted(WORKSPACES.glob("expected/*/*.txt")), ids=lambda file: file.stem)
def test_requirements_are_what_poetry_exported(adopted: Get, file: Path) -> None:
    name, service = file.parent.name, file.stem
    ours = pinned(_requirements(adopted(name), EXPECTED[name].paths[service]))
    assert ours and ours == pinned(file.read_text())


@pytest.mark.parametrize(("name", "service"), [("native", "scorer"), ("mixed", "with-hashes")])
def test_requirements_of_a_hashed_file_are_what_pip_installs_of_it(adopted: Get, name: str, service: str) -> None:
    path = adopted(name).repository.path(EXPECTED[name].paths[service])
    theirs, ours = resolved_by_pip(path / "requirements.txt"), resolved_by_pip(path / "dist/requirements.txt")
    assert ours and ours == theirs


def test_requirements_of_a_pylock_are_what_uv_installs_of_it(adopted: Get, tmp_path: Path) -> None:
    service, python = adopted("mixed").repository.path("services/with-pylock"), tmp_path / "v/bin/python"
    run(find_uv_bin(), "venv", "-q", "--python", sys.executable, tmp_path / "v", cwd=tmp_path)
    run(find_uv_bin(), "pip", "install", "-q", "--python", python, "-r", service / "pylock.toml", cwd=tmp_path)
    theirs = run(find_uv_bin(), "pip", "freeze", "--python", python, cwd=tmp_path).split()
    ours = pinned((service / "dist/requirements.txt").read_text())
    assert ours and sorted(f"{pin}{version}" for pin, (version, _) in ours.items()) == sorted(theirs)


def _requirements(it: Adopted, path: str) -> str:
    return it.repository.read(f"{path}/dist/requirements.txt")


# -- what is staged works


@pytest.mark.parametrize(("name", "service"), SERVICES)
def test_an_installed_stage_lacks_nothing_and_starts(adopted: Get, name: str, service: str, tmp_path: Path) -> None:
    expected = EXPECTED[name]
    stage = adopted(name).repository.path(expected.paths[service]) / "dist"
    # pip takes seconds: it installs the first service of each workspace, uv the others.
    python = install(stage, tmp_path / "venv", by_pip=service == next(iter(expected.services)))
    assert "No broken requirements found." in checked(python)
    command, said = expected.starts[service]
    assert said in run(python, *command, cwd=stage)
