"""Laws 5 and 6: what an action sees, and equal bytes on two machines."""

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from world import World

BACKENDS = {
    "poetry": ("poetry-core>=2.0", "poetry.core.masonry.api"),
    "hatch": ("hatchling>=1.20", "hatchling.build"),
    "setup": ("setuptools>=70", "setuptools.build_meta"),
    "flit": ("flit-core>=3.9", "flit_core.buildapi"),
    "uv": ("uv-build>=0.9", "uv_build"),
}


def fill(world: World, names: list[str]) -> None:
    """Write a project for each backend, in this order, and one that they depend on, each in its own style."""
    declared = {
        "poetry": '[tool.poetry.dependencies]\nshared = {path = "../shared", develop = true}\n',
        "uv": '[tool.uv.sources]\nshared = {workspace = true}\n[tool.uv.build-backend]\nmodule-root = ""\n',
        "hatch": "[tool.hatch.metadata]\nallow-direct-references = true\n",
    }
    for name in names:
        requires, backend = BACKENDS[name]
        needs = "shared @ {root:uri}/../shared" if name == "hatch" else "shared"
        world.write(
            f"libs/{name}-lib/pyproject.toml",
            f'[project]\nname = "{name}-lib"\nversion = "1.0"\ndescription = "x"\ndependencies = ["{needs}"]\n'
            f'[build-system]\nrequires = ["{requires}"]\nbuild-backend = "{backend}"\n' + declared.get(name, ""),
        )
        world.write(f"libs/{name}-lib/{name}_lib/__init__.py", '"""A library."""\n')
        world.write(f"libs/{name}-lib/{name}_lib/tool.py", "def main(): ...\n").chmod(0o755)
        world.write(f"libs/{name}-lib/{name}_lib/data/x.txt", "x\n")
    world.library("shared")
    world.service("svc", *(f"{name}-lib" for name in sorted(names)))


def disturb(world: World, home: Path) -> dict[str, str]:
    """Put into the world and around it what must have no effect; return the environment."""
    home.mkdir()
    (home / "ignore").write_text("*.py\n*.txt\n")
    (home / ".gitconfig").write_text(f"[core]\n\texcludesFile = {home}/ignore\n")
    (home / ".pydistutils.cfg").write_text("[bdist_wheel]\nbuild_number = 7\n")
    world.write(".git/info/exclude", "*.py\n")
    for name in BACKENDS:
        module = f"libs/{name}-lib/{name}_lib"
        world.write(f"{module}/__pycache__/old.cpython-311.pyc", b"old")
        world.write(f"libs/{name}-lib/build/lib/{name}_lib/gone.py", "GONE = 1\n")
        world.write(f"libs/{name}-lib/{name}_lib.egg-info/SOURCES.txt", f"{name}_lib/gone.py\n")
        world.write(f"libs/{name}-lib/.venv/lib/gone.py", "GONE = 1\n")
        world.write(f"{module}/secret.env", "SECRET\n")
    return {
        "HOME": str(home), "TZ": "Asia/Tokyo", "LANG": "tr_TR.UTF-8", "LC_ALL": "C", "USER": "x",
        "PYTHONHASHSEED": "77", "GIT_DIR": "/nonsense", "GIT_WORK_TREE": "/nonsense",
        "SOURCE_DATE_EPOCH": "1700000000", "CFLAGS": "-O0",
        "XDG_CONFIG_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "", "GIT_INDEX_FILE": "/nonsense/index",
    }  # fmt: skip


@pytest.mark.slow
def test_two_machines_make_the_same_bytes(tmp_path: Path, cache: Path) -> None:
    made = []
    for number, umask in enumerate((0o022, 0o077, 0o000)):
        place = tmp_path / ("short" if number == 0 else f"a/much/longer path/{number}") / "w"
        names = sorted(BACKENDS, reverse=bool(number))
        before = os.umask(umask)
        try:
            world = World(place, cache)
            world.write(".gitignore", ".buildlib/\ndist/\n__pycache__/\n*.env\n")
            if made:
                shutil.copy(tmp_path / "short/w/buildlib.lock", world.path("buildlib.lock"))
            fill(world, names)
            environ = disturb(world, tmp_path / f"home{number}") if number else {}
            run = world.good(environ=environ)
            assert run.counts["built"] == len(BACKENDS) + 4, run.out
        finally:
            os.umask(before)
        made.append(world.outputs())
        assert_no_path_of_this_machine(world, tmp_path)
    assert sorted(made[0]) == sorted(made[1]) == sorted(made[2])
    assert [p for p in made[0] if made[0][p] != made[1][p] or made[0][p] != made[2][p]] == []


def assert_no_path_of_this_machine(world: World, tmp_path: Path) -> None:
    """No file in any wheel names the directory of this workspace."""
    for name in world.outputs():
        if name.endswith(".whl"):
            with zipfile.ZipFile(world.path(name)) as wheel:
                found = [n for n in wheel.namelist() if os.fsencode(tmp_path) in wheel.read(n)]
                gone = [n for n in wheel.namelist() if "gone" in n or "secret" in n or "pyc" in n]
            assert (found, gone) == ([], []), name


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_build_opens_nothing_of_the_workspace_outside_its_room(worlds: Callable[..., World], tmp_path: Path) -> None:
    world = worlds("w", store="off")
    fill(world, ["poetry"])
    world.good()
    world.write("libs/poetry-lib/poetry_lib/__init__.py", "NEW = 1\n")
    log = tmp_path / "strace"
    command = ["strace", "-f", "-q", "-s", "4096", "-e", "trace=execve,open,openat,clone,clone3,vfork", "-o", str(log)]
    done = subprocess.run(
        [*command, *world.command("-n", "0", "wheel:poetry-lib")], cwd=world.root, env=world.environ, check=False
    )
    assert done.returncode == 0
    lines = [line.split(None, 1) for line in log.read_text(errors="replace").splitlines()]
    main = lines[0][0]
    workers = {
        pid for pid, text in lines if pid != main and "execve(" in text and ("worker.py" in text or "guard.py" in text)
    }
    for pid, text in lines:
        if pid in workers and "clone" in text and text.rsplit("= ", 1)[-1].isdigit():
            workers.add(text.rsplit("= ", 1)[-1])
    opened = [text.split('"')[1] for pid, text in lines if pid in workers and "open" in text and '"' in text]
    assert any("/root/" in path for path in opened)
    outside = [p for p in opened if p.startswith(str(world.root)) and "/.buildlib/tmp/" not in p]
    assert outside == []
