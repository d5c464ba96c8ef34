"""`doit run` (and the implicit `doit TASK`): doit's own command, around one session.

Knows doit's run command, signals and the end of a run. Does not know how tasks are loaded or judged.
"""

import os
import signal
import sys
import time
from types import FrameType
from typing import Any

from doit.cmd_run import Run as StockRun

from buildlib.tasks import quick, said
from buildlib.tasks.reporter import Reporter


class Engine:
    """What one run knows of itself.

    Attributes:
        always: `-a` was given. answered: the counts, where the quick index answered. session: else, once planned.
        said: errors already shown.
    """

    def __init__(self, params: Any) -> None:
        self.params = params
        self.always = bool(params.get("always"))
        self.answered: dict[str, int] | None = None
        self.session: Any = None
        self.said: set[str] = set()

    def choose_jobs(self, runnable: int, user_tasks: bool) -> None:
        """Choose how many steps run at once where `-n` does not say; the user's own tasks run one by one, as doit's do."""
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

    def summarise(self, stream: Any) -> None:
        """Say the last line of the run."""
        counts = self.answered if self.answered is not None else self.session.counts() if self.session else None
        if counts is None:
            return
        seconds = time.perf_counter() - quick.STARTED
        said.out(said.summary(counts, seconds), stream)
        if self.session:
            self.session.log.end({k: v for k, v in counts.items() if v}, seconds)


class Run(StockRun):  # type: ignore[misc]  # doit has no type hints
    """doit's `run`, with one lock, one summary, and no children left behind."""

    name = "run"

    def execute(self, params: Any, args: list[str]) -> int:
        """Run what `args` name. Ctrl-C and SIGTERM end the children, keep what finished, and leave no temporary file."""
        self.engine = Reporter.engine = Engine(params)
        self._set_verbosity(params)
        signal.signal(signal.SIGTERM, _terminated)
        code = 0
        try:
            code = super().execute(params, args)
        except KeyboardInterrupt as interrupt:
            code = 143 if str(interrupt) == "terminated" else 130
            self._stop()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what follows is short and must not be cut
            if self.engine.session is not None:
                self.engine.session.close(self._default())
        return code

    def _set_verbosity(self, params: Any) -> None:
        self._streams = params.get("verbosity") == 2

    def _default(self) -> tuple[str, ...]:
        """Return what a bare `doit` stands for, if that does not depend on code in `dodo.py`."""
        from buildlib.tasks.dodo import DOIT_CONFIG

        own = set(self.loader.namespace) - {"DOIT_CONFIG"}
        plain = not any(n.startswith("task_") or hasattr(self.loader.namespace[n], "create_doit_tasks") for n in own)
        return ("build",) if plain and not self.loader.namespace.get("DOIT_CONFIG", DOIT_CONFIG) else ()

    def _stop(self) -> None:
        session = self.engine.session
        if session is not None:
            session.stop()
        said.err("interrupted; what had finished is kept")


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt("terminated")
