"""The life of a parcel: tracking numbers, scans, and which scan may follow which. Pure; knows no storage, no clock."""

from tracking.history import History, RefusedScanError
from tracking.number import TrackingNumber, check_digit
from tracking.scan import Scan, Status

__all__ = ["History", "RefusedScanError", "Scan", "Status", "TrackingNumber", "check_digit"]
