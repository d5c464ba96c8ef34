"""Law 1 by random edits: after any sequence of them, a build leaves what one of the same tree from nothing leaves.

Each sequence has a seed, which its name shows. After every edit the plan is asked, `doit` runs, a copy of the tree is
built from nothing with no store, and both must agree; what ran must have been planned; and a following `doit` must run
nothing.
"""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from world import Run, World

STEPS = 5


class Edits:
    """Random edits of a world; each method is one kind of edit and returns what it did."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.random, self.count = world, random.Random(seed), 0
        self.undo: list[tuple[Path, bytes, int]] = []

    def any_edit(self) -> str:
        """Do one edit."""
        self.count += 1
        kinds = sorted(name for name in dir(Edits) if name.startswith("do_"))
        while True:
            kind = self.random.choice(kinds)
            did = getattr(self, kind)()
            if did:
                return f"{kind[3:]} {did}"

    # -- what may be edited

    def projects(self) -> list[str]:
        """Return the directories of all projects."""
        return sorted(str(p.parent.relative_to(self.world.root)) for p in self.world.root.glob("*/*/pyproject.toml"))

    def project(self, kind: str = "") -> str:
        """Return one of them."""
        return self.random.choice([p for p in self.projects() if p.startswith(kind)])

    def package(self, project: str) -> str:
        """Return the folder of a project's package."""
        return f"{project}/{project.rpartition('/')[2].replace('-', '_')}"

    def source(self) -> Path | None:
        """Return one regular source file."""
        found = [
            p
            for p in self.world.root.glob("*/*/*/**/*.py")
            if p.is_file() and not p.is_symlink() and "dist" not in p.parts
        ]
        found = [p for p in found if "backend" not in p.parts]
        return self.random.choice(sorted(found)) if found else None

    def output(self) -> Path | None:
        """Return one file in a `dist/`."""
        found = [p for p in self.world.root.glob("*/*/dist/**/*") if p.is_file() and not p.is_symlink()]
        return self.random.choice(sorted(found)) if found else None

    def name(self, path: Path) -> str:
        """Return a path relative to the root."""
        return str(path.relative_to(self.world.root))

    # -- edits of sources

    def do_change(self) -> str | None:
        path = self.source()
        if path is None:
            return None
        self.undo.append((path, path.read_bytes(), path.stat().st_mode))
        path.write_text(f"VALUE = {self.count}\n")
        return self.name(path)

    def do_change_with_the_time_kept(self) -> str | None:
        path = self.source()
        if path is None:
            return None
        before = path.stat()
        data = path.read_bytes()
        path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:] if len(data) > 1 else b"#\n")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return self.name(path)

    def do_change_of_whole_seconds(self) -> str | None:
        path = self.source()
        if path is None:
            return None
        data = path.read_bytes()
        path.write_bytes(data[:-2] + bytes([data[-2] ^ 3]) + data[-1:] if len(data) > 1 else b"#\n")
        when = (path.stat().st_mtime_ns // 10**9 + self.random.choice([-100_000, 0, 100_000])) * 10**9
        os.utime(path, ns=(when, when))
        return self.name(path)

    def do_add(self) -> str:
        path = f"{self.package(self.project())}/new{self.count}.py"
        self.world.write(path, f"NEW = {self.count}\n")
        return path

    def do_add_in_a_new_folder(self) -> str:
        path = f"{self.package(self.project())}/sub{self.count}/deep/new.json"
        self.world.write(path, "{}\n")
        return path

    def do_delete(self) -> str | None:
        path = self.source()
        if path is None:
            return None
        self.undo.append((path, path.read_bytes(), path.stat().st_mode))
        path.unlink()
        return self.name(path)

    def do_rename(self) -> str | None:
        path = self.source()
        if path is None:
            return None
        path.rename(path.with_name(f"renamed{self.count}.py"))
        return self.name(path)

    def do_revert(self) -> str | None:
        if not self.undo:
            return None
        path, data, mode = self.undo.pop()
        if path.is_dir() or not path.parent.is_dir():
            return None
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
        return self.name(path)

    def do_chmod(self) -> str | None:
        path = self.source()
        if path is None:
            return None
        path.chmod(path.stat().st_mode ^ 0o111)
        return self.name(path)

    def do_touch(self) -> str | None:
        path = self.source()
        if path is None:
            return None
        path.touch()
        return self.name(path)

    def do_replace_by_a_copy(self) -> str | None:
        path = self.source()
        if path is None:
            return None
        copy = path.with_name("copy.tmp")
        shutil.copy2(path, copy)
        os.replace(copy, path)
        return self.name(path)

    def do_file_to_directory(self) -> str | None:
        path = self.source()
        if path is None:
            return None
        path.unlink()
        self.world.write(f"{self.name(path)}/inside.py", f"INSIDE = {self.count}\n")
        return self.name(path)

    def do_directory_to_file(self) -> str | None:
        found = [p for p in self.world.root.glob("*/*/*/*.py") if p.is_dir()]
        if not found:
            return None
        path = self.random.choice(sorted(found))
        shutil.rmtree(path)
        path.write_text(f"FILE = {self.count}\n")
        return self.name(path)

    def do_link(self) -> str | None:
        path = self.source()
        if path is None:
            return None
        link = path.with_name(f"link{self.count}.py")
        link.symlink_to(path.name)
        return self.name(link)

    def do_link_to_a_shared_folder(self) -> str:
        self.world.write("shared/first.json", "1\n")
        link = self.world.path(f"{self.package(self.project())}/shared{self.count}")
        link.symlink_to("../../../shared")
        return self.name(link)

    def do_add_to_the_shared_folder(self) -> str:
        self.world.write(f"shared/more{self.count}.json", "2\n")
        return "shared"

    def do_ignored_file(self) -> str:
        path = f"{self.package(self.project())}/noise{self.count}.ignored.py"
        self.world.write(path, "NOISE = 1\n")
        return path

    def do_ignore_more(self) -> str:
        directory = self.project()
        self.world.write(f"{directory}/.gitignore", f"new{self.random.randint(0, 8)}*.py\nrenamed*\n")
        return directory

    def do_build_leftovers(self) -> str:
        directory = self.project()
        self.world.write(f"{directory}/build/lib/old{self.count}.py", "OLD = 1\n")
        self.world.write(f"{directory}/x.egg-info/SOURCES.txt", "old\n")
        self.world.write(f"{self.package(directory)}/__pycache__/x.py", "OLD = 1\n")
        return directory

    # -- edits of projects

    def do_version(self) -> str:
        directory = self.project()
        self._set(directory, "version", f'"{self.count}.{self.random.randint(0, 2)}"')
        return directory

    def do_depend(self) -> str | None:
        """Let a project depend on other libraries, never against the order of names, so that there is no cycle."""
        directory = self.project()
        below = [p.rpartition("/")[2] for p in self.projects() if p.startswith("libs") and (p < directory)]
        chosen = self.random.sample(below, min(len(below), self.random.randint(0, 2)))
        self._set(directory, "dependencies", json.dumps(chosen))
        return f"{directory} on {chosen}"

    def do_new_library(self) -> str:
        return self.world.library(f"z{self.count}")

    def do_remove_project(self) -> str | None:
        candidates = [p for p in self.projects() if not self._is_needed(p)]
        if len(candidates) < 3:
            return None
        directory = self.random.choice(candidates)
        if self.random.random() < 0.5:
            shutil.rmtree(self.world.path(directory))
        else:
            self.world.path(f"{directory}/pyproject.toml").unlink()
        return directory

    def do_rename_project(self) -> str | None:
        candidates = [p for p in self.projects() if not self._is_needed(p)]
        if not candidates:
            return None
        directory = self.random.choice(candidates)
        self._set(directory, "name", f'"{directory.rpartition("/")[2]}-v{self.count}"')
        return directory

    def do_configure_inputs(self) -> str:
        directory = self.project()
        path = self.world.path(f"{directory}/pyproject.toml")
        text = path.read_text().partition("[tool.buildlib]")[0]
        path.write_text(text + self.random.choice(["", '[tool.buildlib]\ninputs = ["**/*.ignored.py"]\n']))
        return directory

    def do_configure_kinds(self) -> str:
        path = self.world.path("pyproject.toml")
        text = path.read_text().partition("[tool.buildlib]")[0]
        services = self.random.choice([[], ["services/*"], ["services/*", "libs/d"], ["services/svc"]])
        libs = ["libs/*"] if services != ["services/svc"] else ["libs/*", "services/tool"]
        path.write_text(
            text
            + (f"[tool.buildlib]\nservices = {json.dumps(services)}\nlibs = {json.dumps(libs)}\n" if services else "")
        )
        return f"{services} {libs}"

    def _is_needed(self, directory: str) -> bool:
        name = f'"{directory.rpartition("/")[2]}"'
        return any(name in self.world.read(f"{p}/pyproject.toml").partition("dependencies")[2] for p in self.projects())

    def _set(self, directory: str, key: str, value: str) -> None:
        path = self.world.path(f"{directory}/pyproject.toml")
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(f"{key} = {value}\n" if line.startswith(f"{key} = ") else line for line in lines))

    # -- edits of outputs

    def do_output_deleted(self) -> str | None:
        path = self.output()
        if path is not None:
            path.unlink()
        return path and self.name(path)

    def do_output_truncated(self) -> str | None:
        path = self.output()
        if path is not None:
            os.truncate(path, self.random.randint(0, path.stat().st_size))
        return path and self.name(path)

    def do_output_edited(self) -> str | None:
        path = self.output()
        if path is None or not path.stat().st_size:
            return None
        before = path.stat()
        data = bytearray(path.read_bytes())
        data[self.random.randrange(len(data))] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return self.name(path)

    def do_output_replaced_by_a_link(self) -> str | None:
        path = self.output()
        if path is None:
            return None
        copy = self.world.write(f"elsewhere/{path.name}", path.read_bytes())
        path.unlink()
        path.symlink_to(copy)
        return self.name(path)

    def do_outputs_gone(self) -> str:
        directory = self.project()
        shutil.rmtree(self.world.path(f"{directory}/dist"), ignore_errors=True)
        return directory

    def do_state_gone(self) -> str:
        shutil.rmtree(self.world.path(".buildlib"), ignore_errors=True)
        return ".buildlib"

    def do_commit(self) -> str:
        self.world.commit()
        return "all"


