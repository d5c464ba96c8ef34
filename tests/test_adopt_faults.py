"""One tiny workspace for each fault: one line with place, cause and cure; nothing above it is written, all else is built."""
# ruff: noqa: E501 (each line is one that a user reads)

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from adopt import WORKSPACES, Repository
from world import BACKEND, World

FAULTS = WORKSPACES / "faults"


@dataclass(frozen=True)
class Fault:
    """What is wrong in a workspace.

    Attributes:
        arrange: makes it. says: the one line. failed: the steps that fail; skipped: those above them.
        unwritten: directories of projects in whose `dist/` nothing may be written.
    """

    arrange: Callable[[World], object]
    says: str
    failed: set[str]
    skipped: set[str]
    unwritten: set[str] = field(default_factory=lambda: {"services/uses"})


def library(world: World, path: str, more: str = "", **values: object) -> None:
    """Write a project with the cheap backend at `path`."""
    name = str(values.get("name", Path(path).name))
    world.library(Path(path).name, *values.get("needs", ()), folder=str(Path(path).parent), extra=more)  # type: ignore[misc]
    world.edit(f"{path}/pyproject.toml", f'name = "{Path(path).name}"', f'name = "{name}"')


def used(name: str) -> Callable[[World], None]:
    """Return what adds a service that needs the project `name`."""
    return lambda world: library(world, "services/uses", needs=[name])


def locked(
    file: str,
    pyproject: str = "uses.toml",
    to: str = "",
    edited: tuple[str, str] = ("", ""),
    lock: tuple[str, str] = ("", ""),
) -> Callable[[World], None]:
    """Return what adds a service with a real lock, `file`, as `to`; in its pyproject, or in the lock, old becomes new."""
    place = to or file

    def arrange(world: World) -> None:
        backend = BACKEND
        if pyproject == "uses-poetry-1.toml":
            backend = backend.replace('["project"]', '["tool"]["poetry"]').replace('("dependencies", ())', '("", ())')
        world.write("services/uses/backend/tiny.py", backend)
        world.write("services/uses/uses/__init__.py", "")
        world.write("services/uses/pyproject.toml", (FAULTS / pyproject).read_bytes())
        if file:
            world.write(f"services/uses/{place}", (FAULTS / file).read_bytes())
        for name, (old, new) in (("pyproject.toml", edited), (place, lock)):
            if old:
                world.edit(f"services/uses/{name}", old, new)

    return arrange


def both(*arranges: Callable[[World], object]) -> Callable[[World], None]:
    return lambda world: [arrange(world) for arrange in arranges] and None


def bad(data: bytes | str) -> Callable[[World], object]:
    """Return what writes a pyproject of these bytes, and a service that needs its project."""
    return both(lambda world: world.write("libs/bad/pyproject.toml", data), used("bad"))


def configured(world: World) -> None:
    world.write(
        "pyproject.toml",
        world.read("pyproject.toml") + '[tool.buildlib]\nlibs = ["libs/*"]\nservices = ["services/*"]\n',
    )


def more(world: World) -> None:
    """Let the library that is in each lock need one more package."""
    world.edit("libs/base/pyproject.toml", "dependencies = []", 'dependencies = ["attrs>=23"]')


USES = {"wheel:uses", "requirements:uses", "stage:uses"}
LOCK = {"requirements:uses"}, {"stage:uses"}

ATTRS = ('"base", ', '"base", "attrs>=23", ')
GIT = """[package.source]
type = "git"
url = "https://example.com/kjd/idna.git"
reference = "v3"
resolved_reference = "0123456789abcdef0123456789abcdef01234567"
"""

PYLOCK_OF_GIT = """lock-version = "1.0"
created-by = "uv"
[[packages]]
name = "idna"
version = "3.20"
vcs = { type = "git", url = "https://example.com/kjd/idna.git", commit-id = "0123456789abcdef0123456789abcdef01234567" }
"""

