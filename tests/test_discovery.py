"""Where projects are looked for: our globs, else uv's members, else the usual folders; and what kind each is."""

import time
from pathlib import Path

import pytest
from test_workspace_read import Tree, problem
from world import World

from buildlib.errors import BuildlibError


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def kinds(tree: Tree) -> dict[str, str]:
    """Return the kind of each project by its directory."""
    return {p.path: p.kind for p in tree.read().projects.values()}


def skipped(tree: Tree) -> list[str]:
    return [str(problem.error()) for problem in tree.read().problems]


# -- nothing says where projects are


def test_each_project_below_the_usual_folders_counts_at_any_depth(tree: Tree) -> None:
    for path in (
        "libs/a",
        "libs/group/deep/b",
        "packages/c",
        "packages/c/plugins/d",
        "services/s",
        "apps/web/t",
        "stack/u",
    ):
        tree.project(path)
    for path in ("tools/x", "x", "docs/libs/y"):
        tree.project(path)
    assert kinds(tree) == {
        "libs/a": "library", "libs/group/deep/b": "library", "packages/c": "library", "packages/c/plugins/d": "library",
        "services/s": "service", "apps/web/t": "service", "stack/u": "service",
    }  # fmt: skip


def test_what_is_hidden_or_made_by_a_build_or_a_venv_is_no_project(tree: Tree) -> None:
    tree.project("libs/a")
    for path in ("libs/.x", "libs/a/build/b", "libs/a/dist/c", "libs/a/node_modules/d", "libs/a/env/lib/e"):
        tree.project(path, name=path[-1])
    tree.write("libs/a/env/pyvenv.cfg", "")
    tree.project("libs/build/f")
    assert set(kinds(tree)) == {"libs/a", "libs/build/f"}


def test_a_project_with_a_dockerfile_in_its_own_folder_is_a_service(tree: Tree) -> None:
    tree.project("libs/a")
    tree.project("libs/b")
    tree.write("libs/a/Dockerfile", "FROM scratch\n")
    tree.write("libs/b/docker/Dockerfile", "FROM scratch\n")
    assert kinds(tree) == {"libs/a": "service", "libs/b": "library"}


def test_a_link_to_a_library_among_services_makes_no_service_of_it(tree: Tree) -> None:
    tree.project("libs/a")
    tree.project("services/s")
    (tree.root / "services/s/common").symlink_to("../../libs/a")
    (tree.root / "services/b").symlink_to("../libs/a")
    assert kinds(tree) == {"libs/a": "library", "services/s": "service"}


def test_a_poetry_project_that_is_no_package_needs_no_name(tree: Tree) -> None:
    tree.write("apps/Web_1/pyproject.toml", "[tool.poetry]\npackage-mode = false\n")
    tree.write("apps/other/pyproject.toml", "[tool.poetry]\npackage-mode = true\n")
    tree.project("core/x", name="x")
    root = '[tool.poetry]\npackage-mode = false\n[tool.poetry.group.dev.dependencies]\nx = {path = "core/x"}\n'
    tree.write("pyproject.toml", root)
    workspace = tree.read()
    assert kinds(tree) == {"apps/Web_1": "service", "apps/other": "service", "core/x": "library"}
    assert workspace.projects["web-1"].package is False and workspace.projects["web-1"].problem is None
    assert problem(workspace, "other").startswith("apps/other/pyproject.toml: the project has no name;")


def test_a_pyproject_that_only_has_tools_in_it_is_silently_none(tree: Tree) -> None:
    tree.write("libs/pyproject.toml", "[tool.ruff]\n")
    tree.write("libs/a/pyproject.toml", "[tool.poetry.group.dev.dependencies]\npytest = '*'\n")
    tree.project("libs/b")
    assert set(kinds(tree)) == {"libs/b"} and skipped(tree) == []


