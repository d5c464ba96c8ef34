"""Measures the engine against its budgets: no-ops, a one-line change, a cold build; `doit --version` is the unit.

    python bench/noop.py                       # 100 and 1,000 projects, and the cold build: some minutes
    python bench/noop.py --sizes 100 --no-cold # the quick look

Prints a Markdown table. Everything is written below a temporary folder (`--work` keeps it).
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tree
from measure import Command, Sample, WrongRunError, in_turns, machine, median, run

FILES = 20


@dataclass(frozen=True)
class Row:
    """One line of the table. `value` and `limit` are in `unit`; a limit of None is no budget, only information."""

    work: str
    sample: Sample | None
    value: float
    unit: str
    limit: float | None = None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """Whether the budget is met."""
        if self.limit is None:
            return ""
        return "yes" if (self.value >= self.limit if self.at_least else self.value <= self.limit) else "**no**"

    def __str__(self) -> str:
        numbers = (self.sample.cpu, self.sample.wall, self.sample.memory) if self.sample else ()
        cells = [f"{number:,.0f}" for number in numbers] or ["", "", ""]
        sign = "≥" if self.at_least else "≤"
        budget = "" if self.limit is None else f"{sign} {self.limit:.4g} {self.unit}"
        return f"| {self.work} | {' | '.join(cells)} | {self.value:.2f} {self.unit} | {budget} | {self.verdict} |"


HEAD = "| work | CPU ms | wall ms | MB | measured | budget | met |\n|---|--:|--:|--:|--:|--:|---|"


class Ground:
    """A generated tree, ready to be measured: the tool's environment made, everything built once."""

    def __init__(self, work: Path, size: int, doit: str, environ: Mapping[str, str]) -> None:
        self.size, self.root, self.environ = size, work / f"tree-{size}", environ
        self.projects = tree.generate(self.root, size, FILES, max(1, size // 20))
        self.launcher = str(self.root / "doit")
        if not doit:
            run(Command([self.launcher, "--version"], self.root), environ)
        self.doit = doit or str(self.root / ".venv/bin/doit")
        self.python = str(Path(self.doit).with_name("python"))
        self.empty = work / "empty"
        self.empty.mkdir(exist_ok=True)

    def call(self, *args: str, says: str = "") -> Command:
        """`doit ARGS` in the tree."""
        return Command([self.doit, *args], self.root, says)

    def make(self, *args: str, says: str = "") -> Command:
        """`make -r ARGS` in the tree."""
        return Command(["make", "-r", f"PYTHON={self.python}", *args], self.root, says)

    def prepare(self) -> None:
        """Build with doit for real; let make believe that it has built (only its no-op is measured here)."""
        run(self.call("-n", "2"), self.environ)
        for project in self.projects:
            (self.root / project.wheel).parent.mkdir(parents=True, exist_ok=True)
        run(self.make("-t", "-s"), self.environ)


def noop_rows(ground: Ground, rounds: int, launcher: bool) -> tuple[list[Row], dict[str, Sample]]:
    """The no-ops of one tree, taking turns with the unit and with make."""
    commands = {
        "unit": Command([ground.doit, "--version"], ground.empty, "."),
        "doit": ground.call(says="0 built"),
        "one lib": ground.call("build:lib-edge", says="0 built"),
        "one svc": ground.call("build:svc-edge", says="0 built"),
        "make": ground.make(says="Nothing to be done"),
    }
    if launcher:
        commands["launcher"] = Command([ground.launcher], ground.root, "0 built")
    medians = in_turns(commands, rounds, ground.environ)
    unit, big = medians["unit"].cpu, ground.size >= 1000

    def row(name: str, work: str, limit: float) -> Row:
        return Row(f"{work}, {ground.size:,} projects", medians[name], medians[name].cpu / unit, "units", limit)

    rows = [
        Row(f"`doit --version` (the unit, beside {ground.size:,} projects)", medians["unit"], 1, "units"),
        row("doit", "no-op `doit`", 2.3 if big else 1.4),
        row("one lib", "no-op `doit build:lib-edge`", 1.4),
        row("one svc", "no-op `doit build:svc-edge`", 1.4),
    ]
    if launcher:
        rows.append(row("launcher", "no-op `./doit`", 1.1))
    against_make = medians["doit"].cpu / medians["make"].cpu
    rows.append(Row(f"no-op `make -r`, {ground.size:,} projects", medians["make"], medians["make"].cpu / unit, "units"))
    rows.append(Row(f"no-op `doit` / `make -r`, {ground.size:,} projects", None, against_make, "×", 2 if big else None))
    rows.append(
        Row(f"memory of the no-op, {ground.size:,} projects", None, medians["doit"].memory, "MB", 120 if big else None)
    )
    return rows, medians


def change_rows(ground: Ground, rounds: int, medians: Mapping[str, Sample]) -> list[Row]:
    """A line is added to the library with one dependent. Beyond the no-op and the bare wheel: at most a unit.

    The bare wheel is one process that calls the backend's hook, less a process that does nothing; the stage counts 0.
    """
    library = ground.root / "libs/lib-edge"
    edited = library / "lib_edge/part_00.py"
    hook = "import poetry.core.masonry.api as backend, sys; backend.build_wheel(sys.argv[1])"
    out = tempfile.mkdtemp(dir=ground.empty)
    taken: dict[str, list[Sample]] = {"change": [], "hook": [], "nothing": [], "next": []}
    for number in range(rounds):
        with edited.open("a") as file:
            file.write(f"LINE_{number} = {number}\n")
        changed = ground.call(says="2 built")
        others = {
            "hook": Command([ground.python, "-I", "-c", hook, out], library),
            "nothing": Command([ground.python, "-I", "-c", ""], library),
            "next": ground.call(says="0 built"),
        }
        for name, command in {"change": changed, **others}.items():
            taken[name].append(run(command, ground.environ))
    cpu = {name: statistics.median(sample.cpu for sample in samples) for name, samples in taken.items()}
    own = cpu["change"] - medians["doit"].cpu - (cpu["hook"] - cpu["nothing"])
    unit, size = medians["unit"].cpu, f"{ground.size:,} projects"
    return [
        Row(
            f"bare wheel of `lib-edge`: one process calls the hook, {size}",
            median(taken["hook"]),
            cpu["hook"] / unit,
            "units",
        ),
        Row(f"one-line change of `lib-edge`, {size}", median(taken["change"]), cpu["change"] / unit, "units"),
        Row(f"no-op `doit` right after it, {size}", median(taken["next"]), cpu["next"] / unit, "units"),
        Row(
            f"the change beyond no-op and bare wheel, {size}",
            None,
            own / unit,
            "units",
            1 if ground.size >= 1000 else None,
        ),
    ]


def cold_rows(ground: Ground) -> list[Row]:
    """All wheels from nothing, two jobs, against make by wall time. Both have their build environment already."""
    environ = {**ground.environ, "BUILDLIB_STORE": "off"}
    shutil.rmtree(ground.root / ".make")
    for project in ground.projects:
        shutil.rmtree(ground.root / project.folder / "dist", ignore_errors=True)
    shutil.rmtree(ground.root / ".buildlib")
    doit = run(ground.call("-n", "2", "wheel", says=f"{ground.size} built"), environ)
    for project in ground.projects:
        (ground.root / project.wheel).parent.mkdir(parents=True)
    make = run(ground.make("-j2", "-s"), environ)
    return [
        Row(
            f"cold `doit -n 2 wheel`, {ground.size:,} wheels",
            doit,
            make.wall / doit.wall,
            "times faster",
            5,
            at_least=True,
        ),
        Row(f"cold `make -r -j2`, {ground.size:,} wheels", make, 1, "times faster"),
    ]


def growth_row(small: Ground, large: Ground, all_medians: Mapping[int, Mapping[str, Sample]]) -> Row:
    """How much of the no-op grows: time beyond the unit, a file, of the large tree against the small one."""
    beyond = {size: medians["doit"].cpu - medians["unit"].cpu for size, medians in all_medians.items()}
    ratio = (beyond[large.size] / large.size) / (beyond[small.size] / small.size)
    return Row(f"growth: no-op beyond the unit, a file, {large.size:,} against {small.size:,}", None, ratio, "×", 1.2)


@contextmanager
def workplace(kept: Path | None) -> Iterator[Path]:
    """The folder to work in: the given one, or one that goes away."""
    if kept:
        kept.mkdir(parents=True)
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="buildlib-bench-") as folder:
        yield Path(folder).resolve()


def measure_all(work: Path, sizes: list[int], doit: str, rounds: int, cold: bool) -> None:
    """Print the table, a row as soon as it is known."""
    keep = {
        name: os.environ[name] for name in os.environ if name.startswith(("PIP_", "UV_", "LC_", "LANG", "HOME", "PATH"))
    }
    environ = {**keep, "BUILDLIB_CACHE": str(work / "cache")}
    print(f"{machine()}; median of {rounds}\n\n{HEAD}", flush=True)
    grounds, all_medians = [], {}
    for size in sizes:
        ground = Ground(work, size, doit, environ)
        ground.prepare()
        rows, medians = noop_rows(ground, rounds, launcher=not doit)
        print(*rows, *change_rows(ground, min(rounds, 5), medians), sep="\n", flush=True)
        grounds.append(ground)
        all_medians[size] = medians
    if len(grounds) > 1:
        print(growth_row(grounds[0], grounds[-1], all_medians), flush=True)
    if cold:
        print(*cold_rows(grounds[0]), sep="\n", flush=True)


def main(argv: list[str]) -> int:
    """The script: 0 when everything was measured, whatever the verdicts; 1 when a command did not do its work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000], help="projects, smallest first")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--doit", default="", help="this doit, instead of the one that ./doit makes in each tree")
    parser.add_argument("--no-cold", dest="cold", action="store_false", help="leave out the cold build (a minute)")
    parser.add_argument("--work", type=Path, help="work here, and keep the trees; must not exist yet")
    given = parser.parse_args(argv)
    if given.work and given.work.exists():
        parser.error(f"{given.work} exists")
    try:
        with workplace(given.work) as work:
            measure_all(work, given.sizes, given.doit, given.rounds, given.cold)
    except WrongRunError as error:
        print(f"bench/noop.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
