"""How far it is, along great circles."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from math import asin, cos, radians, sin, sqrt

from geo.point import EARTH_RADIUS_KM, Point


def distance_km(a: Point, b: Point) -> float:
    """The great-circle distance of two points, by the haversine formula: exact enough even for neighbours."""
    north = radians(b.latitude - a.latitude)
    east = radians(b.longitude - a.longitude)
    chord = sin(north / 2) ** 2 + cos(radians(a.latitude)) * cos(radians(b.latitude)) * sin(east / 2) ** 2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(chord)))  # rounding may leave antipodes a hair above 1


def length_km(points: Iterable[Point]) -> float:
    """The length of a route, stop by stop; a route of one stop or none is 0 km long."""
    return sum(distance_km(a, b) for a, b in pairwise(points))
