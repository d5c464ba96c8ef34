"""A point on the earth, checked once, when it is made."""

from __future__ import annotations

from dataclasses import dataclass

EARTH_RADIUS_KM = 6371.0088
"""The mean radius of the earth (IUGG), for a sphere of the same size."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place in degrees: north and east are positive.

    Raises:
        ValueError: if a coordinate is off the map.
    """

    latitude: float
    longitude: float

    def __post_init__(self) -> None:
        if not -90 <= self.latitude <= 90:
            raise ValueError(f"latitude {self.latitude} is not between -90 and 90 degrees")
        if not -180 <= self.longitude <= 180:
            raise ValueError(f"longitude {self.longitude} is not between -180 and 180 degrees")
