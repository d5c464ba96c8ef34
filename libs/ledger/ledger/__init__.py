"""Where scans are kept: an SQLite file that several services share."""

from ledger.ledger import Ledger, default_path

__all__ = ["Ledger", "default_path"]
