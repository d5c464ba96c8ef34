"""The service through its front door; the process itself in test_process.py."""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from svc_a import create_app
from telemetry import logger

NUMBER = "RR473124829GB"


def scan(**changes: Any) -> dict[str, Any]:
    fields = {"parcel": NUMBER, "status": "accepted", "at": "2026-03-02T08:00:00Z", "latitude": 52.52}
    return {**fields, "longitude": 13.405, **changes}


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    return TestClient(create_app(tmp_path / "parcels.sqlite", logger("svc-a", "error")))


def test_a_recorded_scan_is_in_the_history(client: TestClient) -> None:
    assert client.post("/scans", json=scan()).status_code == 201
    paris = scan(status="in-transit", at="2026-03-02T20:00:00Z", latitude=48.8566, longitude=2.3522)
    assert client.post("/scans", json=paris).status_code == 201

    history = client.get(f"/parcels/{NUMBER.lower()}").json()
    assert (history["status"], len(history["scans"])) == ("in-transit", 2)


def test_an_unknown_parcel_is_404(client: TestClient) -> None:
    assert client.get(f"/parcels/{NUMBER}").status_code == 404


def test_nonsense_is_422_and_says_which_field(client: TestClient) -> None:
    answer = client.post("/scans", json=scan(parcel="RR473124828GB"))
    assert answer.status_code == 422
    assert "parcel: " in answer.json()["error"]
    assert client.post("/scans", content=b"no json").status_code == 422


def test_what_cannot_be_is_409_and_is_not_recorded(client: TestClient) -> None:
    answer = client.post("/scans", json=scan(status="delivered"))
    assert (answer.status_code, answer.json()["error"]) == (409, f"{NUMBER} cannot be delivered after nothing")
    assert client.get(f"/parcels/{NUMBER}").status_code == 404


def test_metrics_count_what_was_recorded_and_what_was_refused(client: TestClient) -> None:
    client.post("/scans", json=scan())
    client.post("/scans", json=scan(status="delivered", at="2026-03-03T08:00:00Z"))
    assert client.get("/metrics").text == 'scans_refused_total{code="409"} 1\nscans_total{status="accepted"} 1\n'


def test_health_is_ok_while_the_ledger_can_be_read(client: TestClient, tmp_path: Path) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    (tmp_path / "parcels.sqlite").write_text("this is no database, and long enough to be seen as none" * 20)
    broken = TestClient(client.app, raise_server_exceptions=False)
    assert broken.get("/health").status_code == 500
