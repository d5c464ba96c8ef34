"""Points on the earth and the distances between them, in kilometres. Pure functions, standard library only."""

from geo.point import EARTH_RADIUS_KM, Point
from geo.route import distance_km, length_km

__all__ = ["EARTH_RADIUS_KM", "Point", "distance_km", "length_km"]
