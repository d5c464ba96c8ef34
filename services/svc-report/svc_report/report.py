"""The figures: pure functions of histories and a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from journey import travelled_km
from tracking import History


@dataclass(frozen=True)
class Silent:
    """A parcel that nobody has seen for some time."""

    number: str
    status: str
    hours: float
    travelled_km: float


def counts(histories: Iterable[tuple[str, History]]) -> dict[str, int]:
    """How many parcels have each status, the most frequent first."""
    return dict(Counter(str(history.status) for _, history in histories).most_common())


def silent(histories: Iterable[tuple[str, History]], now: datetime, after: timedelta) -> list[Silent]:
    """The parcels on their way that were last seen more than `after` ago, the longest first."""
    found = [
        Silent(number, str(history.status), silence / timedelta(hours=1), travelled_km(history))
        for number, history in histories
        if (silence := history.silent_for(now)) > after
    ]
    return sorted(found, key=lambda parcel: -parcel.hours)
