"""The sample workspace end to end: wheels, requirements and stages that work where no source tree is."""
# ruff: noqa: E501 (each pyproject.toml is one line)

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_real_backends import built_by_build, built_by_us
from uv import find_uv_bin
from world import World

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SERVICES = ("svc-a", "svc-b", "svc-report")
PROJECTS = {p.parent.name: str(p.parent.relative_to(ROOT)) for p in sorted(ROOT.glob("*/*/pyproject.toml"))}
NAMES = {"tracking": "parcel-tracking"}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> World:
    """Return a repository of the sample's files as they are here, built once."""
    world = World(tmp_path_factory.mktemp("sample") / "w", cache)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard", "libs", "services"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for path in listed.stdout.decode().split("\0"):
        if path and (ROOT / path).is_file():
            world.write(path, (ROOT / path).read_bytes())
    world.write("pyproject.toml", (ROOT / "pyproject.toml").read_bytes())
    world.write("buildlib.lock", (ROOT / "buildlib.lock").read_bytes())
    world.write(".gitignore", (ROOT / ".gitignore").read_bytes())
    world.commit()
    world.good()
    return world


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_committed_toolchain_is_enough_and_the_tree_stays_clean(sample: World) -> None:
    assert sample.git("status", "--porcelain") == ""
    assert sample.good().ran == []


@pytest.mark.parametrize("folder", PROJECTS.values())
def test_a_wheel_of_the_sample_has_the_content_that_build_makes_from_a_fresh_clone(
    sample: World, folder: str, tmp_path: Path
) -> None:
    base = os.path.basename(folder)
    ours, theirs = built_by_us(sample, NAMES.get(base, base)), built_by_build(sample, folder, tmp_path)
    assert sorted(ours) == sorted(theirs)
    for name, (data, executable) in theirs.items():
        # Only a path to a library becomes its plain name.
        data = re.sub(rb"(Requires-Dist: [\w.-]+) @ file://\S+", rb"\1", data) if name.endswith("/METADATA") else data
        assert ours[name] == (data, executable), name


