"""Both stores keep what they are given, once, and nothing changes it."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.router.cost.lines import OLD_COLUMNS, OLD_INSERT, OLD_TABLE, line, old_values

from headrace_router.cost.budget import Limit
from headrace_router.cost.report import parse_groups, parse_span, report, spent_since, to_csv, to_json
from headrace_router.cost.sqlite import SqliteStore
from headrace_router.cost.store import Store, StoreError, open_store

COUNT = "SELECT COUNT(*), SUM(billed), SUM(cost) FROM entries"


def test_a_line_comes_back_as_it_was(store: Store) -> None:
    entry = line("e1", request="caf\u00e9", cost=2**62)
    assert store.append([entry]) == [True]
    (row,) = store.query("SELECT * FROM entries WHERE entry = ?", ("e1",))
    assert list(row) == [getattr(entry, name) for name in entry.__struct_fields__]


def test_a_second_line_of_the_same_name_bills_nothing_and_is_kept_as_a_repeat(store: Store) -> None:
    assert store.append([line("e1"), line("e2"), line("e1", cost=7)]) == [True, True, False]
    assert store.append([line("e2")]) == [False]
    assert [int(value) for value in store.query(COUNT, ())[0]] == [4, 60, 30 + 30 + 7 + 30]
    kinds = store.query("SELECT kind, COUNT(*) FROM entries GROUP BY kind ORDER BY kind", ())
    assert kinds == [("repeat", 2), ("request", 2)]


@pytest.mark.parametrize("statement", ["UPDATE entries SET billed = 0", "DELETE FROM entries"])
def test_nothing_can_be_changed_or_removed(store: Store, statement: str) -> None:
    store.append([line("e1")])
    with pytest.raises(StoreError, match="append-only"):
        store.query(statement, ())
    assert int(store.query(COUNT, ())[0][0]) == 1


def test_lines_outlive_the_store(place: str) -> None:
    first = open_store(place)
    first.append([line("e1")])
    first.close()
    second = open_store(place)
    assert second.append([line("e1")]) == [False]
    second.close()


def _older(place: str, statement: str, values: Sequence[Any] = ()) -> None:
    """Do what a program of the first version would do to a ledger."""
    kind, _, rest = place.partition(":")
    if kind == "sqlite":
        connection = sqlite3.connect(rest)
        connection.execute(statement, values)
        connection.commit()
        connection.close()
        return
    import psycopg  # noqa: PLC0415 - `place` has skipped where it is not installed

    with psycopg.connect(Path(rest).read_text().strip(), autocommit=True) as database:
        database.execute(statement.replace("?", "%s").encode(), values)


def test_an_older_ledger_keeps_every_line_and_gets_the_new_columns(place: str) -> None:
    _older(place, OLD_TABLE)
    before = [line(f"e{number}", billed=number) for number in range(50)]
    for entry in before:
        _older(place, OLD_INSERT, old_values(entry))
    for _ in range(2):
        store = open_store(place)
        rows = store.query(f"SELECT {', '.join(OLD_COLUMNS)} FROM entries ORDER BY billed", ())
        assert [tuple(row) for row in rows] == [old_values(entry) for entry in before]
        assert {"gain", "stage", "role"} <= store.columns()
        with pytest.raises(StoreError, match="append-only"):
            store.query("UPDATE entries SET gain = 1", ())
        store.close()


def test_a_router_of_an_older_version_goes_on_writing_to_a_newer_ledger(place: str) -> None:
    open_store(place).close()
    _older(place, OLD_INSERT, old_values(line("e1")))
    store = open_store(place)
    assert store.append([line("e2", gain=0.25, stage="prefix"), line("e1")]) == [True, False]
    rows = store.query("SELECT gain, stage FROM entries WHERE kind = 'request' ORDER BY entry", ())
    assert [tuple(row) for row in rows] == [(None, None), (0.25, "prefix")]
    store.close()


def test_an_older_ledger_is_read_as_it_is(place: str) -> None:
    _older(place, OLD_TABLE)
    _older(place, OLD_INSERT, old_values(line("e1")))
    store = open_store(place, read_only=True)
    assert store.columns() == frozenset(OLD_COLUMNS)
    assert [row["requests"] for row in report(store.query, parse_groups("tier"), 0.0)] == [1]
    store.close()


def test_a_report_sums_by_groups_the_dearest_first(store: Store) -> None:
    store.append(
        [
            line("a", team="ads", cost=2_500_000_000, billed=2_500_000_000),
            line("b", team="search", cost=1, billed=1),
            line("c", team="search", cost=2, billed=0, kind="failed", status=502, lost_s=1.5),
            line("d", team="search", at=10.0),
        ]
    )
    store.append([line("a", team="ads")])
    rows = report(store.query, parse_groups("team,tier"), 999_999.0)
    assert [(row["team"], row["tier"], row["cost"], row["billed"]) for row in rows] == [
        ("ads", "small", "2.50000003", "2.5"),
        ("search", "small", "0.000000003", "0.000000001"),
    ]
    assert [(row["requests"], row["repeats"], row["failed"]) for row in rows] == [(1, 1, 0), (1, 0, 1)]
    assert rows[1]["lost_gpu_seconds"] == 1.5
    assert b'"cost":2.50000003' in to_json(rows)
    assert to_csv(rows).splitlines()[0].startswith("team,tier,requests,")
    assert [row["day"] for row in report(store.query, parse_groups("day"), 0.0)] == ["1970-01-12", "1970-01-01"]


def test_what_a_budget_has_spent_is_what_was_billed_since(store: Store) -> None:
    store.append([line("a"), line("b", billed=12), line("c", team="ads"), line("d", at=5.0)])
    limit = Limit("x", "team", "search", "month", None, 100)
    assert spent_since(store.query, limit, 6.0) == 42
    assert spent_since(store.query, limit, 0.0) == 72


def test_a_second_router_on_the_same_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    first = SqliteStore(path)
    with pytest.raises(StoreError, match="written by another router"):
        SqliteStore(path)
    first.append([line("a")])
    reader = SqliteStore(path, read_only=True)
    assert int(reader.query(COUNT, ())[0][0]) == 1
    with pytest.raises(StoreError, match="readonly"):
        reader.append([line("b")])
    reader.close()
    first.close()
    SqliteStore(path).close()


def test_a_place_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected sqlite:PATH or postgres:PATH"):
        open_store("mysql:x")
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(f"sqlite:{tmp_path}")
    (tmp_path / "text").write_text("no database" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(f"sqlite:{tmp_path / 'text'}")
    with pytest.raises(StoreError, match="cannot be read"):
        open_store(f"postgres:{tmp_path / 'none'}")
    dsn = tmp_path / "dsn"
    dsn.write_text(f"host={tmp_path} user=x")
    with pytest.raises(StoreError, match="cannot be reached"):
        open_store(f"postgres:{dsn}")


def test_sqlite_keeps_a_transaction_whole(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "ledger.db")
    with pytest.raises(StoreError, match="cannot be written"):
        store.append([line("a"), line("b", cost=2**70)])
    assert int(store.query(COUNT, ())[0][0]) == 0
    assert store.append([line("a")]) == [True]
    store.close()


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("24h", 86_400), ("7d", 604_800), ("2w", 1_209_600)])
def test_spans_are_read(text: str, seconds: int) -> None:
    assert parse_span(text) == seconds
