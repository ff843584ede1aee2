"""The ledger in a Postgres database, which several routers may share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from headrace_router.cost.entry import Entry
from headrace_router.cost.store import CREATE, INSERT, StoreError, missing, repeat_of, values

_CONNECT_S = 5
_GUARDS = (
    """
    CREATE OR REPLACE FUNCTION headrace_append_only() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$
    """,
    """
    CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION headrace_append_only()
    """,
)
_LOCK = "SELECT pg_advisory_xact_lock(7242653)"
"""Routers that start together must not make the table at the same moment: Postgres fails one of them."""


class PostgresStore:
    """A ledger in a database.

    Args:
        path: a file with the connection string: passwords do not belong on a command line.
        read_only: for reports; makes no table.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._connection = self._connect()
        if read_only:
            self._connection.read_only = True
            return
        try:
            with self._connection.transaction():
                for statement in (_LOCK, *CREATE, *_GUARDS):
                    self._connection.execute(statement)
                # Only where one is missing: ALTER TABLE waits for every reader, even when it has nothing to add.
                for statement in missing(self.columns()):
                    self._connection.execute(statement)
        except psycopg.Error as error:
            raise StoreError(f"the ledger's database refuses its table: {error}") from error

    def _connect(self) -> "psycopg.Connection[tuple[Any, ...]]":
        try:
            dsn = self._path.read_text().strip()
            connection = psycopg.connect(dsn, autocommit=True, connect_timeout=_CONNECT_S)
            connection.execute("SET statement_timeout = '10s'")
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"the connection string in {self._path} cannot be read: {error}") from error
        except psycopg.Error as error:
            raise StoreError(f"the ledger's database cannot be reached: {error}") from error
        return connection

    def append(self, entries: Sequence[Entry]) -> list[bool]:
        """Write lines in one transaction."""
        try:
            with self._alive().transaction():
                return [self._add(entry) for entry in entries]
        except psycopg.Error as error:
            raise StoreError(f"the ledger's database cannot be written: {error}") from error

    def _add(self, entry: Entry) -> bool:
        if self._run(INSERT, values(entry)).rowcount == 1:
            return True
        if (repeat := repeat_of(entry)) is not None:
            self._run(INSERT, values(repeat))
        return False

    def query(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT."""
        try:
            self._alive()
            return self._run(statement, values).fetchall()
        except psycopg.Error as error:
            raise StoreError(f"the ledger's database cannot be read: {error}") from error

    def columns(self) -> frozenset[str]:
        """Return which columns there are."""
        statement = "SELECT attname FROM pg_attribute WHERE attrelid = 'entries'::regclass AND attnum > 0"
        return frozenset(name for (name,) in self.query(statement, ()))

    def _run(self, statement: str, values: Sequence[Any]) -> "psycopg.Cursor[tuple[Any, ...]]":
        return self._connection.execute(statement.replace("?", "%s"), values)

    def _alive(self) -> "psycopg.Connection[tuple[Any, ...]]":
        """Return the connection, made anew where the last one has broken."""
        if self._connection.closed or self._connection.broken:
            self._connection = self._connect()
        return self._connection

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
