"""What the ledger says: sums by tenant, tier or model over a span of time."""

import csv
import datetime as dt
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from headrace_router.cost.budget import Limit
from headrace_router.cost.money import to_text
from headrace_router.errors import RouterError

Query = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "tenant": ("organisation", "team", "key"),
    "organisation": ("organisation",),
    "team": ("team",),
    "key": ("key",),
    "tier": ("tier",),
    "model": ("model",),
    "kind": ("kind",),
    "day": ("day",),
}
_DAY: Final = "CAST(at AS BIGINT) / 86400"
_SUMS: Final[Mapping[str, str]] = {
    "requests": "SUM(CASE WHEN kind = 'request' THEN 1 ELSE 0 END)",
    "tried": "SUM(CASE WHEN kind = 'tried' THEN 1 ELSE 0 END)",
    "repeats": "SUM(CASE WHEN kind = 'repeat' THEN 1 ELSE 0 END)",
    "failed": "SUM(CASE WHEN kind = 'failed' THEN 1 ELSE 0 END)",
    "prompt_tokens": "SUM(prompt_tokens)",
    "cached_tokens": "SUM(cached_tokens)",
    "completion_tokens": "SUM(completion_tokens)",
    "prefill_gpu_seconds": "SUM(prefill_s)",
    "decode_gpu_seconds": "SUM(decode_s)",
    "lost_gpu_seconds": "SUM(CASE WHEN kind IN ('idle', 'load') THEN 0 ELSE lost_s END)",
    "idle_gpu_seconds": "SUM(CASE WHEN kind IN ('idle', 'load') THEN lost_s ELSE 0 END)",
    "cost": "SUM(cost)",
    "billed": "SUM(billed)",
    "cache_saving": "SUM(saving)",
}
_MONEY: Final = ("cost", "billed", "cache_saving")
_SECONDS: Final = ("prefill_gpu_seconds", "decode_gpu_seconds", "lost_gpu_seconds", "idle_gpu_seconds")
_SPAN = re.compile(r"([0-9]{1,6})(m|h|d|w)")
_SPAN_S: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class ReportError(RouterError):
    """A report was asked for that there is none of."""


def parse_groups(text: str) -> tuple[str, ...]:
    """Return the columns that `tenant,tier,model` groups by; raise ReportError."""
    parts = [part for part in text.split(",") if part]
    for part in parts:
        if part not in GROUPS:
            raise ReportError(f"{part!r} is nothing to group by; choose among {', '.join(GROUPS)}")
    return tuple(dict.fromkeys(column for part in parts for column in GROUPS[part]))


def parse_span(text: str) -> float:
    """Return the seconds in `7d`, `24h`, `30m` or `2w`; raise ReportError."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ReportError(f"{text!r} is no span of time; write a whole number with m, h, d or w, such as 7d")
    return float(int(found[1]) * _SPAN_S[found[2]])


def report(query: Query, columns: Sequence[str], since_s: float) -> list[dict[str, Any]]:
    """Return one row for each group since a moment in Unix seconds, the dearest first; amounts are decimal texts."""
    shown = [f"{_DAY} AS day" if column == "day" else column for column in columns]
    chosen = ", ".join([*shown, *(f"{term} AS {name}" for name, term in _SUMS.items()), "currency"])
    grouped = ", ".join([*(_DAY if column == "day" else column for column in columns), "currency"])
    statement = f"SELECT {chosen} FROM entries WHERE at >= ? GROUP BY {grouped} ORDER BY SUM(cost) DESC"  # noqa: S608 - our own names
    names = (*columns, *_SUMS, "currency")
    return [_row(dict(zip(names, values, strict=True))) for values in query(statement, (since_s,))]


def _row(row: dict[str, Any]) -> dict[str, Any]:
    for name in _SUMS:
        if name in _MONEY:
            row[name] = to_text(int(row[name]))
        elif name in _SECONDS:
            row[name] = round(float(row[name]), 6)
        else:
            row[name] = int(row[name])
    if "day" in row:
        row["day"] = _date(int(row["day"]))
    return row


def _date(day: int) -> str:
    return (dt.date(1970, 1, 1) + dt.timedelta(days=day)).isoformat()


def to_json(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows as JSON; amounts are numbers, exact in their decimals."""
    told = [
        {name: msgspec.Raw(value.encode()) if name in _MONEY else value for name, value in row.items()} for row in rows
    ]
    return msgspec.json.encode({"rows": told})


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV with a head; nothing for no rows."""
    if not rows:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def spent_since(query: Query, limit: Limit, since_s: float) -> int:
    """Return what was billed in a budget since a moment, in billionths."""
    column = {"key": "key", "team": "team", "organisation": "organisation"}[limit.scope]
    statement = f"SELECT COALESCE(SUM(billed), 0) FROM entries WHERE {column} = ? AND at >= ?"  # noqa: S608 - a column
    return int(query(statement, (limit.of, since_s))[0][0])
