"""How far a parcel went, and whether it can have been that fast: what histories mean on the map."""

from __future__ import annotations

from datetime import timedelta

from geo import Point, distance_km, length_km
from tracking import History, Scan

__all__ = ["ImpossibleJourneyError", "check", "travelled_km"]

FASTEST_KMH = 1000.0
"""No parcel is faster than an airliner."""

SLACK_KM = 25.0
"""How far two scanners may be off together: the one at the depot's gate, the other at its address."""


class ImpossibleJourneyError(ValueError):
    """A parcel cannot have been at both places."""


def travelled_km(history: History) -> float:
    """The way from scan to scan, as the crow flies."""
    return length_km(map(_place, history.scans))


def check(history: History) -> None:
    """Look at the last leg of a history.

    Raises:
        ImpossibleJourneyError: if no plane could have carried the parcel from the scan before to the last one in time.
    """
    if len(history.scans) < 2:
        return
    before, last = history.scans[-2:]
    distance = distance_km(_place(before), _place(last))
    hours = (last.at - before.at) / timedelta(hours=1)
    if distance > SLACK_KM + FASTEST_KMH * hours:
        raise ImpossibleJourneyError(f"{last.parcel} cannot have gone {distance:.0f} km in {hours:.1f} hours")


def _place(scan: Scan) -> Point:
    return Point(scan.latitude, scan.longitude)
