"""The database: records of steps and doit's own rows, in one SQLite file (WAL, a commit a step).

The same file serves every doit command (`backend.py`), so `list`, `info`, `forget` and `clean` see what `run` wrote.
The first write of a process removes the quick index first: an index that is there speaks of records nobody touched
since. A file that is damaged is started anew: it costs time, never a wrong skip. SQLite sees damage of its pages only,
so what a record says of outputs is sealed by a checksum of our own. Knows SQL and rows. Does not decide anything.
"""

import json
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from buildlib.errors import BuildlibError
from buildlib.fingerprint.index import RECORDS
from buildlib.fingerprint.parts import Parts
from buildlib.plan import Output, Record

if TYPE_CHECKING:
    import sqlite3

PATH = RECORDS
SCHEMA = 2

_TABLES = """
create table if not exists record(task text primary key, state text not null, fingerprint text not null,
    outputs text not null, seal integer not null, intent text not null, reason text not null, word text not null,
    seconds real not null, finished real not null);
create table if not exists parts(task text primary key, parts text not null);
create table if not exists doit(task text primary key, data text not null);
"""
_COLUMNS = "task, state, fingerprint, outputs, seal, intent, reason, word, seconds, finished"


class Records(MutableMapping[str, Record]):
    """The records of steps by name, each read when it is first asked for, all when they are listed.

    What is set or deleted here is remembered here only: the database is written by its own methods.
    """

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._known: dict[str, Record | None] = {}

    def __getitem__(self, task: str) -> Record:
        if task not in self._known:
            self._known[task] = self._database.record(task)
        record = self._known[task]
        if record is None:
            raise KeyError(task)
        return record

    def __setitem__(self, task: str, record: Record) -> None:
        self._known[task] = record

    def __delitem__(self, task: str) -> None:
        self._known[task] = None

    def __iter__(self) -> Iterator[str]:
        self._known = {**self._database.records(), **self._known}
        return iter([task for task, record in self._known.items() if record is not None])

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Database:
    """The rows, opened at first use.

    Args:
        path: of the SQLite file, made with its directory where it is missing.
        before_write: called once, before the first change of this process.
    """

    def __init__(self, path: str = PATH, before_write: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self._before_write: Callable[[], None] | None = before_write
        self._connection: sqlite3.Connection | None = None
        self._guard = threading.RLock()  # actions in worker threads announce what they publish

    # -- records of steps

    def records(self) -> dict[str, Record]:
        """Return all records by step name; a damaged row counts as no row."""
        return {row[0]: r for row in self._query(f"select {_COLUMNS} from record") if (r := _record(row))}

    def record(self, task: str) -> Record | None:
        """Return the record of one step."""
        rows = self._query(f"select {_COLUMNS} from record where task = ?", task)
        return _record(rows[0]) if rows else None

    def parts(self, task: str) -> Parts:
        """Return the parts of the last success of `task`; none where it has none or the row is damaged."""
        rows = self._query("select parts from parts where task = ?", task)
        try:
            parts = json.loads(rows[0][0]) if rows else {}
        except ValueError:
            return {}
        return parts if isinstance(parts, dict) else {}

    def begin(self, task: str, reason: str) -> None:
        """Mark `task` as running, durably, before anything of it is done; the last success stays for the reason."""
        self._write(
            "insert into record values(?, 'running', '', '[]', ?, '[]', ?, '', 0, 0) "
            "on conflict(task) do update set state = 'running', reason = excluded.reason",
            task, _seal(task, "[]"), reason,
        )  # fmt: skip

    def announce(self, task: str, paths: Iterable[str]) -> None:
        """Note the paths that `task` is about to publish: they are ours even if we are killed before it is recorded."""
        self._write("update record set intent = ? where task = ?", json.dumps(sorted(paths)), task)

    def done(self, task: str, record: Record, parts: Parts) -> None:
        """Keep a success: its record and its parts, in one commit."""
        outputs = json.dumps([[o.name, o.path, o.sha256, o.size, o.executable] for o in record.outputs])
        kept = (task, record.fingerprint, outputs, _seal(task, outputs))
        told = (record.reason, record.word, record.seconds, record.finished)
        self._write_all(
            ("insert or replace into record values(?, 'done', ?, ?, ?, '[]', ?, ?, ?, ?)", (*kept, *told)),
            ("insert or replace into parts values(?, ?)", (task, json.dumps(parts, sort_keys=True))),
        )

    def failed(self, task: str) -> None:
        """Note that a run of `task` failed; the last success stays for the reason."""
        self._write("update record set state = 'failed', word = 'failed' where task = ?", task)

    def skipped(self, task: str, reason: str) -> None:
        """Note that `task` cannot be made here (no engine) and that this was said; what its record proves stays."""
        self._write(
            "insert into record values(?, 'skipped', '', '[]', ?, '[]', ?, 'skipped', 0, 0) "
            "on conflict(task) do update set word = excluded.word, reason = excluded.reason",
            task, _seal(task, "[]"), reason,
        )  # fmt: skip

    def forget(self, task: str) -> None:
        """Forget how `task` went. Which files are ours is remembered, so that older ones still go."""
        self._write_all(
            ("update record set state = 'forgotten', fingerprint = '' where task = ?", (task,)),
            ("delete from parts where task = ?", (task,)),
        )

    def drop(self, task: str) -> None:
        """Remove every trace of `task`: its outputs are gone."""
        self._write_all(*((f"delete from {table} where task = ?", (task,)) for table in ("record", "parts", "doit")))

    # -- doit's rows

    def values(self, task: str) -> dict[str, Any]:
        """Return what doit keeps of `task`."""
        rows = self._query("select data from doit where task = ?", task)
        try:
            return dict(json.loads(rows[0][0])) if rows else {}
        except (ValueError, TypeError):
            return {}

    def set_values(self, task: str, data: dict[str, Any]) -> None:
        """Keep what doit wants to know of `task` the next time. Raises `TypeError` if it is not JSON."""
        self._write("insert or replace into doit values(?, ?)", task, json.dumps(data))

    def tasks(self) -> list[str]:
        """Return the names of all tasks that have a row of any kind."""
        return sorted({t for table in ("record", "doit") for (t,) in self._query(f"select task from {table}")})

    def remove_values(self, task: str) -> None:
        """Forget what doit keeps of `task`."""
        self._write("delete from doit where task = ?", task)

    def close(self) -> None:
        """Close the file: SQLite then folds its log into it."""
        with self._guard:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # -- SQLite

    def _query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        if self._connection is None and not os.path.exists(self.path):
            return []
        return self._do(lambda connection: connection.execute(statement, values).fetchall(), self._open)

    def _write(self, statement: str, *values: Any) -> None:
        self._write_all((statement, values))

    def _write_all(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        """Execute `statements` in one commit."""
        self._do(lambda connection: _execute(connection, statements), self._open_for_write)

    def _do(self, act: "Callable[[sqlite3.Connection], _T]", opened: "Callable[[], sqlite3.Connection]") -> "_T":
        """Return what `act` does with the connection; where the file turns out to be damaged, with a new, empty one.

        Raises:
            BuildlibError: the disk, or a permission, is in the way.
        """
        import sqlite3

        with self._guard:
            try:
                return act(opened())
            except (sqlite3.Error, OSError, UnicodeError) as error:
                self._start_anew(error)
            try:
                return act(opened())
            except (sqlite3.Error, OSError, UnicodeError) as error:
                raise self._unusable(error) from None

    def _open_for_write(self) -> "sqlite3.Connection":
        if self._before_write is not None:
            self._before_write()
            self._before_write = None
        return self._open()

    def _open(self) -> "sqlite3.Connection":
        if self._connection is None:
            os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
            self._connection = _connect(self.path)
        return self._connection

    def _start_anew(self, error: Exception) -> None:
        """Remove the file if `error` means that it is damaged. Raises `BuildlibError` if it means anything else."""
        # Without a code: a text that is none, a schema that is not ours.
        if isinstance(error, OSError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _SURROUNDINGS:
            raise self._unusable(error) from None
        self.close()
        if self._before_write is not None:
            self._before_write()
        try:
            for suffix in ("", "-wal", "-shm"):
                if os.path.lexists(self.path + suffix):
                    os.remove(self.path + suffix)
        except OSError as problem:
            raise self._unusable(problem) from None

    def _unusable(self, error: Exception) -> BuildlibError:
        cause = error.strerror if isinstance(error, OSError) else error
        return BuildlibError(self.path, f"cannot be used ({cause})", "free disk space, check permissions, or delete it")


_T = TypeVar("_T")

_SURROUNDINGS = frozenset({3, 5, 6, 7, 8, 9, 10, 13, 14, 23})
"""SQLite's primary result codes that speak of a disk, memory, locks or permissions, not of a damaged file: PERM, BUSY,
LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, AUTH (https://sqlite.org/rescode.html)."""


def _execute(connection: "sqlite3.Connection", statements: Iterable[tuple[str, tuple[Any, ...]]]) -> None:
    connection.execute("begin immediate")
    try:
        for statement, values in statements:
            connection.execute(statement, values)
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:  # a full disk may have rolled it back already
            connection.execute("rollback")
        raise


def _connect(path: str) -> "sqlite3.Connection":
    import sqlite3

    connection = sqlite3.connect(path, isolation_level=None, timeout=60, check_same_thread=False)
    try:
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=normal")
        version = connection.execute("pragma user_version").fetchone()[0]
        if version not in (0, SCHEMA):
            raise sqlite3.DatabaseError(f"schema {version}")
        if version == 0:
            connection.executescript(f"begin immediate; {_TABLES} pragma user_version={SCHEMA}; commit")
    except BaseException:
        connection.close()
        raise
    return connection


def _seal(task: str, outputs: str) -> int:
    """Return a checksum of what a record says of its outputs: a damaged fingerprint equals no other, but a damaged name
    of an output could pass for another."""
    return zlib.crc32(f"{task}\n{outputs}".encode("utf-8", "surrogateescape"))


def _record(row: Sequence[Any]) -> Record | None:
    task, state, fingerprint, outputs, seal, intent, reason, word, seconds, finished = row
    try:
        if seal != _seal(task, outputs):
            return None
        made = tuple(Output(*fields) for fields in json.loads(outputs))
        return Record(state, fingerprint, made, tuple(json.loads(intent)), reason, word, seconds, finished)
    except (ValueError, TypeError):
        return None
