"""What goes in comes out, once, and a refused scan leaves no trace."""

import os
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

from ledger import Ledger, default_path
from tracking import History, RefusedScanError, Scan

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
ONE, OTHER = "RR473124829GB", "RR473124832GB"


def scan(status: str, hours: int = 0, parcel: str = ONE) -> Scan:
    at = START + timedelta(hours=hours)
    return Scan.model_validate({"parcel": parcel, "status": status, "at": at, "latitude": 52.52, "longitude": 13.405})


class Recording(unittest.TestCase):
    def setUp(self) -> None:
        self.ledger = self.enterContext(Ledger.open(":memory:"))

    def test_a_history_comes_out_as_it_went_in(self) -> None:
        self.ledger.record(scan("accepted"))
        after = self.ledger.record(scan("in-transit", 1))
        self.assertEqual(after.scans, (scan("accepted"), scan("in-transit", 1)))
        self.assertEqual(self.ledger.history(ONE), after)

    def test_a_scan_sent_twice_is_kept_once(self) -> None:
        self.ledger.record(scan("accepted"))
        self.assertEqual(len(self.ledger.record(scan("accepted")).scans), 1)
        self.assertEqual(len(self.ledger.history(ONE).scans), 1)

    def test_a_refused_scan_leaves_the_ledger_as_it_was_and_usable(self) -> None:
        before = self.ledger.record(scan("accepted"))
        with self.assertRaises(RefusedScanError):
            self.ledger.record(scan("delivered", 1))
        self.assertEqual(self.ledger.history(ONE), before)
        self.assertEqual(len(self.ledger.record(scan("in-transit", 2)).scans), 2)

    def test_parcels_are_kept_apart_and_listed_by_number(self) -> None:
        for parcel in (OTHER, ONE):
            self.ledger.record(scan("accepted", parcel=parcel))
        self.assertEqual([parcel for parcel, _ in self.ledger.histories()], [ONE, OTHER])

    def test_an_unknown_parcel_has_an_empty_history(self) -> None:
        self.assertEqual(self.ledger.history(OTHER), History())


class SharedFile(unittest.TestCase):
    def setUp(self) -> None:
        self.path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "parcels.sqlite"

    def test_what_one_process_writes_another_reads(self) -> None:
        with Ledger.open(self.path) as writer, Ledger.open(self.path) as reader:
            writer.record(scan("accepted"))
            self.assertEqual(len(reader.history(ONE).scans), 1)

    def test_of_many_writers_with_the_same_scan_one_adds_it(self) -> None:
        def write(_: int) -> None:
            with Ledger.open(self.path) as ledger:
                ledger.record(scan("accepted"))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(32)))
        with Ledger.open(self.path) as ledger:
            self.assertEqual(len(ledger.history(ONE).scans), 1)

    def test_the_environment_names_the_file(self) -> None:
        with patch.dict(os.environ, PARCEL_LEDGER=str(self.path)):
            self.assertEqual(default_path(), self.path)
        with patch.dict(os.environ, PARCEL_LEDGER=""):
            self.assertEqual(default_path().name, "parcels.sqlite")
