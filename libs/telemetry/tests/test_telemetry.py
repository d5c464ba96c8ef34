"""What a log line and a metrics page look like."""

import io
import json
import unittest
from datetime import datetime, timedelta

from telemetry import Counters, logger


class Log(unittest.TestCase):
    def setUp(self) -> None:
        self.stream = io.StringIO()

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def test_a_line_is_one_json_object_with_service_level_and_utc_time(self) -> None:
        logger("svc-x", stream=self.stream).info("scan recorded", parcel="RR473124829GB")
        (line,) = self.lines()
        time = datetime.fromisoformat(str(line.pop("timestamp")))
        self.assertEqual(time.utcoffset(), timedelta(0))
        self.assertEqual(
            line, {"service": "svc-x", "level": "info", "event": "scan recorded", "parcel": "RR473124829GB"}
        )

    def test_what_is_below_the_level_is_left_out(self) -> None:
        log = logger("svc-x", level="Warning", stream=self.stream)
        log.info("quiet")
        log.warning("loud")
        self.assertEqual([line["event"] for line in self.lines()], ["loud"])

    def test_an_unknown_level_is_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "'chatty'"):
            logger("svc-x", level="chatty")


class Count(unittest.TestCase):
    def test_counters_are_kept_apart_by_their_labels_in_any_order(self) -> None:
        counters = Counters()
        counters.add("scans_total", status="delivered", hub="BER")
        counters.add("scans_total", 2, hub="BER", status="delivered")
        counters.add("scans_total", hub="PAR", status="delivered")
        self.assertEqual(counters.value("scans_total", status="delivered", hub="BER"), 3)
        self.assertEqual(counters.value("scans_total"), 0)

    def test_the_page_is_sorted_and_escaped(self) -> None:
        counters = Counters()
        counters.add("b_total", 2)
        counters.add("a_total", reason='no "such"\nparcel')
        self.assertEqual(counters.render(), 'a_total{reason="no \\"such\\"\\nparcel"} 1\nb_total 2\n')

    def test_a_counter_never_goes_down(self) -> None:
        with self.assertRaises(ValueError):
            Counters().add("a_total", -1)
