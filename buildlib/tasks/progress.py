"""The progress bar of a long run on a terminal, by rich, on stderr. It appears after a second: short runs stay quiet.

Knows names and counts of steps. Does not know what they do.
"""

import threading
from collections.abc import Callable
from typing import Any

APPEARS_AFTER = 1.0
"""Seconds."""


class Progress:
    """A bar over `total` steps that names those that run. Its methods may be called from several threads."""

    def __init__(self, total: int) -> None:
        self._total, self._ended = total, 0
        self._running: dict[str, None] = {}
        self._guard = threading.Lock()
        self._bar: Any = None
        self._timer = threading.Timer(APPEARS_AFTER, self._show)
        self._timer.daemon = True
        self._timer.start()

    def begin(self, name: str) -> None:
        """Note that the step called `name` began."""
        with self._guard:
            self._running[name] = None
            self._update()

    def end(self, name: str) -> None:
        """Note that it ended."""
        with self._guard:
            self._running.pop(name, None)
            self._ended += 1
            self._update()

    def above(self, write: Callable[[], None]) -> None:
        """Call `write`, which says something on the terminal, while the bar is away."""
        with self._guard:
            if self._bar is not None:
                self._bar.stop()
            write()
            if self._bar is not None:
                self._bar.start()

    def close(self) -> None:
        """Take the bar away."""
        self._timer.cancel()
        with self._guard:
            if self._bar is not None:
                self._bar.stop()
                self._bar = None

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        with self._guard:
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
            self._task = self._bar.add_task("", total=self._total)
            self._update()
            self._bar.start()

    def _update(self) -> None:
        if self._bar is not None:
            running = ", ".join(name.replace(":", " ", 1) for name in list(self._running)[:3])
            self._bar.update(self._task, completed=self._ended, description=running)
