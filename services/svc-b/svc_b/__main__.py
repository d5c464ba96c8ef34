"""`python -m svc_b`: work until told to stop, or with `--once` until the inbox is empty."""

from __future__ import annotations

import argparse
import signal
import time
from types import FrameType

from ledger import Ledger
from telemetry import Counters, logger

from svc_b.inbox import Inbox
from svc_b.settings import Settings
from svc_b.worker import work_off


class Stop:
    """Whether somebody asked us to stop. A signal only leaves word: a scan is never cut in half."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Be a signal handler."""
        self.asked = True


def main() -> None:
    """Read the settings, then work, then say what was done."""
    parser = argparse.ArgumentParser(prog="svc-b", description="File scans from an inbox into the ledger.")
    parser.add_argument("--once", action="store_true", help="end when the inbox is empty")
    once = parser.parse_args().once
    settings, stop, counters = Settings(), Stop(), Counters()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)

    log = logger("svc-b", settings.log_level)
    log.info("working", inbox=str(settings.inbox), ledger=str(settings.ledger), once=once)
    with Ledger.open(settings.ledger) as ledger:
        inbox = Inbox(settings.inbox)
        while not stop.asked:
            work_off(inbox, ledger, log, counters, lambda: stop.asked)
            if once:
                break
            if not stop.asked:
                time.sleep(settings.poll_seconds)
    done, rejected = (counters.value("jobs_total", end=end) for end in ("done", "rejected"))
    log.info("stopped", done=done, rejected=rejected)


if __name__ == "__main__":
    main()
