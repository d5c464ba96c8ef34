"""Generates a workspace of many projects: deterministic, in layers, committed to git.

    python bench/tree.py TARGET --projects 1000 --files 20

Knows what a realistic graph looks like and how GNU make would describe it. Does not measure anything.
"""

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TOOL = Path(__file__).resolve().parent.parent
TOOL_PARTS = ("doit", "dodo.py", "pyproject.toml", "requirements.lock", "buildlib.lock", "README.md", "buildlib")
LAYERS = 8

# What the services' locks name: a made-up pin of a reserved host, sliced and staged but never downloaded.
PIN, PIN_WHEEL = "idna", "https://index.invalid/idna-3.10-py3-none-any.whl"
PIN_HASH = "sha256:946d195a0d259cbba61165e88e65941f16e9b36ea6ddb97f00452bae8b1287d3"


@dataclass(frozen=True)
class Project:
    """A project to write: its folder is `KIND/NAME`, its local dependencies are earlier libraries."""

    kind: str
    name: str
    dependencies: tuple[str, ...]

    @property
    def folder(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def package(self) -> str:
        return self.name.replace("-", "_")

    @property
    def wheel(self) -> str:
        """Where the Makefile puts the wheel: outside of `dist/`, so that both engines can use one tree."""
        return f".make/{self.name}/{self.package}-1.0-py3-none-any.whl"


def plan(count: int, services: int) -> list[Project]:
    """The graph: libraries in layers, each on two neighbours of the layer below, then services on the upper layers.

    A closure has some 30 libraries whatever the count. `lib-edge` has exactly one dependent, `svc-edge`.
    """
    libraries = count - services - 1
    width = max(2, -(-libraries // LAYERS))
    names = [f"lib-{number:04}" for number in range(libraries)]
    projects = [Project("libs", names[number], below(number, width, names)) for number in range(libraries)]
    top = names[-width:]
    projects.append(Project("libs", "lib-edge", tuple(sorted({top[0], top[-1]}))))
    for number in range(services - 1):
        needs = {top[number % width], top[(number * 7 + 3) % width]}
        projects.append(Project("services", f"svc-{number:04}", tuple(sorted(needs))))
    projects.append(Project("services", "svc-edge", ("lib-edge",)))
    return projects


def below(number: int, width: int, names: list[str]) -> tuple[str, ...]:
    """The two libraries of the layer below that library `number` needs; none in the lowest layer."""
    layer, place = divmod(number, width)
    if not layer:
        return ()
    start = (layer - 1) * width
    return tuple(sorted({names[start + place], names[start + (place + 1) % width]}))


def closure(project: Project, by_name: dict[str, Project]) -> list[Project]:
    """All local dependencies, transitively, sorted by name."""
    found: dict[str, Project] = {}
    waiting = list(project.dependencies)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = by_name[name]
            waiting.extend(by_name[name].dependencies)
    return [found[name] for name in sorted(found)]


def pyproject(project: Project) -> str:
    """Metadata with plain local names; where they are is in uv's table."""
    third_party = (PIN,) if project.kind == "services" else ()
    needs = ", ".join(f'"{name}"' for name in (*project.dependencies, *third_party))
    sources = "".join(f'{name} = {{ path = "../../libs/{name}" }}\n' for name in project.dependencies)
    table = f"\n[tool.uv.sources]\n{sources}" if sources else ""
    return (
        f'[project]\nname = "{project.name}"\nversion = "1.0"\ndescription = "A {project.kind[:-1]} of the benchmark"\n'
        f'readme = "README.md"\nrequires-python = ">=3.11"\ndependencies = [{needs}]\n\n'
        '[build-system]\nrequires = ["poetry-core>=2.0,<3"]\nbuild-backend = "poetry.core.masonry.api"\n\n'
        f'[tool.poetry]\npackages = [{{ include = "{project.package}" }}]\n' + table
    )


def module(project: Project, number: int) -> str:
    """Some 500 bytes of plausible code."""
    functions = "\n\n".join(
        f'def step_{number}_{index}(value: int) -> int:\n    """Step {index} of {project.name}."""\n'
        f"    return value * {number + 2} + {index}\n"
        for index in range(4)
    )
    return f'"""Module {number} of {project.name}."""\n\n\n{functions}'


def sources(project: Project, count: int) -> dict[str, str]:
    """`count` files of the project by their path below it (at least 4)."""
    files = {
        "pyproject.toml": pyproject(project),
        "README.md": f"# {project.name}\n\nGenerated.\n",
        f"{project.package}/__init__.py": f'"""{project.name}."""\n',
        f"tests/test_{project.package}.py": f"import {project.package}\n\nassert {project.package}.__doc__\n",
    }
    for number in range(count - len(files)):
        files[f"{project.package}/part_{number:02}.py"] = module(project, number)
    return files


def uv_lock(service: Project, by_name: dict[str, Project]) -> str:
    """What `uv lock` writes for the service: its local closure as directories, and one pinned package."""
    pin = (
        f'[[package]]\nname = "{PIN}"\nversion = "3.10"\nsource = {{ registry = "https://index.invalid/simple" }}\n'
        f'wheels = [\n    {{ url = "{PIN_WHEEL}", hash = "{PIN_HASH}", size = 70442 }},\n]\n'
    )
    members = [lock_entry(member, f'directory = "../../libs/{member.name}"') for member in closure(service, by_name)]
    head = 'version = 1\nrevision = 3\nrequires-python = ">=3.11"\n'
    return "\n".join([head, pin, *members, lock_entry(service, 'editable = "."')])


def lock_entry(project: Project, source: str) -> str:
    """One `[[package]]` of a local project."""
    local = {name: f', directory = "../../libs/{name}"' for name in project.dependencies}
    needs = sorted({**local, PIN: ""} if project.kind == "services" else local)
    text = f'[[package]]\nname = "{project.name}"\nversion = "1.0"\nsource = {{ {source} }}\n'
    if needs:
        text += "dependencies = [\n" + "".join(f'    {{ name = "{name}" }},\n' for name in needs) + "]\n"
        requires = "".join(f'    {{ name = "{name}"{local.get(name, "")} }},\n' for name in needs)
        text += f"\n[package.metadata]\nrequires-dist = [\n{requires}]\n"
    return text


def makefile(projects: list[Project], files: dict[str, list[str]]) -> str:
    """The same build for GNU make: each wheel depends on all files of its project and on its dependencies' wheels.

    `PYTHON` is whose `build` and poetry-core make them.
    """
    by_name = {project.name: project for project in projects}
    rules = ["PYTHON = python3\n.PHONY: all\nall: " + " ".join(project.wheel for project in projects) + "\n"]
    for project in projects:
        inputs = [f"{project.folder}/{path}" for path in files[project.name]]
        inputs += [by_name[name].wheel for name in project.dependencies]
        command = f"$(PYTHON) -m build -nw -o {os.path.dirname(project.wheel)} {project.folder} >/dev/null"
        rules.append(f"{project.wheel}: {' '.join(inputs)}\n\t{command}\n")
    return "\n".join(rules)


def write(path: Path, text: str) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def copy_tool(tool: Path, target: Path) -> None:
    """The tool itself, as a user has it: launcher, lock, configuration, package. What does not exist is left out."""
    for name in TOOL_PARTS:
        if (tool / name).is_dir():
            shutil.copytree(tool / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (tool / name).exists():
            shutil.copy(tool / name, target / name)
    write(target / ".gitignore", ".buildlib/\n.make/\n.venv/\n__pycache__/\ndist/\n")


def commit(target: Path) -> None:
    """Commit everything, with a fixed author and date."""
    identity = {f"GIT_{who}_{what}": "bench" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    dates = {"GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
    for argv in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "Generated"]):
        subprocess.run(
            ["git", *argv],
            cwd=target,
            check=True,
            env={**os.environ, **identity, **dates, "GIT_CONFIG_GLOBAL": os.devnull},
        )


def generate(target: Path, count: int, files: int, services: int, tool: Path = TOOL) -> list[Project]:
    """Write `count` projects (`services` of them services) with `files` files each, and commit them.

    Returns the projects. `target` must not exist yet. The same arguments and tool give the same commit.
    """
    target.mkdir(parents=True)
    copy_tool(tool, target)
    projects = plan(count, services)
    by_name = {project.name: project for project in projects}
    listed: dict[str, list[str]] = {}
    for project in projects:
        content = sources(project, files - (project.kind == "services"))
        if project.kind == "services":
            content["uv.lock"] = uv_lock(project, by_name)
        for path, text in content.items():
            write(target / project.folder / path, text)
        listed[project.name] = sorted(content)
    write(target / "Makefile", makefile(projects, listed))
    commit(target)
    return projects


def main(argv: list[str]) -> int:
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--projects", type=int, default=100)
    parser.add_argument("--files", type=int, default=20, help="files a project, at least 5")
    parser.add_argument("--services", type=int, help="how many of the projects are services; default: one in twenty")
    parser.add_argument("--tool", type=Path, default=TOOL, help="where launcher, dodo.py and configuration come from")
    given = parser.parse_args(argv)
    services = max(1, given.projects // 20) if given.services is None else given.services
    if given.target.exists():
        parser.error(f"{given.target} exists")
    if not 1 <= services <= given.projects // 2 or given.files < 5 or given.projects < 10:
        parser.error("at least 10 projects of 5 files, 1 service, and not more services than libraries")
    projects = generate(given.target, given.projects, given.files, services, given.tool)
    print(f"{given.target}: {len(projects)} projects × {given.files} files")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