def from_nothing(world: World, place: Path) -> tuple[Run, dict[str, bytes]]:
    """Build a copy of the working tree, with its git state and none of ours; return how that went and what it made."""
    outputs = [
        world.root / ".buildlib",
        *(p.parent / "dist" for p in world.root.glob("*/*/pyproject.toml")),
        *world.root.glob("*/*/dist"),
    ]

    def ignore(folder: str, names: list[str]) -> set[str]:
        return {n for n in names if Path(folder, n) in outputs}

    shutil.copytree(world.root, place, symlinks=True, ignore=ignore)
    fresh = World.__new__(World)
    fresh.root, fresh.environ = place, {**world.environ, "BUILDLIB_STORE": "off"}
    run = fresh.doit()
    made = fresh.outputs()
    shutil.rmtree(place)
    return run, made


def check(world: World, place: Path, did: str) -> None:
    """Plan, build, build from nothing, build again; and compare."""
    plan = {p["task"]: p["certainty"] for p in json.loads(world.good("plan", "--json").out)}
    run = world.doit()
    fresh, expected = from_nothing(world, place)
    assert run.code == fresh.code, (did, run.out, run.err, fresh.err)
    assert "Traceback" not in run.err and "report it" not in run.err, (did, run.err)
    if run.code == 0:
        made = world.outputs()
        assert sorted(made) == sorted(expected), (did, run.out, run.err)
        assert [p for p in made if made[p] != expected[p]] == [], (did, run.out)
    happened = {task for task, _, _ in run.steps}
    assert happened <= set(plan), (did, plan, run.out)
    assert {t for t, c in plan.items() if c == "will"} <= happened, (did, plan, run.out)
    again = world.doit()
    assert [s for s in again.steps if s[1] not in ("failed", "skipped")] == [], (did, again.out)