def test_one_that_is_to_be_built_and_has_no_project_table_is_an_error_everywhere(tree: Tree) -> None:
    tree.write("libs/a/pyproject.toml", "[build-system]\nrequires = []\n")
    assert problem(tree.read(), "a") == "libs/a/pyproject.toml: no [project] table; add one with name and version"


def test_the_root_is_a_project_only_if_it_needs_what_is_here_but_its_paths_are_followed(tree: Tree) -> None:
    tree.project("shared/a")
    tree.write(
        "pyproject.toml",
        '[project]\nname = "top"\n[dependency-groups]\ndev = ["a"]\n[tool.uv.sources]\na = {path = "shared/a"}\n',
    )
    assert set(kinds(tree)) == {"shared/a"}
    tree.write(
        "pyproject.toml", '[project]\nname = "top"\ndependencies = ["a"]\n[tool.uv.sources]\na = {path = "shared/a"}\n'
    )
    assert set(kinds(tree)) == {"", "shared/a"}
    tree.write("pyproject.toml", '[tool.poetry]\nname = "top"\n[tool.poetry.dependencies]\na = {path = "shared/a"}\n')
    assert set(kinds(tree)) == {"", "shared/a"}


def test_a_root_that_is_all_there_is_is_the_project(tree: Tree) -> None:
    tree.write("pyproject.toml", '[project]\nname = "top"\nversion = "1"\n')
    assert kinds(tree) == {"": "library"}
    tree.write("Dockerfile", "FROM scratch\n")
    assert kinds(tree) == {"": "service"}
    tree.project("libs/a")
    assert kinds(tree) == {"libs/a": "library"}


def test_what_is_wrong_with_a_root_that_is_all_there_is_is_said(tree: Tree) -> None:
    tree.write("pyproject.toml", '[project]\nname = "top"\nversion = "1"\ndependencies = "a"\n')
    assert problem(tree.read(), "top").startswith("pyproject.toml: dependencies is no list")


def test_a_path_dependency_is_followed_wherever_it_leads_in_the_workspace(tree: Tree) -> None:
    tree.project("services/s", "a", more='[tool.poetry.group.dev.dependencies]\na = {path = "../../x/a"}\n')
    tree.project("x/a", more='[tool.poetry.dev-dependencies]\nb = {path = "../b"}\n')
    tree.project("x/b")
    tree.write("x/b/Dockerfile", "")
    assert kinds(tree) == {"services/s": "service", "x/a": "library", "x/b": "service"}


# -- uv's workspace


def test_the_members_of_uvs_workspace_are_the_projects_and_so_is_a_root_with_a_project_table(tree: Tree) -> None:
    tree.write(
        "pyproject.toml",
        '[project]\nname = "top"\n[tool.uv.workspace]\nmembers = ["libs/*", "./apps/*/"]\nexclude = ["libs/old*"]\n',
    )
    for path in ("libs/a", "libs/old-b", "apps/web", "packages/c"):
        tree.project(path)
    assert kinds(tree) == {"": "library", "libs/a": "library", "apps/web": "service"}
    assert tree.read().is_uvs


def test_an_exclude_of_uvs_reaches_into_folders(tree: Tree) -> None:
    tree.write("pyproject.toml", '[tool.uv.workspace]\nmembers = ["all/**"]\nexclude = ["all/x/*"]\n')
    for path in ("all/a", "all/x/b", "all/x/y/c"):
        tree.project(path)
    assert set(kinds(tree)) == {"all/a"}


def test_a_member_with_a_dockerfile_is_a_service(tree: Tree) -> None:
    tree.write("pyproject.toml", '[project]\nname = "top"\n[tool.uv.workspace]\nmembers = ["x/*"]\n')
    tree.project("x/a")
    tree.write("x/a/Dockerfile", "")
    tree.write("Dockerfile", "")
    assert kinds(tree) == {"": "service", "x/a": "service"}


