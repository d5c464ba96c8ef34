"""Counters that only go up, for a scraper to read."""

from __future__ import annotations

from collections import Counter
from threading import Lock

Labels = tuple[tuple[str, str], ...]


class Counters:
    """Counts by name and labels; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[tuple[str, Labels]] = Counter()

    def add(self, name: str, amount: int = 1, /, **labels: str) -> None:
        """Add to one counter.

        Raises:
            ValueError: if the amount is negative: a counter that falls looks like a restart to a scraper.
        """
        if amount < 0:
            raise ValueError(f"{name} cannot go down by {-amount}")
        with self._lock:
            self._counts[name, tuple(sorted(labels.items()))] += amount

    def value(self, name: str, /, **labels: str) -> int:
        """What one counter says; 0 if nothing was ever counted."""
        with self._lock:
            return self._counts[name, tuple(sorted(labels.items()))]

    def render(self) -> str:
        """All counters, sorted, in the Prometheus text format (exposition format 0.0.4)."""
        with self._lock:
            counts = sorted(self._counts.items())
        return "".join(f"{name}{_braces(labels)} {count}\n" for (name, labels), count in counts)


def _braces(labels: Labels) -> str:
    inner = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels)
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