CASES = {
    "two-projects-with-one-name": Fault(
        both(
            lambda w: library(w, "libs/twin"),
            lambda w: library(w, "libs/other", name="twin"),
            used("twin"),
        ),
        "libs/twin/pyproject.toml: libs/other/pyproject.toml has the same name, twin; rename one of the two",
        {"wheel:twin"},
        USES,
        {"libs/twin", "libs/other", "services/uses"},
    ),
    "cycle-of-three": Fault(
        both(
            lambda w: library(w, "libs/x", needs=["y"]),
            lambda w: library(w, "libs/y", needs=["z"]),
            lambda w: library(w, "libs/z", needs=["x"]),
            used("x"),
        ),
        "libs/x/pyproject.toml: its dependencies form a cycle: x -> y -> z -> x; remove one of them",
        {"wheel:x", "wheel:y", "wheel:z"},
        USES,
        {"libs/x", "libs/y", "libs/z", "services/uses"},
    ),
    "cycle-with-a-service": Fault(
        both(lambda w: library(w, "libs/x", needs=["uses"]), used("x")),
        "services/uses/pyproject.toml: its dependencies form a cycle: uses -> x -> uses; remove one of them",
        {"wheel:x", "wheel:uses"},
        {"requirements:uses", "stage:uses"},
        {"libs/x", "services/uses"},
    ),
    "path-dependency-that-is-not-there": Fault(
        both(
            lambda w: library(w, "libs/lost", '[tool.uv.sources]\ngone = {path = "../gone"}\n', needs=["gone"]),
            used("lost"),
        ),
        "libs/lost/pyproject.toml: the path dependency gone points to libs/gone, where no project is; correct the path, or add the project",
        {"wheel:lost"},
        USES,
        {"libs/lost", "services/uses"},
    ),
    "pyproject-is-a-directory": Fault(
        both(lambda w: w.write("libs/bad/pyproject.toml/x", ""), used("bad")),
        "libs/bad/pyproject.toml: cannot be read (Is a directory); make it a readable file, or remove it",
        {"wheel:bad"},
        USES,
        {"libs/bad", "services/uses"},
    ),
    "pyproject-is-a-broken-link": Fault(
        both(
            lambda w: w.write("libs/bad/bad.py", ""),
            lambda w: w.path("libs/bad/pyproject.toml").symlink_to("nowhere.toml"),
            used("bad"),
        ),
        "libs/bad/pyproject.toml: cannot be read (No such file or directory); make it a readable file, or remove it",
        {"wheel:bad"},
        USES,
        {"libs/bad", "services/uses"},
    ),
    "pyproject-not-utf-8": Fault(
        bad('[project]\nname = "bad"\nversion = "1"\ndescription = "gr\xf6\xdfer"\n'.encode("latin-1")),
        "libs/bad/pyproject.toml:4: not UTF-8; save the file as UTF-8",
        {"wheel:bad"},
        USES,
        {"libs/bad", "services/uses"},
    ),
    "pyproject-no-toml": Fault(
        bad('[project\nname = "bad"\n'),
        "libs/bad/pyproject.toml:1: not valid TOML (Expected ']' at the end of a table declaration (at line 1, column 9)); mend the syntax",
        {"wheel:bad"},
        USES,
        {"libs/bad", "services/uses"},
    ),
    "pyproject-without-a-project-under-a-glob": Fault(
        both(configured, bad("[tool.black]\nline-length = 100\n")),
        "libs/bad/pyproject.toml: no [project] table; add one with name and version",
        {"wheel:bad"},
        USES,
        {"libs/bad", "services/uses"},
    ),
    "pyproject-of-wrong-types": Fault(
        bad('[project]\nname = "bad"\nversion = "1"\ndependencies = "base"\n'),
        'libs/bad/pyproject.toml: dependencies is no list of strings; write dependencies = ["…"]',
        {"wheel:bad"},
        USES,
        {"libs/bad", "services/uses"},
    ),
    "sibling-version-contradicts": Fault(
        lambda w: library(w, "services/uses", needs=["base>=2"]),
        "services/uses/pyproject.toml: it wants base>=2, but libs/base/pyproject.toml has version 1.0; change one of the two",
        {"wheel:uses", "requirements:uses"},
        {"stage:uses"},
    ),
    "no-lock-though-needed": Fault(
        locked(""),
        "services/uses/pyproject.toml: it needs idna, and there is no lock; run `cd services/uses && uv lock`",
        *LOCK,
    ),
    "no-poetry-lock-though-needed": Fault(
        locked("", "uses-poetry.toml"),
        "services/uses/pyproject.toml: it needs idna, and there is no lock; run `cd services/uses && poetry lock`",
        *LOCK,
    ),
    "stale-uv": Fault(
        locked("uv.lock", edited=ATTRS),
        "services/uses/uv.lock: it is older than services/uses/pyproject.toml: attrs>=23 is not in it; run `cd services/uses && uv lock`",
        *LOCK,
    ),
    "stale-poetry-2": Fault(
        locked("poetry.lock", "uses-poetry.toml", edited=('"base", ', '"base", "attrs>=23", ')),
        "services/uses/poetry.lock: it is older than services/uses/pyproject.toml (the content-hash differs); run `cd services/uses && poetry lock`",
        *LOCK,
    ),
    "stale-poetry-1": Fault(
        locked(
            "poetry-1.lock",
            "uses-poetry-1.toml",
            "poetry.lock",
            edited=('idna = "^3.0"', 'idna = "^3.0"\nattrs = ">=23"'),
        ),
        "services/uses/poetry.lock: it is older than services/uses/pyproject.toml (the content-hash differs); run `cd services/uses && poetry lock`",
        *LOCK,
    ),
    "stale-pylock": Fault(
        locked("pylock.toml", edited=ATTRS),
        "services/uses/pylock.toml: it is older than services/uses/pyproject.toml: attrs>=23 is not in it; run `cd services/uses && uv pip compile --universal --format pylock.toml --python-version 3.11 -o pylock.toml requirements.in`",
        *LOCK,
    ),
    "stale-requirements": Fault(
        locked("requirements.txt", edited=ATTRS),
        "services/uses/requirements.txt: it is older than services/uses/pyproject.toml: attrs>=23 is not in it; run `cd services/uses && uv pip compile --universal --generate-hashes --python-version 3.11 -o requirements.txt requirements.in`",
        *LOCK,
    ),
    "stale-for-a-new-library": Fault(
        both(lambda w: library(w, "libs/mid"), locked("uv.lock", edited=('"base", ', '"base", "mid", '))),
        "services/uses/uv.lock: it is older than services/uses/pyproject.toml: mid is not in it; run `cd services/uses && uv lock`",
        *LOCK,
    ),
    "stale-for-what-a-library-needs-uv": Fault(
        both(more, locked("uv.lock")),
        "services/uses/uv.lock: it is older than libs/base/pyproject.toml: attrs>=23 is not in it; run `cd services/uses && uv lock`",
        *LOCK,
    ),
    "stale-for-what-a-library-needs-poetry-2": Fault(
        both(more, locked("poetry.lock", "uses-poetry.toml")),
        "services/uses/poetry.lock: it is older than libs/base/pyproject.toml: attrs>=23 is not in it; run `cd services/uses && poetry lock`",
        *LOCK,
    ),
    "stale-for-what-a-library-needs-poetry-1": Fault(
        both(more, locked("poetry-1.lock", "uses-poetry-1.toml", "poetry.lock")),
        "services/uses/poetry.lock: it is older than libs/base/pyproject.toml: attrs>=23 is not in it; run `cd services/uses && poetry lock`",
        *LOCK,
    ),
    "stale-for-what-a-library-needs-pylock": Fault(
        both(more, locked("pylock.toml")),
        "services/uses/pylock.toml: it is older than libs/base/pyproject.toml: attrs>=23 is not in it; run `cd services/uses && uv pip compile --universal --format pylock.toml --python-version 3.11 -o pylock.toml requirements.in`",
        *LOCK,
    ),
    "stale-for-what-a-library-needs-requirements": Fault(
        both(more, locked("requirements.txt")),
        "services/uses/requirements.txt: it is older than libs/base/pyproject.toml: attrs>=23 is not in it; run `cd services/uses && uv pip compile --universal --generate-hashes --python-version 3.11 -o requirements.txt requirements.in`",
        *LOCK,
    ),
    "older-than-wanted-uv": Fault(
        locked("uv.lock", edited=("idna>=3", "idna>=99")),
        "services/uses/uv.lock: it is older than services/uses/pyproject.toml: idna>=99 is not in it; run `cd services/uses && uv lock`",
        *LOCK,
    ),
    "older-than-wanted-pylock": Fault(
        locked("pylock.toml", edited=("idna>=3", "idna>=99")),
        "services/uses/pylock.toml: it is older than services/uses/pyproject.toml: idna>=99 is not in it, which has idna 3.20; run `cd services/uses && uv pip compile --universal --format pylock.toml --python-version 3.11 -o pylock.toml requirements.in`",
        *LOCK,
    ),
    "older-than-wanted-requirements": Fault(
        locked("requirements.txt", edited=("idna>=3", "idna>=99")),
        "services/uses/requirements.txt: it is older than services/uses/pyproject.toml: idna>=99 is not in it, which has idna 3.20; run `cd services/uses && uv pip compile --universal --generate-hashes --python-version 3.11 -o requirements.txt requirements.in`",
        *LOCK,
    ),
    "unknown-version-uv": Fault(
        locked("uv.lock", lock=("version = 1\n", "version = 9\n")),
        "services/uses/uv.lock: its version is 9, this reads version 1; run `cd services/uses && uv lock` with a uv that writes version 1",
        *LOCK,
    ),
    "unknown-version-poetry": Fault(
        locked("poetry.lock", "uses-poetry.toml", lock=('"2.1"', '"9.0"')),
        "services/uses/poetry.lock: its lock-version is '9.0', this reads 1.0, 1.1, 2.0 and 2.1; run `cd services/uses && poetry lock` with Poetry 2",
        *LOCK,
    ),
    "unknown-version-pylock": Fault(
        locked("pylock.toml", lock=('"1.0"', '"9.0"')),
        "services/uses/pylock.toml: pylock version 9.0 is not supported; lock with a tool that writes lock-version 1.0",
        *LOCK,
    ),
    "git-source-uv": Fault(
        locked(
            "uv.lock",
            lock=(
                'registry = "https://pypi.org/simple"',
                'git = "https://example.com/kjd/idna?rev=v3#0123456789abcdef0123456789abcdef01234567"',
            ),
        ),
        "services/uses/uv.lock: idna comes from git, which has no hash; depend on a release of it from an index or on an archive by URL, then run `cd services/uses && uv lock`",
        *LOCK,
    ),
    "git-source-poetry": Fault(
        locked("poetry.lock", "uses-poetry.toml", lock=("[metadata]\n", GIT + "\n[metadata]\n")),
        "services/uses/poetry.lock: idna comes from git, which has no hash; depend on a release of it from an index or on an archive by URL, then run `cd services/uses && poetry lock`",
        *LOCK,
    ),
    "git-source-poetry-1": Fault(
        locked("poetry-1.lock", "uses-poetry-1.toml", "poetry.lock", lock=("[metadata]\n", GIT + "\n[metadata]\n")),
        "services/uses/poetry.lock: idna comes from git, which has no hash; depend on a release of it from an index or on an archive by URL, then run `cd services/uses && poetry lock`",
        *LOCK,
    ),
    "git-source-pylock": Fault(
        lambda w: (locked("pylock.toml")(w), w.write("services/uses/pylock.toml", PYLOCK_OF_GIT)),
        "services/uses/pylock.toml: idna comes from git, which has no hash; depend on a release of it from an index or on an archive by URL, then run `cd services/uses && uv pip compile --universal --generate-hashes pyproject.toml -o pylock.toml`",
        *LOCK,
    ),
    "git-source-requirements": Fault(
        locked(
            "requirements.txt",
            lock=(
                "idna==3.20 \\\n",
                "idna @ git+https://example.com/kjd/idna.git@0123456789abcdef0123456789abcdef01234567 \\\n",
            ),
        ),
        "services/uses/requirements.txt:3: idna comes from git, which has no hash; depend on a release of it from an index or on an archive by URL, then run `cd services/uses && uv pip compile --universal --generate-hashes --python-version 3.11 -o requirements.txt requirements.in`",
        *LOCK,
    ),
    "lock-no-toml": Fault(
        locked("uv.lock", lock=("version = 1\n", "version = = 1\n")),
        "services/uses/uv.lock: it is no valid TOML (Invalid value (at line 1, column 11)); restore it from version control, or delete it and run `cd services/uses && uv lock`",
        *LOCK,
    ),
    "lock-with-conflict-markers": Fault(
        locked("uv.lock", lock=("version = 1\n", "<<<<<<< ours\nversion = 1\n=======\n>>>>>>> theirs\n")),
        "services/uses/uv.lock: it holds the conflict markers of a merge; take either side, then run `cd services/uses && uv lock`",
        *LOCK,
    ),
    "requirements-without-hashes": Fault(
        lambda w: (locked("requirements.txt")(w), w.write("services/uses/requirements.txt", "idna==3.20\n")),
        "services/uses/requirements.txt:1: idna 3.20 has no hash; run `cd services/uses && uv pip compile --universal --generate-hashes requirements.txt -o requirements.txt`",
        *LOCK,
    ),
    "local-name-pinned-from-an-index": Fault(
        locked(
            "uv.lock",
            edited=('base = { path = "../../libs/base" }\n', ""),
            lock=('source = { directory = "../../libs/base" }', 'source = { registry = "https://pypi.org/simple" }'),
        ),
        "services/uses/uv.lock: base is a project of this workspace, but the lock pins 1.0 from outside (dependency confusion); declare it as a local dependency, then run `cd services/uses && uv lock`",
        *LOCK,
    ),
}


