"""What is done with a job. Knows no folder layout, no signal and no clock."""

from __future__ import annotations

from collections.abc import Callable

import journey
from ledger import Ledger
from telemetry import Counters, Logger
from tracking import History, Scan

from svc_b.inbox import Inbox


def work_off(inbox: Inbox, ledger: Ledger, log: Logger, counters: Counters, stop: Callable[[], bool]) -> None:
    """File every scan that waits, unless asked to stop between two.

    A job that is killed between the ledger and the move is filed again next time; the ledger knows scans it has.
    """
    for job in inbox.waiting():
        if stop():
            return
        try:
            history = _file(Scan.model_validate_json(job.read_bytes()), ledger)
        except ValueError as error:  # no scan, or one that cannot be: the sender's fault, not ours
            inbox.reject(job, str(error))
            counters.add("jobs_total", end="rejected")
            log.warning("rejected", job=job.name, reason=str(error))
        else:
            inbox.finish(job)
            counters.add("jobs_total", end="done")
            log.info("filed", job=job.name, parcel=history.scans[-1].parcel, status=history.status)


def _file(scan: Scan, ledger: Ledger) -> History:
    journey.check(ledger.history(scan.parcel).followed_by(scan))
    return ledger.record(scan)
