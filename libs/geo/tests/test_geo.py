"""Distances against known ones."""

import unittest
from math import pi

from geo import EARTH_RADIUS_KM, Point, distance_km, length_km

BERLIN, PARIS, POLE = Point(52.52, 13.405), Point(48.8566, 2.3522), Point(90, 0)


class Distance(unittest.TestCase):
    def test_berlin_and_paris_are_878_km_apart(self) -> None:
        self.assertAlmostEqual(distance_km(BERLIN, PARIS), 877.5, delta=1)

    def test_it_is_the_same_both_ways_and_zero_at_home(self) -> None:
        self.assertAlmostEqual(distance_km(BERLIN, PARIS), distance_km(PARIS, BERLIN))
        self.assertEqual(distance_km(PARIS, PARIS), 0)

    def test_antipodes_are_half_a_great_circle_apart(self) -> None:
        self.assertAlmostEqual(distance_km(POLE, Point(-90, 77)), pi * EARTH_RADIUS_KM)

    def test_the_date_line_is_no_obstacle(self) -> None:
        self.assertLess(distance_km(Point(0, 179.9), Point(0, -179.9)), 23)


class Length(unittest.TestCase):
    def test_a_round_trip_is_twice_the_way(self) -> None:
        self.assertAlmostEqual(length_km([BERLIN, PARIS, BERLIN]), 2 * distance_km(BERLIN, PARIS))

    def test_a_route_without_a_second_stop_has_no_length(self) -> None:
        self.assertEqual([length_km([]), length_km([PARIS])], [0, 0])


class OffTheMap(unittest.TestCase):
    def test_a_point_off_the_map_is_refused(self) -> None:
        for latitude, longitude in [(90.1, 0), (0, -180.5), (float("nan"), 0)]:
            with self.subTest(latitude=latitude, longitude=longitude), self.assertRaises(ValueError):
                Point(latitude, longitude)