def test_a_member_without_a_project_is_an_error(tree: Tree) -> None:
    tree.write("pyproject.toml", '[tool.uv.workspace]\nmembers = ["x/*"]\n')
    tree.write("x/a/pyproject.toml", "[tool.ruff]\n")
    tree.project("x/b")
    assert problem(tree.read(), "a") == "x/a/pyproject.toml: no [project] table; add one with name and version"
    assert problem(tree.read(), "b") == ""


def test_our_globs_have_the_last_word_over_uvs_members(tree: Tree) -> None:
    tree.write(
        "pyproject.toml",
        '[project]\nname = "top"\n[tool.buildlib]\nservices = ["x/s"]\n[tool.uv.workspace]\nmembers = ["x/*"]\n',
    )
    for path in ("x/s", "x/t", "libs/a"):
        tree.project(path)
    assert kinds(tree) == {"x/s": "service", "libs/a": "library"} and tree.read().is_uvs


@pytest.mark.parametrize(
    "text", ["[tool.uv.workspace]\nmembers = 'x'\n", "[tool.uv]\nworkspace = 5\n", "[tool]\nuv = 5\n"]
)
def test_a_wrong_workspace_table_is_one_line(tree: Tree, text: str) -> None:
    tree.write("pyproject.toml", text)
    with pytest.raises(
        BuildlibError,
        match=r"^pyproject\.toml: tool\.uv(\.workspace)?(\.members)? (is not a table|has the wrong type); ",
    ):
        tree.read()


# -- our globs


def test_where_services_are_configured_nothing_else_is_one(tree: Tree) -> None:
    tree.write("pyproject.toml", '[tool.buildlib]\nlibs = ["services/*", "libs/*"]\nservices = ["run/*"]\n')
    for path in ("services/a", "libs/b", "run/c"):
        tree.project(path)
    tree.write("libs/b/Dockerfile", "")
    assert kinds(tree) == {"services/a": "library", "libs/b": "library", "run/c": "service"}


def test_where_only_libs_are_configured_services_have_their_default_and_a_dockerfile_makes_one(tree: Tree) -> None:
    tree.write("pyproject.toml", '[tool.buildlib]\nlibs = ["all/*"]\n')
    for path in ("all/a", "all/b", "services/c", "libs/d"):
        tree.project(path)
    tree.write("all/b/Dockerfile", "")
    assert kinds(tree) == {"all/a": "library", "all/b": "service", "services/c": "service"}


# -- templates


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[project]\nname = "<REPLACE ME>"\n', "its name is '<REPLACE ME>'"),
        ('[tool.poetry]\nname = "team-{{ cookiecutter.name }}"\n', "its name is 'team-{{ cookiecutter.name }}'"),
        ('[project]\nname = "$name"\n', "its name is '$name'"),
        ('[project]\nname = "__package_name__"\n', "its name is '__package_name__'"),
        ("[project]\nname = {{ name }}\n", "it holds {{ … }} or {% … %}"),
        ("{% if x %}\n[project]\nname = 'a'\n", "it holds {{ … }} or {% … %}"),
    ],
)
@pytest.mark.parametrize("globs", ["", '[tool.buildlib]\nlibs = ["libs/*"]\n'])
def test_a_template_is_skipped_and_named(tree: Tree, text: str, why: str, globs: str) -> None:
    tree.write("pyproject.toml", globs)
    tree.project("libs/a")
    tree.write("libs/{{ name }}/pyproject.toml", text)
    assert set(kinds(tree)) == {"libs/a"}
    assert skipped(tree) == [f"libs/{{{{ name }}}}/pyproject.toml: a template ({why}); skipped"]


def test_a_name_that_is_only_wrong_is_no_template(tree: Tree) -> None:
    tree.write("libs/a/pyproject.toml", '[project]\nname = "-a b"\n')
    assert skipped(tree) == [] and "'-a b' is no valid project name" in problem(tree.read(), "a")


# -- what is watched


