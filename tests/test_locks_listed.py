"""pylock.toml and hashed requirements.txt: lists of packages, on files that uv, pip and pip-compile made."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli
from test_locks import exported, sliced

from buildlib.errors import BuildlibError
from buildlib.workspace.locks import Lock, Member, Pin, Target, included, parse, requirements_text

FIXTURES = Path(__file__).parent / "fixtures" / "locks" / "listed"
LOCAL = frozenset({"lib-core", "svc-a"})
AMD = Target("3.12", "linux/amd64")
SHA = "0" * 64
HASH = f"--hash=sha256:{SHA}"
NEEDS = frozenset({"click", "httpx", "six"})
UNIVERSAL = ["requirements.txt", "pylock.toml", "pylock.svc-a.toml"]


def member_of(name: str, requires: tuple[str, ...] | None = None, version: str = "0.1.0") -> Member:
    path = {"svc-a": "services/svc-a", "lib-core": "libs/lib-core"}[name]
    text = (FIXTURES / path / "pyproject.toml").read_text().replace('version = "0.1.0"', f'version = "{version}"')
    data = tomli.loads(text)
    return Member(name, path, tuple(data["project"]["dependencies"]) if requires is None else requires, LOCAL, data)


def lock_of(file: str, as_name: str = "") -> Lock:
    data = (FIXTURES / "services/svc-a" / file).read_bytes()
    return parse(f"services/svc-a/{as_name or file}", data)


def a_member(*requires: str, path: str = "svc", needs: frozenset[str] | None = None) -> Member:
    return Member("svc", path, requires, frozenset({"svc", "lib"}), {}, needs)


def listed(text: str, path: str = "svc/requirements.txt", **files: str) -> Lock:
    named = {f"svc/{name.replace('_', '.')}": content.encode() for name, content in files.items()}
    return parse(path, text.encode(), named.get)


def pylock(*packages: str, head: str = "", path: str = "svc/pylock.toml") -> Lock:
    text = f'lock-version = "1.0"\ncreated-by = "test"\n{head}\n' + "".join(f"[[packages]]\n{p}\n" for p in packages)
    return parse(path, (text if packages else text + "packages = []\n").encode())


def a_wheel(
    name: str, more: str = "", tag: str = "py3-none-any", where: str = "https://files.pythonhosted.org/"
) -> str:
    file = f"{name}-1-{tag}.whl"
    wheel = f'{{ name = "{file}", url = "{where}{file}", hashes = {{ sha256 = "{SHA}" }} }}'
    return f'name = "{name}"\nversion = "1"\n{more}\nwheels = [{wheel}]'


def the_fault(action: Callable[[], object]) -> str:
    with pytest.raises(BuildlibError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the same as the real tools --------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", UNIVERSAL)
def test_a_slice_is_what_pip_would_install(file: str) -> None:
    """pip's own answer (`--dry-run --report`) for the Python and machine on which it was asked."""
    report = json.loads((FIXTURES / "services/svc-a/reported.json").read_text())
    pins = lock_of(file).slice(member_of("svc-a"), Target(report["python"], "linux/amd64"))
    assert report["machine"] == "x86_64"
    assert {pin.name: pin.version for pin in pins} == report["packages"]


