"""The run log: one line of JSON an event, `.buildlib/log.jsonl`. `why` reads it, and whatever tells of past runs.

Events: `run` (a run began: id, arguments, time), `step` (a step ended: task, word, reason, seconds, outputs),
`end` (the counts). A line is written in one call, so a killed run leaves at most one torn line, which readers pass
over. When the file is large its older half goes. Knows lines. Does not know what becomes of them.
"""

import json
import os
import time
from collections.abc import Iterator
from typing import Any

PATH = ".buildlib/log.jsonl"
LIMIT = 8 * 1024 * 1024
"""Bytes at which the older half is dropped, at the begin of a run (under the lock)."""


class Log:
    """The log of this workspace, and the events of this run."""

    def __init__(self, path: str = PATH) -> None:
        self.path = path
        self.run_id = f"{time.time_ns():x}-{os.getpid()}"
        self.events: list[dict[str, Any]] = []
        self._began = False

    def step(self, **fields: Any) -> None:
        """Add that a step ended; the run is noted with its first step."""
        self._begin()
        self._add({"event": "step", **fields})

    def end(self, counts: dict[str, int], seconds: float) -> None:
        """Add that the run ended, if anything happened in it."""
        if self._began:
            self._add({"event": "end", "counts": counts, "seconds": round(seconds, 3)})

    def last(self, task: str) -> dict[str, Any] | None:
        """Return the last event of `task`, or None."""
        found = None
        for event in self.read():
            if event.get("event") == "step" and event.get("task") == task:
                found = event
        return found

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield all events, oldest first; torn or damaged lines are passed over."""
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    try:
                        event = json.loads(line)
                    except ValueError:
                        continue
                    if isinstance(event, dict):
                        yield event
        except OSError:
            return

    def _begin(self) -> None:
        if not self._began:
            import sys

            self._began = True
            self._shorten()
            self._add({"event": "run", "arguments": sys.argv[1:]})

    def _add(self, event: dict[str, Any]) -> None:
        event = {"run": self.run_id, "time": round(time.time(), 3), **event}
        self.events.append(event)
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, json.dumps(event).encode() + b"\n")
        finally:
            os.close(descriptor)

    def _shorten(self) -> None:
        try:
            if os.path.getsize(self.path) < LIMIT:
                return
            with open(self.path, "rb") as file:
                lines = file.readlines()
            temporary = ".buildlib/tmp/log.jsonl"
            with open(temporary, "wb") as file:
                file.writelines(lines[len(lines) // 2 :])
            os.replace(temporary, self.path)
        except OSError:
            return
