"""The worker as a process: what it leaves in its folders and in the ledger."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from ledger import Ledger

NUMBER = "RR473124829GB"


class World:
    """An inbox, a ledger, and a worker on both."""

    def __init__(self, folder: Path) -> None:
        self.inbox, self.ledger = folder / "inbox", folder / "parcels.sqlite"
        self.inbox.mkdir()

    def put(self, name: str, status: str, hour: int, parcel: str = NUMBER, latitude: float = 52.52) -> None:
        at = f"2026-03-02T{hour:02}:00:00Z"
        scan = {"parcel": parcel, "status": status, "at": at, "latitude": latitude, "longitude": 13.405}
        unfinished = self.inbox / f"{name}.part"
        unfinished.write_text(json.dumps(scan))
        unfinished.rename(self.inbox / f"{name}.json")

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        settings = {"PARCEL_INBOX": self.inbox, "PARCEL_LEDGER": self.ledger, "PARCEL_POLL_SECONDS": "0.05"}
        environment = os.environ | {key: str(value) for key, value in settings.items()}
        return subprocess.Popen([sys.executable, "-m", "svc_b", *arguments], env=environment)

    def run_once(self) -> int:
        with self.start("--once") as process:
            return process.wait(timeout=30)

    def names(self, folder: str) -> Sequence[str]:
        return sorted(path.name for path in (self.inbox / folder).iterdir() if path.is_file())

    def statuses(self) -> list[str]:
        with Ledger.open(self.ledger) as ledger:
            return [str(scan.status) for scan in ledger.history(NUMBER).scans]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_once_files_all_scans_in_the_order_of_their_names_and_ends(world: World) -> None:
    world.put("2-transit", "in-transit", hour=9)
    world.put("1-accepted", "accepted", hour=8)
    assert world.run_once() == 0
    assert world.statuses() == ["accepted", "in-transit"]
    assert (world.names("."), world.names("done")) == ([], ["1-accepted.json", "2-transit.json"])


def test_a_scan_that_cannot_be_is_put_aside_with_the_reason_and_the_rest_goes_on(world: World) -> None:
    world.put("1", "accepted", hour=8)
    world.put("2", "delivered", hour=9)
    world.put("3", "in-transit", hour=10, parcel="RR473124828GB")
    (world.inbox / "4.json").write_text("no json")
    world.put("5", "in-transit", hour=11)
    assert world.run_once() == 0
    assert world.statuses() == ["accepted", "in-transit"]
    assert world.names("rejected") == ["2.json", "2.reason", "3.json", "3.reason", "4.json", "4.reason"]
    assert (world.inbox / "rejected/2.reason").read_text() == f"{NUMBER} cannot be delivered after accepted\n"


def test_a_parcel_that_would_have_to_fly_faster_than_a_plane_is_put_aside(world: World) -> None:
    world.put("1", "accepted", hour=8)
    world.put("2", "in-transit", hour=9, latitude=-33.87)
    world.put("3", "in-transit", hour=23, latitude=-33.87)
    assert world.run_once() == 0
    assert world.names("rejected") == ["2.json", "2.reason"]
    assert (world.inbox / "rejected/2.reason").read_text() == f"{NUMBER} cannot have gone 9606 km in 1.0 hours\n"


def test_a_job_that_was_filed_but_not_put_away_is_filed_once(world: World) -> None:
    for _ in range(2):
        world.put("1", "accepted", hour=8)
        assert world.run_once() == 0
    assert world.statuses() == ["accepted"]


def test_an_unfinished_file_is_left_alone(world: World) -> None:
    (world.inbox / "1.part").write_text('{"parcel": ')
    assert world.run_once() == 0
    assert world.names(".") == ["1.part"]


def test_it_waits_for_more_and_ends_with_zero_on_sigterm(world: World) -> None:
    with world.start() as process:
        try:
            world.put("1", "accepted", hour=8)
            deadline = time.monotonic() + 20
            while not (world.inbox / "done/1.json").exists():
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
            process.terminate()
            assert process.wait(timeout=10) == 0
        finally:
            process.kill()
    assert world.statuses() == ["accepted"]


def test_a_senseless_setting_stops_it_before_any_work(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("1", "accepted", hour=8)
    monkeypatch.setenv("PARCEL_LOG_LEVEL", "chatty")
    assert world.run_once() != 0
    assert world.names(".") == ["1.json"]