def build_world(make: Callable[..., World], seed: int) -> World:
    """Return a world of a few projects, with or without a store."""
    world = make(f"w{seed}", **({} if seed % 2 else {"store": "off"}))
    world.write(".gitignore", ".buildlib/\ndist/\n__pycache__/\n*.ignored.py\n")
    world.library("a")
    world.library("b", "a")
    world.library("c", *(["a"] if seed % 3 else []))
    world.library("d")
    world.service("svc", "b")
    world.service("tool", "c", "d")
    world.commit()
    return world


def sequence(make: Callable[..., World], tmp_path: Path, seed: int, steps: int) -> None:
    """Do one sequence of edits."""
    world = build_world(make, seed)
    check(world, tmp_path / "fresh", "first build")
    edits = Edits(world, seed)
    history: list[str] = []
    for _ in range(steps):
        history += [edits.any_edit() for _ in range(edits.random.choice([1, 1, 2, 3]))]
        check(world, tmp_path / "fresh", f"seed {seed}: " + "; ".join(history))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(int(os.environ.get("LAWS_FIRST", "0")), int(os.environ.get("LAWS_LAST", "10"))))
def test_any_sequence_of_edits_ends_as_a_build_from_nothing(
    worlds: Callable[..., World], tmp_path: Path, seed: int
) -> None:
    sequence(worlds, tmp_path, seed, STEPS)