@pytest.mark.parametrize("python", ["3.11.2", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
def test_the_three_files_of_uv_mean_the_same_packages_and_hashes(python: str, platform: str) -> None:
    target, text = Target(python, platform), (FIXTURES / "services/svc-a/requirements.txt").read_text()
    for file in UNIVERSAL:
        assert sliced(lock_of(file).slice(member_of("svc-a"), target)) == exported(text, target)


@pytest.mark.parametrize("file", ["pip-compile.txt", "pylock.pip.toml"])
def test_a_list_of_one_platform_is_taken_as_it_is(file: str) -> None:
    lock = lock_of(file, "requirements.txt" if file.endswith("txt") else "pylock.toml")
    pins = lock.slice(member_of("svc-a"), Target("3.11", "linux/amd64"))
    assert {"click", "httpx", "h2", "six"} <= {pin.name for pin in pins}
    assert requirements_text(pins).startswith("anyio==")


@pytest.mark.parametrize("file", UNIVERSAL)
def test_fresh_lists_pass_for_the_service_and_for_its_library(file: str) -> None:
    for name in ("svc-a", "lib-core"):
        for target in (None, AMD, Target("3.13", "linux/arm64")):
            lock_of(file).check(member_of(name), target)


# --- freshness by meaning --------------------------------------------------------------------------------------------

COMMAND = "cd services/svc-a && uv pip compile --universal --generate-hashes"


@pytest.mark.parametrize("file", ["requirements.txt", "pylock.toml"])
@pytest.mark.parametrize(
    ("name", "requires", "says"),
    [
        ("svc-a", ("click>=99",), "click>=99 is not in it, which has click 8."),
        ("svc-a", ("attrs",), "attrs is not in it"),
        ("svc-a", ("attrs; sys_platform == 'linux'",), "attrs; sys_platform =="),
        ("lib-core", ("six>=1.16", "attrs"), "attrs is not in it"),
    ],
)
def test_a_requirement_that_no_entry_meets_makes_a_list_stale(
    file: str, name: str, requires: tuple[str, ...], says: str
) -> None:
    fault = the_fault(lambda: lock_of(file).check(member_of(name, requires), AMD))
    path = {"svc-a": "services/svc-a", "lib-core": "libs/lib-core"}[name]
    assert fault.startswith(f"services/svc-a/{file}: it is older than {path}/pyproject.toml: {says}")
    assert f"; run `{COMMAND}" in fault and fault.endswith(f"pyproject.toml -o {file}`")


def test_what_is_not_for_the_target_need_not_be_listed() -> None:
    member = member_of("svc-a", ("click", "colorama; sys_platform == 'win32'", "six<1; python_version < '3.0'"))
    lock_of("requirements.txt").check(member, AMD)


def test_a_package_that_only_an_extra_of_a_library_needs_is_missed_in_the_slice() -> None:
    lock = listed(f"a==1 {HASH}\n")
    assert [p.name for p in lock.slice(a_member("a", needs=frozenset({"a"})), AMD)] == ["a"]
    fault = the_fault(lambda: lock.slice(a_member("a", needs=frozenset({"a", "b"})), AMD))
    assert "it is older than svc/pyproject.toml: b is not in it; run `cd svc && uv pip compile" in fault


def test_extras_are_compared_where_the_list_has_them() -> None:
    listed(f"a==1 {HASH}\n").check(a_member("a[x]"), AMD)
    listed(f"a[x]==1 {HASH}\n").check(a_member("a[x]"), AMD)
    assert "a[y] is not in it" in the_fault(lambda: listed(f"a[x]==1 {HASH}\n").check(a_member("a[y]"), AMD))


def test_poetrys_alternatives_are_met_by_one_of_them() -> None:
    pyproject = tomli.loads('[tool.poetry.dependencies]\na = "^1.0 || ^3.0"\n')
    member = Member("svc", "svc", ("a",), frozenset(), pyproject)
    listed(f"a==3.1 {HASH}\n").check(member, AMD)
    assert "a is not in it, which has a 2.0" in the_fault(lambda: listed(f"a==2.0 {HASH}\n").check(member, AMD))


def test_a_local_project_in_a_pylock_has_its_version() -> None:
    lock = lock_of("pylock.svc-a.toml")
    lock.check(member_of("lib-core"))
    entry = 'name = "lib"\nversion = "0.1"\ndirectory = { path = "../lib" }'
    member = Member("lib", "lib", (), frozenset({"lib"}), tomli.loads('[project]\nname = "lib"\nversion = "0.2"\n'))
    assert "it has lib 0.1, whose version is 0.2; run `cd svc && " in the_fault(lambda: pylock(entry).check(member))


# --- whose it is -----------------------------------------------------------------------------------------------------


def test_a_list_in_the_projects_folder_is_its_own_and_one_above_counts_where_it_meets_all() -> None:
    text = f"a==1 {HASH}\nb==2 {HASH}\n"
    assert listed(text).knows(a_member("z"))
    above = listed(text, "requirements.txt")
    assert above.knows(a_member("a", "b>1", "lib"))
    assert not above.knows(a_member("a", "c"))
    assert not above.knows(a_member("b>=3"))
    assert not above.knows(a_member())
    assert not above.knows(a_member("lib", needs=frozenset({"c"})))
    assert above.is_list


def test_a_named_pylock_is_for_the_project_of_that_name() -> None:
    lock = pylock(a_wheel("a"), path="pylock.svc.toml")
    assert lock.knows(a_member("z")) and not lock.knows(Member("other", "other", ("a",), LOCAL, {}))


def test_a_project_that_needs_nothing_has_nothing_of_a_list() -> None:
    assert listed("anything>=1\n").slice(a_member(needs=frozenset()), AMD) == ()
    assert listed("--find-links x\n").slice(a_member(needs=frozenset()), AMD) == ()


def test_a_list_does_not_say_what_a_project_declares() -> None:
    assert listed(f"a==1 {HASH}\n").requires("lib") is None and pylock(a_wheel("a")).requires("a") is None


# --- requirements.txt ------------------------------------------------------------------------------------------------


def test_pips_format_is_read() -> None:
    text = f"""# a comment
    --index-url https://pypi.example/simple/
--extra-index-url=https://pypi.org/simple --trusted-host pypi.example
--require-hashes
-c constraints.txt
A.b[x]==1.0 ; python_version >= "3.8" \\
    --hash=sha256:{"1" * 64} \\
    --hash sha256:{"2" * 64}  # why
    # via c
old==1 ; python_version < "3" {HASH}
-r more.txt
d @ https://files.example/d-2.1-py3-none-any.whl#sha256={"3" * 64}
https://files.example/e-3.tar.gz {HASH}
./../lib
"""
    pins = listed(text, more_txt=f"-r requirements.txt\nm===4 {HASH}\n").slice(a_member("a-b"), AMD)
    both = "https://pypi.example/simple https://pypi.org/simple"
    assert pins == (
        Pin("a-b", "1.0", (f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"), both),
        Pin("d", "2.1", (f"sha256:{'3' * 64}",), "https://files.example/d-2.1-py3-none-any.whl", direct=True),
        Pin("e", "3", (f"sha256:{SHA}",), "https://files.example/e-3.tar.gz", direct=True),
        Pin("m", "4", (f"sha256:{SHA}",), both),
    )


def test_several_indexes_keep_their_order() -> None:
    text = f"-i https://b.example/s\n--extra-index-url https://a.example/s\nx==1 {HASH}\n"
    written = requirements_text(listed(text).slice(a_member("x"), AMD))
    assert written.startswith("--index-url https://b.example/s\n--extra-index-url https://a.example/s\nx==1 ")
    text = f"--extra-index-url https://b.example/s\n--extra-index-url https://a.example/s\nx==1 {HASH}\n"
    written = requirements_text(listed(text).slice(a_member("x"), AMD))
    assert written.startswith("--extra-index-url https://b.example/s\n--extra-index-url https://a.example/s\nx==1 ")


def test_the_files_that_it_includes_are_named_at_any_depth() -> None:
    files = {"a/x.txt": b"-r ../y.txt\n", "y.txt": b"-rz.txt\n--requirement=x.txt"}
    assert included("requirements.txt", b"-r a/x.txt\n", files.get) == ("a/x.txt", "y.txt", "z.txt", "x.txt")
    assert included("requirements.txt", b"a==1\n", files.get) == included("uv.lock", b"-r a/x.txt", files.get) == ()


UNHASHED = "run `cd svc && uv pip compile --universal --generate-hashes requirements.txt -o requirements.txt`"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a==1\n", f"svc/requirements.txt:1: a 1 has no hash; {UNHASHED}"),
        (f"\nb==1 {HASH}\na>=1\n", f"svc/requirements.txt:3: a has no exact version and no hash; {UNHASHED}"),
        ("a @ https://x/a.zip\n", f"svc/requirements.txt:1: a has no exact version and no hash; {UNHASHED}"),
        (
            "# pip-compile\n#    pip-compile x.in ; rm -rf /\na==1\n",
            "svc/requirements.txt:3: a 1 has no hash; run `cd svc && pip-compile --generate-hashes x.in ';' rm -rf /`",
        ),
        (
            "a @ git+https://x/y@v1\n",
            "svc/requirements.txt:1: a comes from git, which has no hash; depend on a release",
        ),
        ("git+https://x/y\n", "svc/requirements.txt:1: git+https://x/y"),
        ("-e git+https://x/y#egg=a\n", "svc/requirements.txt:1: git+https://x/y#egg=a comes from version control"),
        ("--find-links x\n", "svc/requirements.txt:1: --find-links is not supported in a lock; name an index"),
        ("a = 1\n", "svc/requirements.txt:1: 'a = 1' is no requirement"),
        ("-r gone.txt\n", "svc/requirements.txt:1: it includes gone.txt, which is not in the workspace; correct it"),
        ("-r ../../gone.txt\n", "svc/requirements.txt:1: it includes ../../gone.txt, which is not in the workspace"),
        ("https://x/some.zip\n", "svc/requirements.txt:1: some.zip does not say which package it is; write `NAME @ "),
        ("<<<<<<< HEAD\na==1\n", "svc/requirements.txt: it holds the conflict markers of a merge; take either side"),
        (f"lib==1 {HASH}\n", "svc/requirements.txt: lib is a project of this workspace, but the lock pins 1 from"),
        (f"a==1 {HASH}\na==2 {HASH}\n", "svc/requirements.txt: two of a are locked for one target: 1 and 2; run"),
        ("a==1 --hash=md5:00\n", "svc/requirements.txt: a 1 has a hash that is none: 'md5:00'; run"),
        (f"a==1;os_name>=3 {HASH}\n", "svc/requirements.txt:1: 'a==1;os_name>=3' is no requirement"),
    ],
)
def test_what_is_no_lock_is_said_with_its_line_and_cure(text: str, says: str) -> None:
    assert the_fault(lambda: listed(text).slice(a_member("a", needs=frozenset({"a"})), AMD)).startswith(says)


def test_a_file_that_is_no_text_is_an_error_of_whoever_needs_it() -> None:
    lock = parse("requirements.txt", b"\xff\xfe")
    assert "requirements.txt: it is not UTF-8 (byte 0); save it as UTF-8" in the_fault(
        lambda: lock.slice(a_member("a"), AMD)
    )
    assert lock.slice(a_member(needs=frozenset()), AMD) == ()


def test_a_list_by_hand_that_lacks_a_package_is_told_to_be_hashed() -> None:
    assert the_fault(lambda: listed("a==1\n").check(a_member("b"), AMD)).endswith(UNHASHED)


# --- pylock.toml -----------------------------------------------------------------------------------------------------


def test_groups_and_extras_of_a_pylock_are_left_out_but_for_the_default_ones() -> None:
    head = 'extras = ["x"]\ndependency-groups = ["default", "dev"]\ndefault-groups = ["default"]'
    lock = pylock(
        a_wheel("a", "marker = \"'default' in dependency_groups\""),
        a_wheel("b", "marker = \"'dev' in dependency_groups\""),
        a_wheel("c", "marker = \"'x' in extras\""),
        head=head,
    )
    assert [pin.name for pin in lock.slice(a_member("a"), AMD)] == ["a"]


def test_archives_are_pinned_and_directories_are_local() -> None:
    archive = (
        f'name = "a"\narchive = {{ url = "https://x/a.zip", subdirectory = "s", hashes = {{ sha256 = "{SHA}" }} }}'
    )
    lock = pylock(archive, 'name = "lib"\ndirectory = { path = "../lib", editable = true }')
    pins = lock.slice(a_member("a", "lib"), AMD)
    assert pins == (Pin("a", "", (f"sha256:{SHA}",), "https://x/a.zip#subdirectory=s", direct=True),)
    assert requirements_text(pins).startswith("a @ https://x/a.zip#subdirectory=s \\\n")


def test_an_index_is_kept_and_without_one_the_file_that_fits_is_pinned() -> None:
    index = pylock(a_wheel("a", 'index = "https://pypi.example/simple"', where="https://x/"))
    assert index.slice(a_member("a"), AMD)[0].source == "https://pypi.example/simple"
    files = [
        f'{{ url = "https://x/a-1-cp312-cp312-manylinux_2_17_{m}.whl", hashes = {{ sha256 = "{SHA}" }} }}'
        for m in ("x86_64", "aarch64")
    ]
    files.append(f'{{ url = "https://x/a-1-py3-none-any.whl", hashes = {{ sha256 = "{SHA}" }} }}')
    lock = pylock(f'name = "a"\nversion = "1"\nwheels = [{", ".join(files)}]')
    assert lock.slice(a_member("a"), AMD)[0].source == "https://x/a-1-cp312-cp312-manylinux_2_17_x86_64.whl"
    arm = lock.slice(a_member("a"), Target("3.12", "linux/arm64"))
    assert arm[0].source == "https://x/a-1-cp312-cp312-manylinux_2_17_aarch64.whl"
    assert lock.slice(a_member("a"), Target("3.13", "linux/amd64"))[0].source == "https://x/a-1-py3-none-any.whl"


@pytest.mark.parametrize(
    ("package", "head", "says"),
    [
        ('name = "a"\nvcs = { type = "git", url = "https://x", commit-id = "c" }', "", "a comes"),
        ('name = "odd"\ndirectory = { path = "../odd" }', "", "odd is the directory odd, which is no project of this"),
        (a_wheel("lib"), "", "lib is a project of this workspace, but the lock pins 1 from outside"),
        (a_wheel("a", tag="cp311-cp311-win_amd64"), "", "a 1 has neither a wheel for Python 3.12 on linux/amd64"),
        (a_wheel("a"), 'requires-python = ">=3.13"', "it is locked for Python >=3.13, the image runs 3.12"),
        (a_wheel("a"), "environments = [\"sys_platform == 'win32'\"]", "none of its environments is Python 3.12"),
        (a_wheel("a").replace("sha256", "md5"), "", "a 1 has no hash"),
    ],
)  # fmt: skip
def test_what_a_pylock_cannot_pin_is_said_where_it_is_needed(package: str, head: str, says: str) -> None:
    assert the_fault(lambda: pylock(package, head=head).slice(a_member("a"), AMD)).startswith(
        f"svc/pylock.toml: {says}"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\xff", "it is no valid TOML"),
        ("", "PEP 751 does not allow it: Missing required value in 'lock-version'"),
        (
            'lock-version = "2.0"\ncreated-by = "x"\npackages = []\n',
            "pylock version 2.0 is not supported; lock with a tool",
        ),
        (
            'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "A"\n',
            "PEP 751 does not allow it: Name 'A' is not",
        ),
        ("<<<<<<< HEAD\n", "it holds the conflict markers of a merge"),
    ],
)
def test_what_is_no_pylock_is_an_error_with_a_cure(text: str, says: str) -> None:
    fault = the_fault(lambda: parse("svc/pylock.toml", text.encode()))
    assert fault.startswith(f"svc/pylock.toml: {says}") and "; " in fault


@pytest.mark.parametrize("maker", ["pip", "pdm", "uv"])
def test_the_command_is_the_one_of_the_tool_that_made_it(maker: str) -> None:
    text = f'lock-version = "1.0"\ncreated-by = "{maker}"\npackages = []\n'
    fault = the_fault(lambda: parse("svc/pylock.toml", text.encode()).check(a_member("a"), AMD))
    assert f"run `cd svc && {maker} " in fault and "pylock.toml" in fault.partition("run")[2]


@pytest.mark.slow
@pytest.mark.parametrize("file", UNIVERSAL)
def test_pip_takes_the_slice_in_hash_mode_and_installs_no_more(file: str, tmp_path: Path) -> None:
    target = Target(".".join(map(str, sys.version_info[:3])), "linux/amd64")
    pins = lock_of(file).slice(member_of("svc-a"), target)
    (tmp_path / "requirements.txt").write_text(requirements_text(pins))
    pip = [
        "pip",
        "install",
        "--dry-run",
        "--ignore-installed",
        "--quiet",
        "--report",
        "report.json",
        "--require-hashes",
    ]
    argv = [sys.executable, "-m", *pip, "-r", "requirements.txt"]
    run = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    found = {each["metadata"]["name"].lower().replace("_", "-") for each in report["install"]}
    assert found == {pin.name for pin in pins}


@pytest.mark.parametrize("file", UNIVERSAL)
def test_truncated_and_mutated_lists_raise_nothing_but_our_error(file: str) -> None:
    data = (FIXTURES / "services/svc-a" / file).read_bytes()
    chance = random.Random(4)
    for _ in range(150):
        start, length = chance.randrange(len(data)), chance.choice((0, 1, 3, 40))
        put = chance.choice(
            (b"", b"\\", b"'", b"[", b" = ", b"-r x", b"-e", b"\n", b";", b"@ ", b"://", b"\xff", b"#", b"1")
        )
        broken = data[:start] if chance.random() < 0.2 else data[:start] + put + data[start + length :]
        try:
            lock = parse(f"svc/{file}", broken)
            lock.check(member_of("svc-a"), AMD)
            requirements_text(lock.slice(member_of("svc-a"), AMD))
            lock.knows(a_member("click", path="other"))
        except BuildlibError as error:
            assert "\n" not in str(error) and "; " in str(error)
