"""The ledger in a SQLite file.

Write-ahead logging with `synchronous=FULL`: a line that was reported as written outlives a kill of the process and of
the machine, and readers (reports) never stop the writer. Triggers refuse every change and removal, whoever tries.
"""

import contextlib
import fcntl
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from headrace_router.cost.entry import Entry
from headrace_router.cost.store import CREATE, INSERT, StoreError, missing, repeat_of, values

_CONNECTING: Any = {
    "timeout": 5.0,
    "isolation_level": None,
    "check_same_thread": False,  # opened by whoever wants to hear that it cannot be, then the ledger's thread's own
}
_GUARDS = tuple(
    f"CREATE TRIGGER IF NOT EXISTS no_{verb.lower()} BEFORE {verb} ON entries "
    f"BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
    for verb in ("UPDATE", "DELETE")
)
_OPENING = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", *CREATE, *_GUARDS)


class SqliteStore:
    """A ledger file that this process alone writes.

    Args:
        path: made when missing.
        read_only: for reports beside a running router.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        with contextlib.ExitStack() as opened:
            if not read_only:
                opened.enter_context(_locked(path))
            try:
                uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
                self._connection = sqlite3.connect(uri, uri=True, **_CONNECTING)
                opened.callback(self._connection.close)
                for statement in () if read_only else _OPENING:
                    self._connection.execute(statement)
                for statement in () if read_only else missing(self.columns()):
                    self._connection.execute(statement)
            except sqlite3.Error as error:
                raise StoreError(f"the ledger {path} cannot be opened: {error}") from error
            self._opened = opened.pop_all()

    def append(self, entries: Sequence[Entry]) -> list[bool]:
        """Write lines in one transaction."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            new = [self._add(entry) for entry in entries]
            connection.execute("COMMIT")
        except (sqlite3.Error, OverflowError) as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise StoreError(f"the ledger {self._path} cannot be written: {error}") from error
        return new

    def _add(self, entry: Entry) -> bool:
        if self._connection.execute(INSERT, values(entry)).rowcount == 1:
            return True
        if (repeat := repeat_of(entry)) is not None:
            self._connection.execute(INSERT, values(repeat))
        return False

    def query(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT."""
        try:
            rows: list[tuple[Any, ...]] = self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"the ledger {self._path} cannot be read: {error}") from error
        return rows

    def columns(self) -> frozenset[str]:
        """Return which columns there are."""
        return frozenset(name for (name,) in self.query("SELECT name FROM pragma_table_info('entries')", ()))

    def close(self) -> None:
        """Close the file; the last connection folds the write-ahead log into it."""
        self._opened.close()


def _locked(path: Path) -> IO[str]:
    """Return an open lock file: a second router on the same ledger would know nothing of the first one's budgets."""
    beside = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = beside.open("w")
    except OSError as error:
        raise StoreError(f"the ledger {path} cannot be opened: {error.strerror or error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        text = f"the ledger {path} is written by another router; several routers need a ledger in Postgres"
        raise StoreError(text) from error
    return lock
