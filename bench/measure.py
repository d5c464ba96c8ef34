"""Measures whole processes: CPU, wall time, memory. Several commands take turns, so that a slow minute hits all alike.

Knows processes and medians. Does not know what is measured.
"""

import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class WrongRunError(Exception):
    """A measured command did not do what its row claims."""


@dataclass(frozen=True)
class Command:
    """What to run, and the words its output must contain: a number for another work than the named one is worthless."""

    argv: Sequence[str]
    folder: Path
    says: str = ""


@dataclass(frozen=True)
class Sample:
    """One run, children included: CPU (user + system) and wall in milliseconds, peak memory of the largest in MB."""

    cpu: float
    wall: float
    memory: float


def run(command: Command, environ: Mapping[str, str]) -> Sample:
    """Run once and measure.

    Raises:
        WrongRunError: exit code not 0, or the words are missing.
    """
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command.argv, cwd=command.folder, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode or command.says not in text:
        raise WrongRunError(
            f"{' '.join(command.argv)} (in {command.folder}): exit code {process.returncode}, "
            f"expected {command.says!r} in:\n{text[-2000:]}"
        )
    return Sample((usage.ru_utime + usage.ru_stime) * 1e3, wall * 1e3, usage.ru_maxrss / 1024)


def median(samples: Sequence[Sample]) -> Sample:
    """The median of each quantity."""
    return Sample(
        *(statistics.median(getattr(sample, name) for sample in samples) for name in ("cpu", "wall", "memory"))
    )


def in_turns(commands: Mapping[str, Command], rounds: int, environ: Mapping[str, str]) -> dict[str, Sample]:
    """Medians by name: after one unmeasured round, `rounds` rounds in which every command runs once."""
    samples: dict[str, list[Sample]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            sample = run(command, environ)
            if number:
                samples[name].append(sample)
    return {name: median(taken) for name, taken in samples.items()}


def machine() -> str:
    """CPU model, cores, kernel, Python. No host name."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = lines[0] if lines else model
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, {python}"
