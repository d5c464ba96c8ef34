"""`python -m svc_a` as an orchestrator sees it: a port from outside, and an ordered stop."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], seconds: float = 20) -> httpx2.Response:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return httpx2.get(f"{url}/health", trust_env=False)
        except httpx2.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"not healthy after {seconds} s (exit code {process.poll()})")


def test_it_serves_on_the_given_port_and_ends_with_zero_on_sigterm(tmp_path: Path) -> None:
    port = free_port()
    settings = {"HOST": "127.0.0.1", "PORT": str(port), "PARCEL_LEDGER": str(tmp_path / "parcels.sqlite")}
    with subprocess.Popen([sys.executable, "-m", "svc_a"], env=os.environ | settings) as process:
        try:
            assert wait_until_healthy(f"http://127.0.0.1:{port}", process).status_code == 200
            process.terminate()
            assert process.wait(timeout=15) == 0
        finally:
            process.kill()
