"""What advice is drawn from: how requests went through the tiers, what caches held, what pools did, hour by hour.

Small enough to go over the network, however long the ledger is: sums, and one short row for each answer that another
tier may have taken the place of. It judges nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import msgspec

from headrace_router.cost.entry import ADDED, Kind, Stage
from headrace_router.cost.report import Query, ReportError

MOST_LINES = 200_000
"""Of requests that went through tiers; where there are more, the newest count."""
HOUR_S = 3600
_HOUR = f"CAST(at AS BIGINT) / {HOUR_S}"


class Leg(msgspec.Struct, frozen=True, array_like=True):
    """One tier's part in a request that had more tiers to go to."""

    tier: str
    cost: int
    """What it cost, in billionths."""
    gain: float | None
    """What the gate expected of asking the next tier; None where no gate judged: the tier failed or was late, another
    policy judged, or a deadline did."""
    stage: Stage | None
    onward: str | None
    """The next tier, where another one answered; None where this one's answer was shown."""
    after: int
    """What all tiers after it cost, in billionths; 0 where this one's answer was shown."""


class Used(msgspec.Struct, frozen=True, array_like=True):
    """What requests of one tenant used of one model."""

    model: str
    tier: str
    organisation: str
    team: str
    key: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    prefill_s: float
    decode_s: float
    cost: int
    saving: int


class Work(msgspec.Struct, frozen=True, array_like=True):
    """GPU-seconds of a model's requests in one hour."""

    model: str
    hour: int
    """Since the epoch."""
    requests: int
    prefill_s: float
    decode_s: float


class Unused(msgspec.Struct, frozen=True, array_like=True):
    """GPU-seconds of a pool in one hour that no request used."""

    model: str
    tier: str
    role: str | None
    """The pool; None in lines that are older than this column."""
    kind: Kind
    hour: int
    seconds: float
    cost: int


class Facts(msgspec.Struct, frozen=True):
    """What a ledger says of a span of time."""

    currency: str
    first: float
    """Unix seconds of the first line in it."""
    last: float
    spent: int
    """What all lines cost together, in billionths, billed or not."""
    requests: int
    legs: tuple[Leg, ...] = ()
    is_cut: bool = False
    """Whether `legs` has the newest only."""
    used: tuple[Used, ...] = ()
    work: tuple[Work, ...] = ()
    unused: tuple[Unused, ...] = ()

    @property
    def span_s(self) -> float:
        """From the first line to the last."""
        return self.last - self.first


def read_facts(query: Query, columns: frozenset[str], since_s: float) -> Facts:
    """Return what a ledger says since a moment.

    Args:
        query: to its store.
        columns: that its table has.
        since_s: Unix seconds.

    Raises:
        ReportError: nothing was written since then, or in several currencies.
        StoreError: the ledger cannot be read.
    """
    statement = (
        "SELECT currency, MIN(at), MAX(at), SUM(cost), SUM(CASE WHEN kind = 'request' THEN 1 ELSE 0 END) "
        "FROM entries WHERE at >= ? GROUP BY currency ORDER BY currency"
    )
    totals = query(statement, (since_s,))
    if not totals:
        raise ReportError("the ledger has no line in that time; ask for a longer one")
    if len(totals) > 1:
        raise ReportError(
            f"the ledger has amounts in {' and '.join(row[0] for row in totals)}; ask for a time with one"
        )
    currency, first, last, spent, requests = totals[0]
    lines, is_cut = _lines(query, columns, since_s)
    return Facts(
        currency,
        float(first),
        float(last),
        int(spent),
        int(requests),
        tuple(legs(lines)),
        is_cut,
        tuple(_used(query, since_s)),
        tuple(_work(query, since_s)),
        tuple(_unused(query, columns, since_s)),
    )


class Line(msgspec.Struct, frozen=True):
    """What is looked at of a line of a request that went through tiers."""

    entry: str
    at: float
    kind: Kind
    tier: str
    cost: int
    gain: float | None
    stage: Stage | None


def legs(lines: Iterable[Line]) -> list[Leg]:
    """Return the parts of requests at tiers that were judged, or that requests went on from."""
    groups = groupby(sorted(lines, key=_place), key=lambda line: _request(line.entry))
    found = [leg for _, group in groups for leg in _climb(list(group))]
    left = {leg.tier for leg in found if leg.onward is not None}
    return [leg for leg in found if leg.gain is not None or leg.tier in left]


def _place(line: Line) -> tuple[str, float, bool]:
    return _request(line.entry), line.at, line.kind == "request"


