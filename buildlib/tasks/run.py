"""`doit run` (and the implicit `doit TASK`): doit's own command, around one session.

Knows doit's run command, signals and the end of a run. Does not know how tasks are loaded or judged.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from doit.cmd_run import Run as StockRun
from doit.cmdparse import CmdParseError
from doit.exceptions import InvalidCommand

from buildlib.errors import BuildlibError
from buildlib.tasks import quick, said
from buildlib.tasks.reporter import Reporter


class Engine:
    """What one run knows of itself.

    Attributes:
        answered: the counts, where the quick index answered. session: else, once planned.
        said: errors already shown. erred: whether anything but a task's own failure went wrong; None if that is not
            known, with a reporter that is not ours.
    """

    def __init__(self, params: Any) -> None:
        self.params = params
        self.answered: dict[str, int] | None = None
        self.session: Any = None
        self.said: set[str] = set()
        self.erred: bool | None = None

    @property
    def always(self) -> bool:
        """Return whether what is asked for runs whatever its state: `-a`, or `always` in `DOIT_CONFIG`."""
        return bool(self.params.get("always"))

    def choose_jobs(self, runnable: int, user_tasks: bool) -> None:
        """Choose how many steps run at once where `-n` does not say; with the user's tasks one by one, as doit does."""
        if "num_process" in self.params._non_default_keys:
            return
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.params.set_default("num_process", 0 if user_tasks or runnable < 2 else min(cores, runnable))

    def progress(self, total: int) -> Any:
        """Return the progress bar of a long run on a terminal; None elsewhere."""
        if total < 2 or not said.coloured(sys.stderr):
            return None
        from buildlib.tasks.progress import Progress

        return Progress(total)

    def counts(self) -> dict[str, int] | None:
        """Return how many steps ended how; None if the run did not come so far."""
        if self.answered is not None:
            return self.answered
        return self.session.counts() if self.session else None

    def seconds(self) -> float:
        """Return how long the run took so far."""
        return time.perf_counter() - quick.STARTED

    def close(self, default: tuple[str, ...]) -> None:
        """Note the end of the run in the log, keep what the next one needs, release the lock."""
        self.session.log.end({word: n for word, n in self.session.counts().items() if n}, self.seconds())
        self.session.close(default)


class Run(StockRun):  # type: ignore[misc]  # doit has no type hints
    """doit's `run`, with one lock, one summary, and no children left behind."""

    name = "run"

    def parse_execute(self, in_args: list[str]) -> int:
        """Run what `in_args` name, options among them."""
        return in_one_line(self.name, super().parse_execute, in_args)

    def execute(self, params: Any, args: list[str]) -> int:
        """Run what `args` name. Ctrl-C and SIGTERM end the children, keep what finished, leave no temporary file."""
        self.engine = Reporter.engine = Engine(params)
        signal.signal(signal.SIGTERM, _terminated)
        code = 0
        try:
            code = super().execute(params, args)
            if code == 2 and self.engine.erred is False:
                code = 1  # doit takes the group of a failed task for an error
        except KeyboardInterrupt as interrupt:
            code = 143 if str(interrupt) == "terminated" else 130
            self._stop("interrupted; what had finished is kept")
        except BuildlibError as error:  # what all steps need is broken: the database, the lock
            code = 1
            self._stop(str(error))
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what follows is short and must not be cut
            if self.engine.session is not None:
                self.engine.close(self._default())
        return code

    def _default(self) -> tuple[str, ...]:
        """Return what a bare `doit` stands for, if that does not depend on code in `dodo.py`."""
        from buildlib.tasks.dodo import DOIT_CONFIG
        from buildlib.tasks.user import defines_tasks

        namespace = self.loader.namespace
        return () if defines_tasks(namespace) or namespace.get("DOIT_CONFIG", DOIT_CONFIG) else ("build",)

    def _stop(self, why: str) -> None:
        session = self.engine.session
        if session is not None:
            session.stop()
        said.err(why)


def in_one_line(command: str, parse_execute: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Parse and execute `command`; an option that it does not know is an error of one line."""
    try:
        return parse_execute(arguments)
    except CmdParseError as error:
        raise misparsed(error, command) from None


def misparsed(error: CmdParseError, name: str) -> InvalidCommand:
    """Return what is wrong with the options of the command or task called `name`, without doit's list of them all."""
    cause = " ".join(str(error).partition(" (parsing options:")[0].split()).rstrip(".")
    cause = cause.removeprefix("Error parsing Command: ").removeprefix("Error parsing Task: ")
    return InvalidCommand(f"{cause}; `doit help {name}` shows the options")


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt("terminated")
