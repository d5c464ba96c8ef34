"""The command as a person types it, on a small ledger."""

import subprocess
import sys
import sysconfig
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ledger import Ledger
from svc_report.cli import main
from svc_report.render import render
from tracking import Scan

NOW = datetime.now(UTC)
LOST, FRESH, ARRIVED = "RR473124829GB", "RR473124832GB", "RR473124846GB"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    lives = {
        LOST: [("accepted", 90), ("in-transit", 72)],
        FRESH: [("accepted", 2), ("in-transit", 1)],
        ARRIVED: [("accepted", 99), ("in-transit", 98), ("out-for-delivery", 97), ("delivered", 96)],
    }
    with Ledger.open(tmp_path / "parcels.sqlite") as ledger:
        for parcel, scans in lives.items():
            for status, hours in scans:
                where = {"latitude": 52.52, "longitude": 13.405}
                at = NOW - timedelta(hours=hours)
                ledger.record(Scan.model_validate({"parcel": parcel, "status": status, "at": at, **where}))
    return tmp_path / "parcels.sqlite"


def report(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--ledger", str(path), *arguments])


def test_the_summary_counts_by_status_the_most_frequent_first(path: Path) -> None:
    lines = report(path, "summary").output.split()
    assert lines == ["in-transit", "2", "delivered", "1"]


def test_silent_names_only_parcels_on_their_way_that_were_not_seen(path: Path) -> None:
    (line,) = report(path, "silent").output.split("\n")[:-1]
    assert line.split() == [LOST, "in-transit", "72.0", "h", "0", "km"]
    assert report(path, "silent", "--hours", "100").output == "no parcel is silent for more than 100 hours\n"


def test_a_page_is_made_from_the_same_figures(path: Path) -> None:
    page = report(path, "silent", "--format", "html").output
    assert page.startswith("<!doctype html>")
    assert f"<td>{LOST}<td>in-transit<td>72.0" in page
    assert FRESH not in page


def test_pages_are_escaped() -> None:
    assert "<td>&lt;b&gt;<td>1" in render("summary", "html", counts={"<b>": 1})


def test_a_parcel_can_be_named_as_people_write_it(path: Path) -> None:
    output = report(path, "parcel", "rr 4731 2484 6 gb").output
    assert output.count("\n") == 5
    assert output.endswith("travelled 0 km\n")


def test_an_unknown_parcel_and_a_missing_ledger_are_one_line_each(path: Path) -> None:
    unknown = report(path, "parcel", "XX")
    assert (unknown.exit_code, unknown.output) == (1, "Error: no parcel XX\n")
    missing = report(path.with_name("none"), "summary")
    assert missing.exit_code == 1
    assert "there is no ledger" in missing.output
    assert not path.with_name("none").exists()


def test_the_console_script_and_the_module_are_the_same_command(path: Path) -> None:
    script = Path(sysconfig.get_path("scripts")) / "parcel-report"
    outputs = [
        subprocess.run([*command, "--ledger", path, "summary"], capture_output=True, text=True, check=True).stdout
        for command in ([sys.executable, "-m", "svc_report"], [script])
    ]
    assert outputs[0] == outputs[1] != ""