def test_every_place_at_which_a_project_may_appear_or_change_its_kind_is_watched(tree: Tree) -> None:
    tree.project("libs/a")
    tree.write("libs/a/src/a/x.py", "")
    tree.write("libs/t/pyproject.toml", '[project]\nname = "{{x}}"\n')
    tree.write("libs/pyproject.toml", "[tool.ruff]\n")
    looked = set(tree.read().looked)
    assert {"libs", "libs/a", "libs/a/src", "libs/a/src/a", "services", "apps", "stack", "packages"} <= looked
    assert {"libs/a/Dockerfile", "libs/t/pyproject.toml", "libs/pyproject.toml"} <= looked


def test_with_explicit_globs_only_their_directories_are_watched(tree: Tree) -> None:
    tree.write("pyproject.toml", '[tool.buildlib]\nlibs = ["libs/*"]\nservices = ["services/*"]\n')
    tree.project("libs/a")
    tree.write("libs/a/src/a/x.py", "")
    assert set(tree.read().looked) == {
        ".",
        "libs",
        "services",
        "pyproject.toml",
        ".python-version",
        "buildlib.lock",
        "dodo.py",
    }


# -- lock


def test_lock_is_auto_or_nothing_and_a_projects_own_word_counts(tree: Tree) -> None:
    tree.write("pyproject.toml", '[tool.buildlib]\nlock = "auto"\n')
    tree.project("libs/a")
    tree.project("libs/b", more='[tool.buildlib]\nlock = ""\n')
    tree.project("libs/c", more='[tool.buildlib]\nlock = "yes"\n')
    workspace = tree.read()
    assert [workspace.projects[n].config.lock for n in "ab"] == ["auto", ""]
    assert (
        problem(workspace, "c")
        == "libs/c/pyproject.toml: tool.buildlib.lock is 'yes'; write lock = \"auto\", or leave it out"
    )


# -- the next run


def settled(world: World) -> World:
    """Build until a run is answered from the index, which trusts nothing younger than the look at it."""
    world.good()
    time.sleep(0.2)
    world.good()
    return world


@pytest.mark.parametrize("asked", [(), ("build:a",)])
def test_a_new_project_deep_in_another_is_noticed_by_the_next_run(world: World, asked: tuple[str, ...]) -> None:
    world.library("a")
    world.write("libs/a/a/deep/x.py", "")
    settled(world).library("deep", folder="libs/a/a")
    assert "wheel:a" in world.good(*asked).ran  # what is another project's is no input any more
    assert "build:deep" in world.good("list", "-q").out


def test_a_new_dockerfile_makes_a_library_a_service_in_the_next_run(world: World) -> None:
    world.library("a")
    settled(world).write("libs/a/Dockerfile", "FROM scratch\n")
    assert {"requirements:a", "stage:a"} <= set(world.good().ran)


def test_a_template_is_named_when_something_runs_or_is_listed_and_never_by_a_no_op(world: World) -> None:
    world.library("a")
    world.write("libs/t/pyproject.toml", '[project]\nname = "{{ x }}"\n')
    said = "libs/t/pyproject.toml: a template (its name is '{{ x }}'); skipped\n"
    assert world.good().err == said and world.good("list").err == said
    assert world.good().err == ""
    assert settled(world).good().err == ""


@pytest.mark.parametrize("module", ["", "whole/__init__.py", "src/whole.py"])
def test_a_root_of_poetrys_without_a_module_only_gathers_and_is_no_package(world: World, module: str) -> None:
    world.library("one")
    table = '[tool.poetry]\nname = "whole"\nversion = "1"\n[tool.poetry.dependencies]\none = {path = "libs/one"}\n'
    system = '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
    world.write("pyproject.toml", world.read("pyproject.toml") + table + system)
    if module:
        world.write(module, "")
    tasks = world.good("list", "--all", "-q").out.split()
    assert ("wheel:whole" in tasks) is bool(module) and "build:whole" in tasks
