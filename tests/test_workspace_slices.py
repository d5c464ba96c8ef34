"""Which lock, which Python, which libraries: what a service's slice depends on. The locks are written by hand, as uv would."""
# ruff: noqa: E501 (each pyproject.toml is one line)

from pathlib import Path

import pytest

from buildlib.errors import BuildlibError
from buildlib.fingerprint.working import WorkingTree
from buildlib.steps.slices import Memo, Slices
from buildlib.workspace.graph import checked
from buildlib.workspace.read import read_workspace

HASH = "sha256:" + "0" * 64
OWN = f"{__import__('sys').version_info.major}.{__import__('sys').version_info.minor}"


class Tree:
    """A workspace of one service and one library, with one lock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.project("services/s", "lib", "httpx>=1")
        self.project("libs/lib", "idna")
        self.lock("services/s/uv.lock")

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def project(self, path: str, *needs: str, more: str = "") -> None:
        self.write(
            f"{path}/pyproject.toml",
            f'[project]\nname = "{path.rpartition("/")[2]}"\nversion = "1"\ndependencies = {list(needs)!r}\n{more}',
        )

    def lock(
        self, path: str, services: dict[str, str] | None = None, version: str = "1.0", more: str = "", source: str = ""
    ) -> None:
        up = "../../" if path.count("/") else ""
        text = 'version = 1\nrequires-python = ">=3.8"\n' + more
        text += _local("lib", f"{up}libs/lib", ["idna"]) + _pinned("idna", "3.1") + _pinned("httpx", version, source)
        for name, where in (services or {"s": "."}).items():
            text += _local(name, where, ["lib", "httpx>=1"], {"lib": f"{up}libs/lib"})
        self.write(path, text)

    def slices(self, memo: Memo | None = None) -> Slices:
        tree = WorkingTree(str(self.root))
        return Slices(tree, checked(read_workspace(tree)), memo)

    def pins(self, name: str = "s", memo: Memo | None = None) -> list[str]:
        slices = self.slices(memo)
        return [f"{p.name}=={p.version}" for p in slices.of(slices.workspace.projects[name])]

    def fault(self, name: str = "s") -> str:
        with pytest.raises(BuildlibError) as caught:
            self.pins(name)
        return str(caught.value)


def _local(name: str, where: str, needs: list[str], local: dict[str, str] | None = None) -> str:
    from packaging.requirements import Requirement

    needed = [Requirement(n) for n in needs]
    edges = ", ".join(f'{{ name = "{n.name}" }}' for n in needed)
    dist = ", ".join(
        f'{{ name = "{n.name}", ' + (f'editable = "{local[n.name]}" }}' if local and n.name in local else f'specifier = "{n.specifier}" }}')
        for n in needed
    )  # fmt: skip
    return f'[[package]]\nname = "{name}"\nversion = "1"\nsource = {{ editable = "{where}" }}\ndependencies = [{edges}]\n[package.metadata]\nrequires-dist = [{dist}]\n'


def _pinned(name: str, version: str, source: str = "") -> str:
    source = source or 'registry = "https://pypi.org/simple"'
    return f'[[package]]\nname = "{name}"\nversion = "{version}"\nsource = {{ {source} }}\nwheels = [{{ url = "https://x/{name}.whl", hash = "{HASH}" }}]\n'


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_slice_has_the_third_party_packages_of_the_whole_closure(tree: Tree) -> None:
    assert tree.pins() == ["httpx==1.0", "idna==3.1"]


def test_a_library_that_needs_more_than_the_lock_knows_makes_the_services_lock_stale(tree: Tree) -> None:
    tree.project("libs/lib", "idna", "attrs")
    assert (
        tree.fault()
        == "services/s/uv.lock: it is older than libs/lib/pyproject.toml: attrs is not in it; run `cd services/s && uv lock`"
    )


def test_a_remembered_slice_is_dropped_when_a_library_of_the_closure_changes(tree: Tree) -> None:
    memo: Memo = {}
    assert tree.pins(memo=memo) == tree.pins(memo=memo) and len(memo) == 1
    tree.project("libs/lib", "idna", "attrs")
    with pytest.raises(BuildlibError, match="attrs is not in it"):
        tree.pins(memo=memo)


@pytest.mark.parametrize("edit", ["lock", "python", "service", "names"])
def test_a_remembered_slice_is_dropped_when_anything_it_depends_on_changes(tree: Tree, edit: str) -> None:
    memo: Memo = {}
    tree.pins(memo=memo)
    match edit:
        case "lock":
            tree.lock("services/s/uv.lock", version="2.0")
        case "python":
            tree.write(".python-version", "3.9\n")
        case "service":
            tree.project("services/s", "lib", "httpx>=1", more='[tool.buildlib.image]\nplatforms = ["linux/arm64"]\n')
        case "names":
            tree.project("libs/new")
    tree.pins(memo=memo)
    assert len(memo) == 2


# -- which lock


def test_the_lock_of_a_directory_above_serves_those_it_knows(tree: Tree) -> None:
    (tree.root / "services/s/uv.lock").unlink()
    tree.lock("uv.lock", {"s": "services/s", "t": "services/t"}, more='[manifest]\nmembers = ["s", "t", "lib"]\n')
    tree.project("services/t", "lib", "httpx>=1")
    tree.project("services/other", "flask")
    assert tree.pins("s") == tree.pins("t") == ["httpx==1.0", "idna==3.1"]
    assert (
        tree.fault("other")
        == "services/other/pyproject.toml: it needs flask, and there is no lock; run `cd services/other && uv lock`"
    )


def test_an_own_lock_comes_before_one_above(tree: Tree) -> None:
    tree.lock("uv.lock", {"s": "services/s"}, version="9.0")
    assert tree.pins() == ["httpx==1.0", "idna==3.1"]


def test_a_lock_above_that_is_for_others_is_no_lock_of_a_service_without_third_party_packages(tree: Tree) -> None:
    tree.lock("uv.lock", {"x": "services/x"})
    tree.project("services/plain", "pure")
    tree.project("libs/pure")
    assert tree.pins("plain") == []


def test_an_extra_of_a_library_that_needs_third_party_packages_needs_a_lock(tree: Tree) -> None:
    tree.project("services/plain", "pure[fast]")
    tree.project("libs/pure", more='[project.optional-dependencies]\nfast = ["numpy"]\n')
    assert (
        tree.fault("plain")
        == "services/plain/pyproject.toml: it needs numpy, and there is no lock; run `cd services/plain && uv lock`"
    )


def test_where_a_nearer_lock_or_version_would_count_is_watched(tree: Tree) -> None:
    (tree.root / "services/s/uv.lock").unlink()
    tree.lock("uv.lock", {"s": "services/s"})
    slices = tree.slices()
    files = slices.files(slices.workspace.projects["s"])
    assert {
        "services/s/uv.lock",
        "services/s/poetry.lock",
        "uv.lock",
        "services/s/.python-version",
        ".python-version",
    } <= set(files)
    tree.lock("services/s/uv.lock")
    files = tree.slices().files(slices.workspace.projects["s"])
    assert "services/s/uv.lock" in files and "uv.lock" not in files


def test_a_pin_that_is_a_file_of_the_workspace_is_refused(tree: Tree) -> None:
    tree.lock("services/s/uv.lock", source='path = "../../vendor/httpx-1.0-py3-none-any.whl"')
    tree.write(
        "services/s/uv.lock",
        tree.root.joinpath("services/s/uv.lock").read_text().replace('{ name = "httpx", specifier = ">=1" }', '{ name = "httpx", path = "../../vendor/httpx-1.0-py3-none-any.whl" }'),
    )  # fmt: skip
    assert tree.fault().startswith(
        "services/s/uv.lock: httpx is the file vendor/httpx-1.0-py3-none-any.whl, which no stage holds; make it a project"
    )


# -- which Python


@pytest.mark.parametrize(
    "text", ["3.10\n", "# ours\n\n3.10 # really\n3.9\n", "cpython-3.10\n", "cpython@3.10\n", "python3.10\n"]
)
def test_a_version_file_says_the_images_python(tree: Tree, text: str) -> None:
    tree.write(".python-version", text)
    slices = tree.slices()
    assert slices.target(slices.workspace.projects["s"]).python == "3.10"


def test_the_configuration_comes_before_the_nearest_version_file_and_that_before_the_tools_own(tree: Tree) -> None:
    def python() -> str:
        slices = tree.slices()
        return slices.target(slices.workspace.projects["s"]).python

    assert python() == OWN
    tree.write(".python-version", "3.10\n")
    assert python() == "3.10"
    tree.write("services/s/.python-version", "3.9.7\n")
    assert python() == "3.9.7"
    tree.write("pyproject.toml", '[tool.buildlib.image]\npython = "3.13"\n')
    assert python() == "3.13"


@pytest.mark.parametrize("text", ["pypy3.9\n", "", "3\n", "latest\n", "3.12-dev\n", "\xff"])
def test_a_version_file_that_says_no_version_is_an_error_of_that_file(tree: Tree, text: str) -> None:
    tree.write(".python-version", text)
    assert tree.fault().startswith(".python-version: ") and "is no Python version" in tree.fault()


@pytest.mark.parametrize("path", ["services/s", "libs/lib"])
def test_a_python_that_a_project_of_the_closure_excludes_is_an_error_that_names_the_key(tree: Tree, path: str) -> None:
    needs = ("lib", "httpx>=1") if path == "services/s" else ("idna",)
    tree.project(path, *needs, more='requires-python = ">=3.12"\n')
    tree.write("pyproject.toml", '[tool.buildlib.image]\npython = "3.10"\n')
    said = (
        f"{path}/pyproject.toml: requires-python '>=3.12' excludes the image's Python 3.10 (tool.buildlib.image.python)"
    )
    assert tree.fault().startswith(said)
    tree.write("pyproject.toml", "")
    tree.write(".python-version", "3.10")
    assert "(.python-version); change .python-version or requires-python" in tree.fault()
    (tree.root / ".python-version").unlink()
    tree.project(path, *needs, more='requires-python = ">=3.99"\n')
    assert f"excludes this tool's Python {OWN}" in tree.fault() and tree.fault().endswith(
        'set python = "…" in [tool.buildlib.image]'
    )


@pytest.mark.parametrize(
    ("spec", "python"),
    [
        (">=3.12.2", "3.12"),
        ("<3.12.5", "3.12"),
        ("==3.12.4", "3.12"),
        (">=3.12.2,<3.12.9", "3.12"),
        ("==3.12.4", "3.12.4"),
    ],
)
def test_a_python_without_patch_level_is_admitted_where_one_of_its_releases_is(
    tree: Tree, spec: str, python: str
) -> None:
    tree.project("libs/lib", "idna", more=f'requires-python = "{spec}"\n')
    tree.write(".python-version", python)
    assert tree.pins() == ["httpx==1.0", "idna==3.1"]


def test_a_library_that_the_image_does_not_need_is_not_in_the_closure(tree: Tree) -> None:
    tree.project("services/win", "lib; sys_platform == 'win32'", "old; python_version < '3.10'")
    tree.project("libs/old")
    assert tree.slices().closure("win") == ()
    tree.write(".python-version", "3.9")
    assert tree.slices().closure("win") == ("old",) and tree.pins("win") == []


def test_the_platform_is_the_images(tree: Tree) -> None:
    marked = ("lib; platform_machine == 'aarch64'",)
    tree.project("services/arm", *marked, more='[tool.buildlib.image]\nplatforms = ["linux/arm64"]\n')
    tree.project("services/amd", *marked)
    assert tree.slices().closure("arm") == ("lib",) and tree.slices().closure("amd") == ()
    tree.project("services/arm", "httpx", more='[tool.buildlib.image]\nplatforms = ["windows/amd64"]\n')
    assert "'windows/amd64' is not supported" in tree.fault("arm")


def test_many_services_with_many_libraries_take_little_time(tree: Tree) -> None:
    import time

    libraries = [f"l{i}" for i in range(70)]
    for name in libraries:
        tree.project(f"libs/{name}", "idna")
    for i in range(50):
        tree.project(f"services/s{i}", *libraries, "httpx>=1")
        local = {name: f"../../libs/{name}" for name in libraries}
        text = (
            'version = 1\nrequires-python = ">=3.8"\n'
            + _pinned("idna", "3.1")
            + _pinned("httpx", "1.0")
            + _local(f"s{i}", ".", [*libraries, "httpx>=1"], local)
        )
        tree.write(f"services/s{i}/uv.lock", text + "".join(_local(n, w, ["idna"]) for n, w in local.items()))
    memo: Memo = {}
    seconds = []
    for _ in range(2):
        slices = tree.slices(memo)
        started = time.perf_counter()
        for i in range(50):
            assert len(slices.of(slices.workspace.projects[f"s{i}"])) == 2
        seconds.append(time.perf_counter() - started)
    assert seconds[0] < 15 and seconds[1] < seconds[0] / 10


# -- lists: pylock.toml, requirements.txt


def _list(*names: str) -> str:
    return "".join(f"{name}==1 --hash={HASH}\n" for name in names)


@pytest.fixture
def unlocked(tree: Tree) -> Tree:
    (tree.root / "services/s/uv.lock").unlink()
    return tree


@pytest.mark.parametrize("where", ["services/s/", ""])
def test_a_list_is_the_lock_of_the_project_beside_it_and_of_those_below_it_that_it_serves(
    unlocked: Tree, where: str
) -> None:
    unlocked.write(f"{where}requirements.txt", _list("httpx", "idna"))
    assert unlocked.pins() == ["httpx==1", "idna==1"]


def test_a_list_that_lacks_what_a_library_gained_is_stale(unlocked: Tree) -> None:
    unlocked.write("services/s/requirements.txt", _list("httpx", "idna"))
    unlocked.project("libs/lib", "idna", "attrs")
    said = "services/s/requirements.txt: it is older than libs/lib/pyproject.toml: attrs is not in it; run `cd services/s &&"
    assert unlocked.fault().startswith(said)
    unlocked.write("services/s/requirements.txt", _list("httpx", "idna", "attrs"))
    unlocked.project("libs/lib", "idna>=2", "attrs")
    assert "libs/lib/pyproject.toml: idna>=2 is not in it, which has idna 1; run" in unlocked.fault()


def test_an_extra_of_a_library_that_a_list_lacks_is_stale(unlocked: Tree) -> None:
    unlocked.write("services/s/requirements.txt", _list("httpx", "idna"))
    unlocked.project("services/s", "lib[fast]", "httpx")
    unlocked.project("libs/lib", "idna", more='[project.optional-dependencies]\nfast = ["numpy"]\n')
    assert "numpy is not in it" in unlocked.fault()


@pytest.mark.parametrize("text", ["flask\n", "-r gone.txt\n", "--find-links x\n", "no requirement\n", "a==1\n"])
def test_a_plain_requirements_file_breaks_nobody_who_has_a_lock_or_needs_none(tree: Tree, text: str) -> None:
    for where in ("services/s", "services/plain", "."):
        tree.write(f"{where}/requirements.txt", text)
    tree.project("services/plain", "pure")
    tree.project("libs/pure")
    assert tree.pins() == ["httpx==1.0", "idna==3.1"] and tree.pins("plain") == []


def test_a_plain_requirements_file_that_is_the_only_one_is_told_to_be_hashed(unlocked: Tree) -> None:
    unlocked.write("services/s/requirements.txt", "httpx==1\nidna==1\n")
    assert unlocked.fault() == (
        "services/s/requirements.txt:1: httpx 1 has no hash; run `cd services/s && uv pip compile --universal"
        " --generate-hashes requirements.txt -o requirements.txt`"
    )


def test_what_a_list_includes_is_watched_and_counts(unlocked: Tree) -> None:
    unlocked.write("services/s/requirements.txt", "-r ../../base.txt\n" + _list("httpx"))
    unlocked.write("base.txt", _list("idna"))
    slices = unlocked.slices()
    assert "base.txt" in slices.files(slices.workspace.projects["s"])
    memo: Memo = {}
    assert unlocked.pins(memo=memo) == ["httpx==1", "idna==1"]
    unlocked.write("base.txt", _list("attrs"))
    with pytest.raises(BuildlibError, match="idna is not in it"):
        unlocked.pins(memo=memo)


def test_a_named_pylock_at_the_root_is_for_the_project_of_that_name(unlocked: Tree) -> None:
    wheel = '{ url = "https://files.pythonhosted.org/%s-1-py3-none-any.whl", hashes = { sha256 = "' + "0" * 64 + '" } }'
    entries = "".join(f'[[packages]]\nname = "{n}"\nversion = "1"\nwheels = [{wheel % n}]\n' for n in ("httpx", "idna"))
    unlocked.write("pylock.s.toml", f'lock-version = "1.0"\ncreated-by = "x"\n{entries}')
    unlocked.write("pylock.toml", 'lock-version = "1.0"\ncreated-by = "x"\npackages = []\n')
    assert unlocked.pins() == ["httpx==1", "idna==1"]
