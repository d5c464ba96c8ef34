"""All scans of one parcel, and the rule which scan may follow which."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tracking.scan import Scan, Status

_NEXT = {
    None: {Status.ACCEPTED},
    Status.ACCEPTED: {Status.IN_TRANSIT, Status.RETURNED},
    Status.IN_TRANSIT: {Status.IN_TRANSIT, Status.OUT_FOR_DELIVERY, Status.RETURNED},
    Status.OUT_FOR_DELIVERY: {Status.DELIVERED, Status.IN_TRANSIT, Status.RETURNED},
    Status.DELIVERED: set(),
    Status.RETURNED: set(),
}


class RefusedScanError(ValueError):
    """A scan that contradicts what is known about its parcel."""


@dataclass(frozen=True)
class History:
    """The scans of one parcel, oldest first. A new scan makes a new history."""

    scans: tuple[Scan, ...] = ()

    @property
    def status(self) -> Status | None:
        """What the last scan says; None before the first."""
        return self.scans[-1].status if self.scans else None

    def followed_by(self, scan: Scan) -> History:
        """This history and one scan more; the same history if it has that scan already (scanners send twice).

        Raises:
            RefusedScanError: if the scan is of another parcel, older than the last one, or cannot follow it.
        """
        if scan in self.scans:
            return self
        if self.scans and scan.parcel != self.scans[-1].parcel:
            raise RefusedScanError(f"a scan of {scan.parcel} in the history of {self.scans[-1].parcel}")
        if self.scans and scan.at < self.scans[-1].at:
            raise RefusedScanError(f"{scan.parcel} was already seen later, at {self.scans[-1].at.isoformat()}")
        if scan.status not in _NEXT[self.status]:
            raise RefusedScanError(f"{scan.parcel} cannot be {scan.status} after {self.status or 'nothing'}")
        return History((*self.scans, scan))

    def silent_for(self, now: datetime) -> timedelta:
        """How long nothing was heard of a parcel that is still on its way; zero once it arrived."""
        if self.status is None or self.status.final:
            return timedelta(0)
        return now - self.scans[-1].at
