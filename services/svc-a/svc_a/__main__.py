"""`python -m svc_a`: serve until told to stop."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import uvicorn
from ledger import default_path
from telemetry import logger

from svc_a.app import create_app


def _exit(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def main() -> None:
    """Serve on `HOST` and `PORT`; `PARCEL_LOG_LEVEL` as the telemetry library knows it."""
    host, port = os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("PORT", "8000"))
    log = logger("svc-a", os.environ.get("PARCEL_LOG_LEVEL", "info"))
    app = create_app(default_path(), log)
    # uvicorn finishes open requests, then raises the signal that stopped it once more: an ordered stop is a success.
    signal.signal(signal.SIGTERM, _exit)
    log.info("serving", host=host, port=port, ledger=str(default_path()))
    uvicorn.run(app, host=host, port=port, log_config=None, timeout_graceful_shutdown=10)


if __name__ == "__main__":
    main()