@pytest.fixture
def healthy(world: World) -> World:
    """Return a world with a library and a service that no fault touches, and a library that locks know."""
    world.library("calm")
    world.service("fine", "calm")
    world.library("base")
    return world


FINE = {"wheel:calm", "wheel:fine", "requirements:fine", "stage:fine"}


def written(world: World) -> dict[str, bytes]:
    """Return every file in a `dist/`, by path."""
    return {path: data for path, data in world.outputs().items() if "/dist/" in path}


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_one_line_and_stops_what_needs_it_and_nothing_else(healthy: World, name: str) -> None:
    fault = CASES[name]
    fault.arrange(healthy)
    healthy.commit()
    run = healthy.doit()
    assert run.code != 0
    assert run.err.splitlines() == [fault.says]
    assert fault.says.count("; ") >= 1 and "Traceback" not in run.out
    by_word = {word: {task for task, how, _ in run.steps if how == word} for word in ("failed", "skipped", "built")}
    assert by_word["failed"] == fault.failed and by_word["skipped"] == fault.skipped
    assert by_word["built"] >= FINE
    assert not [path for path in written(healthy) if path.startswith(tuple(f"{p}/" for p in fault.unwritten))]
    assert healthy.path("services/fine/dist/deps").is_dir()
    assert healthy.git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    "name", ["pyproject-no-toml", "path-dependency-that-is-not-there", "stale-uv", "cycle-of-three"]
)
def test_a_fault_is_said_again_at_the_next_run_and_what_is_built_stays(healthy: World, name: str) -> None:
    fault = CASES[name]
    fault.arrange(healthy)
    healthy.doit()
    before = written(healthy)
    again = healthy.doit()
    assert again.code != 0 and again.err.splitlines() == [fault.says]
    assert again.counts["built"] == 0 and written(healthy) == before
    assert healthy.doit("build:fine").code == 0


