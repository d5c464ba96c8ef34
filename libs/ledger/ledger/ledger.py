"""The ledger: histories go in scan by scan and come out whole. Knows SQL, and no rule about parcels."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path

from tracking import History, Scan


@cache
def _sql(name: str) -> str:
    return files("ledger").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


def default_path() -> Path:
    """The file that `PARCEL_LEDGER` names, or `parcels.sqlite` in the temporary directory."""
    return Path(os.environ.get("PARCEL_LEDGER") or Path(tempfile.gettempdir()) / "parcels.sqlite")


class Ledger:
    """The scans of all parcels. One instance is for one thread; a file is for as many processes as like."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, path: Path | str) -> Iterator[Ledger]:
        """The ledger in a file, which is made if there is none; `:memory:` for one that leaves no trace.

        Raises:
            sqlite3.Error: if the file cannot be opened or is no database.
        """
        with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            connection.executescript(_sql("schema"))
            yield cls(connection)

    def record(self, scan: Scan) -> History:
        """Add a scan and return the parcel's history with it. A scan that is there already is not added again.

        Raises:
            RefusedScanError: if it contradicts the history; the ledger is then as before.
        """
        # IMMEDIATE: two writers that read the same history must not both decide on it.
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            before = self.history(scan.parcel)
            after = before.followed_by(scan)
            if after != before:
                self._connection.execute(_sql("insert_scan"), scan.model_dump(mode="json"))
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        return after

    def history(self, parcel: str) -> History:
        """All scans of one parcel; an empty history if it is unknown."""
        rows = self._connection.execute(_sql("scans_of_parcel"), {"parcel": parcel})
        return History(tuple(map(_scan, rows)))

    def histories(self) -> Iterator[tuple[str, History]]:
        """Each parcel with its history, in the order of their numbers."""
        rows = map(_scan, self._connection.execute(_sql("all_scans")))
        for parcel, scans in groupby(rows, key=lambda scan: scan.parcel):
            yield parcel, History(tuple(scans))


def _scan(row: sqlite3.Row) -> Scan:
    return Scan.model_validate(dict(row))
