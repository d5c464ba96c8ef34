"""The rules of a parcel's life."""

import unittest
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError
from tracking import History, RefusedScanError, Scan, Status, check_digit

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
PARCEL = "RR473124829GB"


def scan(status: str, hours: int = 0, parcel: str = PARCEL, latitude: float = 52.52, longitude: float = 13.405) -> Scan:
    return Scan.model_validate(
        {
            "parcel": parcel,
            "status": status,
            "at": START + timedelta(hours=hours),
            "latitude": latitude,
            "longitude": longitude,
        }
    )


def history(*statuses: str) -> History:
    result = History()
    for hours, status in enumerate(statuses):
        result = result.followed_by(scan(status, hours))
    return result


class Number(unittest.TestCase):
    def test_the_example_of_the_standard_is_valid(self) -> None:
        self.assertEqual(check_digit("47312482"), 9)

    def test_groups_and_small_letters_are_brought_into_the_plain_form(self) -> None:
        self.assertEqual(scan("accepted", parcel="rr 4731 2482 9 gb").parcel, PARCEL)

    def test_every_mistyped_digit_is_found(self) -> None:
        for place in range(2, 11):
            mistyped = PARCEL[:place] + str((int(PARCEL[place]) + 1) % 10) + PARCEL[place + 1 :]
            with self.subTest(mistyped), self.assertRaises(ValidationError):
                scan("accepted", parcel=mistyped)


class Gate(unittest.TestCase):
    def test_a_time_without_a_zone_is_refused(self) -> None:
        fields = scan("accepted").model_dump() | {"at": "2026-03-02T08:00:00"}
        with self.assertRaisesRegex(ValidationError, "timezone"):
            Scan.model_validate(fields)

    def test_an_unknown_field_is_refused(self) -> None:
        with self.assertRaisesRegex(ValidationError, "colour"):
            Scan.model_validate(scan("accepted").model_dump() | {"colour": "red"})


class Life(unittest.TestCase):
    def test_a_parcel_goes_from_accepted_to_delivered(self) -> None:
        whole = history("accepted", "in-transit", "in-transit", "out-for-delivery", "delivered")
        self.assertEqual((whole.status, len(whole.scans)), (Status.DELIVERED, 5))

    def test_a_failed_delivery_goes_back_into_transit(self) -> None:
        self.assertEqual(history("accepted", "in-transit", "out-for-delivery", "in-transit").status, Status.IN_TRANSIT)

    def test_nothing_follows_a_delivery(self) -> None:
        delivered = history("accepted", "in-transit", "out-for-delivery", "delivered")
        for status in Status:
            with self.subTest(status), self.assertRaises(RefusedScanError):
                delivered.followed_by(scan(status, hours=9))

    def test_the_first_scan_is_the_acceptance(self) -> None:
        with self.assertRaisesRegex(RefusedScanError, "cannot be delivered after nothing"):
            History().followed_by(scan("delivered"))

    def test_a_scan_sent_twice_counts_once(self) -> None:
        twice = history("accepted", "in-transit").followed_by(scan("accepted", hours=0))
        self.assertEqual(twice, history("accepted", "in-transit"))

    def test_a_scan_from_the_past_is_refused(self) -> None:
        with self.assertRaisesRegex(RefusedScanError, "already seen later"):
            history("accepted", "in-transit").followed_by(scan("in-transit", hours=-1))

    def test_a_scan_of_another_parcel_is_refused(self) -> None:
        with self.assertRaisesRegex(RefusedScanError, "history of"):
            history("accepted").followed_by(scan("in-transit", hours=1, parcel="RR473124832GB"))


class Silence(unittest.TestCase):
    def test_only_a_parcel_on_its_way_can_be_silent(self) -> None:
        now = START + timedelta(days=3)
        self.assertEqual(history("accepted").silent_for(now), timedelta(days=3))
        self.assertEqual(history("accepted", "returned").silent_for(now), timedelta(0))
        self.assertEqual(History().silent_for(now), timedelta(0))