def test_a_fault_that_comes_later_leaves_what_was_built_and_mending_it_builds_nothing(healthy: World) -> None:
    library(healthy, "libs/mid", needs=["base"])
    used("mid")(healthy)
    healthy.good()
    before, good = healthy.outputs(), healthy.read("libs/base/pyproject.toml")
    healthy.write("libs/base/pyproject.toml", good.replace("[project]", "[project"))
    run = healthy.doit()
    assert run.code != 0 and len(run.err.splitlines()) == 1
    assert (
        run.word("wheel:base") == "failed"
        and run.word("stage:uses") == "skipped"
        and run.word("wheel:mid") == "skipped"
    )
    assert healthy.outputs() == before
    healthy.write("libs/base/pyproject.toml", good)
    healthy.good()
    assert healthy.outputs() == before and healthy.good().ran == []


TEMPLATES = {
    "cookiecutter": (
        '[project]\nname = "{{ cookiecutter.name }}"\nversion = "1"\n',
        "its name is '{{ cookiecutter.name }}'",
    ),
    "replace-me": ('[project]\nname = "<REPLACE ME>"\nversion = "1"\n', "its name is '<REPLACE ME>'"),
    "poetry": ('[tool.poetry]\nname = "acme-${module}"\nversion = "1"\n', "its name is 'acme-${module}'"),
    "no-toml": ('[project]\nname = "acme"\n{% if cli %}\nscripts = {}\n{% endif %}\n', "it holds {{ … }} or {% … %}"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_skipped_and_named_once_and_is_no_fault(healthy: World, name: str) -> None:
    text, why = TEMPLATES[name]
    healthy.write("libs/template/pyproject.toml", text)
    run = healthy.good()
    assert run.err.splitlines() == [f"libs/template/pyproject.toml: a template ({why}); skipped"]
    assert run.counts == {"built": 5} and not healthy.path("libs/template/dist").exists()
    assert healthy.good().err == ""


@pytest.mark.parametrize(
    "name",
    [
        "pyproject-no-toml",
        "two-projects-with-one-name",
        "cycle-of-three",
        "cycle-with-a-service",
        "no-lock-though-needed",
    ],
)
def test_init_writes_what_is_missing_in_a_repository_with_a_fault_and_names_it(
    tmp_path: Path, cache: Path, name: str
) -> None:
    repository = Repository(tmp_path / "w", cache)
    repository.library("calm")
    repository.service("fine", "calm")
    repository.library("base")
    CASES[name].arrange(repository)
    repository.commit()
    init = repository.doit("init")
    assert "Traceback" not in init.out + init.err
    assert {path.name for path in repository.root.iterdir()} >= {
        "dodo.py",
        "pyproject.toml",
        ".gitignore",
        "buildlib.lock",
    }
    assert CASES[name].says in init.err.splitlines() or name == "no-lock-though-needed"
    repository.commit()
    run = repository.doit()
    assert run.code != 0 and run.err.splitlines() == [CASES[name].says]
    assert run.word("stage:fine") == "built" and repository.git("status", "--porcelain") == ""