def _request(entry: str) -> str:
    """Return what all lines of one request have in common: their tier, and what they are of it, stand behind tildes."""
    return entry.partition("~")[0]


def _climb(lines: Sequence[Line]) -> Iterator[Leg]:
    """Yield one request's; nothing of one that no tier answered, for nobody can say what it would have cost."""
    rungs = _rungs(lines)
    shown = next((place for place, line in enumerate(rungs) if line.kind == "request"), None)
    if shown is None:
        return
    for place, line in enumerate(rungs[: shown + 1]):
        if place < shown:
            after = sum(later.cost for later in rungs[place + 1 :])
            yield Leg(line.tier, line.cost, line.gain, line.stage, rungs[place + 1].tier, after)
        else:
            # A tier that was asked beside it, in case, would have been asked under any threshold.
            yield Leg(line.tier, line.cost, line.gain, line.stage, None, 0)


def _rungs(lines: Sequence[Line]) -> list[Line]:
    """Return one line for each tier in order: what several samples of it cost, and asking a verifier about it."""
    rungs: list[Line] = []
    for line in lines:
        asides = line.entry.split("~")[2:]
        if "audit" in asides:
            continue  # asked for its own sake
        of_it = "verify" in asides or (bool(rungs) and rungs[-1].tier == line.tier)
        if of_it and rungs:
            rungs[-1] = _together(rungs[-1], line)
        elif not of_it:
            rungs.append(line)
    return rungs


def _together(rung: Line, line: Line) -> Line:
    kind: Kind = "request" if "request" in (rung.kind, line.kind) else rung.kind
    return msgspec.structs.replace(rung, cost=rung.cost + line.cost, kind=kind)


def _lines(query: Query, columns: frozenset[str], since_s: float) -> tuple[list[Line], bool]:
    statement = (
        f"SELECT entry, at, kind, tier, cost, {_known('gain', columns)}, {_known('stage', columns)} "  # noqa: S608
        "FROM entries WHERE at >= ? AND entry LIKE ? AND kind IN ('request', 'tried', 'failed') "
        f"ORDER BY at DESC LIMIT {MOST_LINES}"
    )
    rows = query(statement, (since_s, "%~%"))
    return [
        Line(entry, float(at), kind, tier, int(cost), gain, stage) for entry, at, kind, tier, cost, gain, stage in rows
    ], len(rows) == MOST_LINES


def _known(column: str, columns: frozenset[str]) -> str:
    assert column in ADDED
    return column if column in columns else "NULL"


def _used(query: Query, since_s: float) -> Iterator[Used]:
    names = "model, tier, organisation, team, key"
    statement = (
        f"SELECT {names}, COUNT(*), SUM(prompt_tokens), SUM(cached_tokens), SUM(prefill_s), SUM(decode_s), SUM(cost), "  # noqa: S608
        "SUM(saving) FROM entries WHERE at >= ? AND kind IN ('request', 'tried', 'repeat') "
        f"GROUP BY {names} ORDER BY SUM(cost) DESC, {names}"
    )
    for row in query(statement, (since_s,)):
        model, tier, organisation, team, key, requests, prompt, cached, prefill_s, decode_s, cost, saving = row
        yield Used(
            model,
            tier,
            organisation,
            team,
            key,
            int(requests),
            int(prompt),
            int(cached),
            float(prefill_s),
            float(decode_s),
            int(cost),
            int(saving),
        )


def _work(query: Query, since_s: float) -> Iterator[Work]:
    statement = (
        f"SELECT model, {_HOUR}, COUNT(*), SUM(prefill_s), SUM(decode_s) FROM entries "  # noqa: S608
        f"WHERE at >= ? AND kind IN ('request', 'tried', 'repeat') GROUP BY model, {_HOUR} ORDER BY model, {_HOUR}"
    )
    for model, hour, requests, prefill_s, decode_s in query(statement, (since_s,)):
        yield Work(model, int(hour), int(requests), float(prefill_s), float(decode_s))


def _unused(query: Query, columns: frozenset[str], since_s: float) -> Iterator[Unused]:
    role = _known("role", columns)
    names = ", ".join(("model", "tier", *(("role",) if role == "role" else ()), "kind", _HOUR))
    statement = (
        f"SELECT model, tier, {role}, kind, {_HOUR}, SUM(lost_s), SUM(cost) FROM entries "  # noqa: S608
        f"WHERE at >= ? AND kind IN ('idle', 'load', 'lost') GROUP BY {names} ORDER BY {names}"
    )
    for model, tier, pool, kind, hour, seconds, cost in query(statement, (since_s,)):
        yield Unused(model, tier, pool, kind, int(hour), float(seconds), int(cost))