@pytest.fixture(scope="module")
def installed(sample: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a venv for each service with its stage installed by pip, from a place where no source tree is."""
    venvs = {}
    for service in SERVICES:
        place = tmp_path_factory.mktemp(service)
        shutil.copytree(sample.path(f"services/{service}/dist"), place / "stage")
        run(sys.executable, "-m", "venv", "--without-pip", place / "venv", cwd=place)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--python",
            place / "venv/bin/python",
            "install",
            "--no-compile",
            "-q",
        ]
        run(*pip, "--require-hashes", "-r", "requirements.txt", cwd=place / "stage")
        wheels = [*sorted((place / "stage/deps").glob("*.whl")), *sorted((place / "stage").glob("*.whl"))]
        run(*pip, "--no-index", "--no-deps", *wheels, cwd=place)
        venvs[service] = place / "venv"
    return venvs


@pytest.mark.parametrize("service", SERVICES)
def test_an_installed_stage_lacks_nothing(installed: dict[str, Path], service: str, tmp_path: Path) -> None:
    said = run(
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--python",
        installed[service] / "bin/python",
        "check",
        cwd=tmp_path,
    )
    assert "No broken requirements found." in said


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def served(installed: dict[str, Path], tmp_path: Path) -> Iterator[str]:
    port = free_port()
    env = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "PATH": os.environ["PATH"],
        "PARCEL_LEDGER": str(tmp_path / "ledger.db"),
        "LEDGER_PATH": str(tmp_path / "ledger.db"),
    }
    server = subprocess.Popen(
        [installed["svc-a"] / "bin/python", "-m", "svc_a"],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def test_the_http_service_answers(served: str) -> None:
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"{served}/health", timeout=5) as answer:
                assert answer.status == 200
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail("it never answered")


def test_the_worker_and_the_command_line_start(installed: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    env = {
        "PATH": os.environ["PATH"],
        "PARCEL_INBOX": str(tmp_path / "inbox"),
        "PARCEL_LEDGER": str(tmp_path / "ledger.db"),
    }
    run(installed["svc-b"] / "bin/python", "-m", "svc_b", "--once", cwd=tmp_path, env=env)
    assert "Usage" in run(installed["svc-report"] / "bin/parcel-report", "--help", cwd=tmp_path)


# -- requirements


def pinned(text: str) -> dict[str, tuple[str, list[str]]]:
    """Return version and hashes by name; markers must hold here (what is compared is for this Python and Linux)."""
    from packaging.requirements import Requirement

    found = {}
    for line in text.replace("\\\n", " ").splitlines():
        words = line.partition("#")[0].strip()
        if not words or (words.startswith("-") and not words.startswith("--hash")):
            continue
        head, *hashes = re.split(r"\s+--hash=", words)
        needed = Requirement(head)
        if needed.marker is None or needed.marker.evaluate():
            found[needed.name.lower().replace("_", "-")] = (str(needed.specifier), sorted(h.strip() for h in hashes))
    return found


@pytest.mark.parametrize("service", [s for s in SERVICES if (ROOT / f"services/{s}/uv.lock").exists()])
def test_requirements_are_those_that_uv_exports(sample: World, service: str) -> None:
    command = [
        find_uv_bin(),
        "export",
        "--frozen",
        "--no-dev",
        "--no-emit-project",
        "--no-emit-local",
        "--format",
        "requirements.txt",
    ]
    done = subprocess.run(command, cwd=sample.path(f"services/{service}"), capture_output=True, text=True)
    exported = (
        done.stdout
        if done.returncode == 0
        else run(*[c for c in command if c != "--no-emit-local"], cwd=sample.path(f"services/{service}"))
    )
    exported = "\n".join(line for line in exported.splitlines() if not line.startswith(("-e ", "./", "../")))
    assert pinned(sample.read(f".buildlib/requirements/{service}.txt")) == pinned(exported)


@pytest.fixture(scope="module")
def poetry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return Poetry with its export plugin, in a venv of its own."""
    venv = tmp_path_factory.mktemp("poetry") / "venv"
    run(find_uv_bin(), "venv", "-q", "--python", sys.executable, venv, cwd=venv.parent)
    run(
        find_uv_bin(),
        "pip",
        "install",
        "-q",
        "--python",
        venv,
        "poetry>=2.3,<3",
        "poetry-plugin-export>=1.9",
        cwd=venv.parent,
    )
    return venv / "bin/poetry"


@pytest.mark.parametrize("service", [s for s in SERVICES if (ROOT / f"services/{s}/poetry.lock").exists()])
def test_requirements_are_those_that_poetry_exports(sample: World, service: str, poetry: Path, tmp_path: Path) -> None:
    env = {**os.environ, "POETRY_CACHE_DIR": str(tmp_path), "POETRY_VIRTUALENVS_CREATE": "false"}
    exported = run(poetry, "--no-ansi", "export", cwd=sample.path(f"services/{service}"), env=env)
    local = "\n".join(line for line in exported.splitlines() if "@ file:" not in line)
    assert pinned(sample.read(f".buildlib/requirements/{service}.txt")) == pinned(local)


# -- locks that do not fit


@pytest.mark.parametrize(
    ("service", "command"), [("svc-a", "cd services/svc-a && poetry lock"), ("svc-b", "cd services/svc-b && uv lock")]
)
@pytest.mark.parametrize("how", ["stale", "missing"])
def test_a_stale_or_missing_lock_is_one_line_with_the_command_and_wheels_are_still_built(
    sample: World, service: str, command: str, how: str
) -> None:
    lock = f"services/{service}/{command.split()[-2]}.lock"
    try:
        sample.edit(f"services/{service}/pyproject.toml", "dependencies = [\n", 'dependencies = [\n    "attrs",\n')
        if how == "missing":
            sample.path(lock).unlink()
        done = sample.doit()
        assert done.code != 0
        assert (
            done.word(f"requirements:{service}") == "failed"
            and done.word(f"stage:{service}") == "skipped"
            and done.word(f"wheel:{service}") == "built"
        )
        assert done.err.count("\n") == 1 and f"run `{command}`" in done.err
        again = sample.doit()
        assert again.code != 0 and again.word(f"wheel:{service}") == ""
    finally:
        sample.git("checkout", "-q", ".")
    sample.good()
    assert sample.good().ran == []


def test_touching_a_lock_runs_nothing_and_a_comment_in_it_changes_no_requirement(sample: World) -> None:
    try:
        sample.path("services/svc-a/poetry.lock").touch()
        assert sample.good().ran == []
        sample.write("services/svc-b/uv.lock", sample.read("services/svc-b/uv.lock") + "\n# a comment\n")
        run = sample.good()
        assert run.ran == ["wheel:svc-b"] and run.word("wheel:svc-b") == "unchanged"
    finally:
        sample.git("checkout", "-q", ".")
        sample.good()


def test_another_services_part_of_a_shared_lock_changes_nothing_here(world: World) -> None:
    world.write(
        "pyproject.toml",
        world.read("pyproject.toml")
        + '\n[project]\nname = "top"\nversion = "0"\nrequires-python = ">=3.11"\n[tool.uv]\npackage = false\n[tool.uv.workspace]\nmembers = ["libs/*", "services/*"]\n',
    )
    world.library("geo")
    uses = "[tool.uv.sources]\ngeo = {workspace = true}\n"
    world.service("one", "geo", "idna==3.6", extra=uses)
    world.service("two", "geo", "attrs==23.1.0", extra=uses)
    lock = (find_uv_bin(), "lock", "-q")
    run(*lock, cwd=world.root)
    world.commit()
    world.good()
    assert "attrs==23.1.0" in world.read("services/two/dist/requirements.txt") and "attrs" not in world.read(
        "services/one/dist/requirements.txt"
    )
    world.edit("services/two/pyproject.toml", "23.1.0", "23.2.0")
    stale = world.doit("stage:one")
    assert stale.code == 0 and stale.ran == []
    assert "run `uv lock`" in world.doit("stage:two").err
    run(*lock, cwd=world.root)
    done = world.good("stage")
    assert done.ran == ["requirements:two", "stage:two"] and done.reason("requirements:two") == "attrs 23.1.0 -> 23.2.0"


# -- local stays local


def test_a_library_named_like_a_public_package_is_never_looked_up(world: World) -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    asked: list[str] = []

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/simple/"
    try:
        world.library("requests")
        world.library("geo", "requests")
        world.service("svc", "geo", "requests==1.0")
        world.write(
            "libs/needy/pyproject.toml",
            '[project]\nname = "needy"\nversion = "1"\n[build-system]\nrequires = ["requests", "never-heard-of"]\nbuild-backend = "x"\n',
        )
        done = world.doit(environ={"UV_INDEX_URL": url, "UV_DEFAULT_INDEX": url, "PIP_INDEX_URL": url})
        assert done.word("stage:svc") == "built" and done.word("wheel:needy") == "failed"
        assert "the build requirement never-heard-of is not on the package index" in done.err
        assert not [path for path in asked if "requests" in path or "geo" in path]
    finally:
        server.shutdown()
        server.server_close()


# -- buildlib.lock


def test_a_new_backend_extends_the_lock_without_moving_others_and_a_plan_only_says_so(world: World) -> None:
    world.write("buildlib.lock", (ROOT / "buildlib.lock").read_bytes())
    before = world.read("buildlib.lock")
    world.write(
        "libs/fl/pyproject.toml",
        '[project]\nname = "fl"\nversion = "1"\ndescription = "x"\n[build-system]\nrequires = ["flit_core>=3.11,<5"]\nbuild-backend = "flit_core.buildapi"\n',
    )
    world.write("libs/fl/fl.py", "")
    planned = json.loads(world.doit("plan", "--json").out)
    assert [p["task"] for p in planned] == ["wheel:fl"] and "buildlib.lock" in planned[0]["reason"]
    assert world.read("buildlib.lock") == before
    world.good()
    after = world.read("buildlib.lock")
    assert "flit-core" in after and set(before.splitlines()) <= set(after.splitlines())
    world.good("lock")
    assert world.read("buildlib.lock") == after


def test_conflict_markers_in_the_lock_are_one_line(world: World) -> None:
    world.library("a")
    world.write("buildlib.lock", "<<<<<<< ours\nversion = 1\n=======\nversion = 1\n>>>>>>> theirs\n")
    done = world.doit()
    assert (
        done.code != 0
        and done.err.removeprefix("ERROR: ").startswith(
            "buildlib.lock: it has the conflict markers of a merge; take either side"
        )
        and done.err.count("\n") == 1
    )
