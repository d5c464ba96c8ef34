"""What a parcel can and cannot have done."""

import unittest
from datetime import UTC, datetime, timedelta

from journey import ImpossibleJourneyError, check, travelled_km
from tracking import History, Scan

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
BERLIN, POTSDAM, PARIS = (52.52, 13.405), (52.39, 13.064), (48.8566, 2.3522)


def history(*stops: tuple[tuple[float, float], float]) -> History:
    """Scans at places, so many hours after the start."""
    result = History()
    for (latitude, longitude), hours in stops:
        fields = {
            "parcel": "RR473124829GB",
            "status": "in-transit" if result.scans else "accepted",
            "at": START + timedelta(hours=hours),
            "latitude": latitude,
            "longitude": longitude,
        }
        result = result.followed_by(Scan.model_validate(fields))
    return result


class Way(unittest.TestCase):
    def test_the_way_is_the_sum_of_its_legs(self) -> None:
        self.assertAlmostEqual(travelled_km(history((BERLIN, 0), (PARIS, 2), (BERLIN, 4))), 1755, delta=2)

    def test_a_parcel_that_never_moved_has_no_way(self) -> None:
        self.assertEqual([travelled_km(History()), travelled_km(history((BERLIN, 0)))], [0, 0])


class Possible(unittest.TestCase):
    def test_a_plane_makes_it(self) -> None:
        check(history((BERLIN, 0), (PARIS, 1)))

    def test_nothing_is_faster_than_a_plane(self) -> None:
        with self.assertRaisesRegex(ImpossibleJourneyError, "877 km in 0.5 hours"):
            check(history((BERLIN, 0), (PARIS, 0.5)))

    def test_two_scanners_of_one_depot_may_be_off_a_little(self) -> None:
        check(history((BERLIN, 0), ((52.6, 13.405), 0)))
        with self.assertRaises(ImpossibleJourneyError):
            check(history((BERLIN, 0), (POTSDAM, 0)))

    def test_only_the_last_leg_is_looked_at(self) -> None:
        check(history((BERLIN, 0), (PARIS, 0.5), (PARIS, 1)))
        check(history((BERLIN, 0)))
        check(History())
