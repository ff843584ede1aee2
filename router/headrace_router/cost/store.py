"""Where the ledger's lines are kept: SQLite in a file, or Postgres; both append-only, both by the same statements.

A store lives on one thread. A second line of the same name never changes the first: it is kept as a repeat that
bills nothing.
"""

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from headrace_router.cost.entry import ADDED, COLUMNS, Entry
from headrace_router.errors import RouterError


class StoreError(RouterError):
    """The ledger's store cannot be opened, read or written now."""


class Store(Protocol):
    """One open store."""

    def append(self, entries: Sequence[Entry]) -> list[bool]:
        """Write lines in one transaction; return for each whether it was new. Raise StoreError where none was."""

    def query(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT whose places are `?`; raise StoreError."""

    def columns(self) -> frozenset[str]:
        """Return which columns there are: one that is only read may be older than this program; raise StoreError."""

    def close(self) -> None:
        """End."""


_KINDS = {float: "DOUBLE PRECISION", float | None: "DOUBLE PRECISION", int: "BIGINT", str: "TEXT"}
_FIELDS = {field.name: field.type for field in msgspec.structs.fields(Entry)}


def _column(name: str) -> str:
    bound = " PRIMARY KEY" if name == "entry" else ""
    return f"{name} {_KINDS.get(_FIELDS[name], 'TEXT')}{'' if name in ADDED else ' NOT NULL'}{bound}"


CREATE = (
    f"CREATE TABLE IF NOT EXISTS entries ({', '.join(map(_column, COLUMNS))})",
    "CREATE INDEX IF NOT EXISTS entries_at ON entries (at)",
)
NAMES = ", ".join(COLUMNS)
PLACES = ", ".join("?" for _ in COLUMNS)
INSERT = f"INSERT INTO entries ({NAMES}) VALUES ({PLACES}) ON CONFLICT (entry) DO NOTHING"  # noqa: S608 - our own names


def missing(columns: frozenset[str]) -> tuple[str, ...]:
    """Return the statements that give a table of an older version its columns; no line is touched by them."""
    return tuple(f"ALTER TABLE entries ADD COLUMN {_column(name)}" for name in ADDED if name not in columns)


def values(entry: Entry) -> tuple[Any, ...]:
    """Return a line's values in the order of the columns."""
    return msgspec.structs.astuple(entry)


def repeat_of(entry: Entry) -> Entry | None:
    """Return a line for what ran again though it is in the ledger already: it cost something and bills nothing.

    None for time of a worker: another router told of the very same.
    """
    if entry.kind not in ("request", "tried", "failed", "repeat"):
        return None
    return msgspec.structs.replace(entry, entry=f"{entry.entry}~{uuid.uuid4().hex}", kind="repeat", billed=0)


def open_store(place: str, *, read_only: bool = False) -> Store:
    """Open what `sqlite:PATH` or `postgres:PATH` (a file with a connection string) names; raise StoreError.

    Args:
        place: where it is.
        read_only: for reports, beside a router that writes.
    """
    kind, _, rest = place.partition(":")
    if kind == "sqlite" and rest:
        from headrace_router.cost.sqlite import SqliteStore  # noqa: PLC0415 - one of two, and not always built in

        return SqliteStore(Path(rest), read_only=read_only)
    if kind == "postgres" and rest:
        from headrace_router.cost.postgres import PostgresStore  # noqa: PLC0415 - likewise

        return PostgresStore(Path(rest), read_only=read_only)
    raise StoreError(f"the ledger is {place!r}; expected sqlite:PATH or postgres:PATH, a file with a connection string")
