"""All advice on one ledger, as text and as JSON."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import msgspec

from headrace_cli.advice.cache import cache
from headrace_cli.advice.order import order
from headrace_cli.advice.piece import MIN_SPAN_S, Advice, Cell, Money, Part, Row, Share, Wishes
from headrace_cli.advice.pools import pools
from headrace_cli.advice.rates import per_second
from headrace_cli.advice.thresholds import thresholds
from headrace_cli.advice.trace import Repeats
from headrace_router.cost.facts import MOST_LINES, Facts
from headrace_router.cost.money import NANO, to_text

_DAY_S: Final = 86_400
_WIDTH: Final = 110
"""Of sentences; tables are as wide as they are."""
_TOGETHER: Final = "Each saving is that of one change alone: they do not add up where they touch the same requests."


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in a ledger."""

    currency: str
    span_s: float
    spent: int
    requests: int
    parts: Sequence[Part]

    @property
    def advice(self) -> list[Advice]:
        """All of it, what saves most first."""
        return sorted((one for part in self.parts for one in part.advice), key=lambda one: -one.saving)

    def per_day(self, nano: int) -> int:
        """Return what an amount over the ledger's span is in a day."""
        return round(nano * _DAY_S / self.span_s)


def analyse(facts: Facts, wishes: Wishes, trace: Repeats | None, *, traced: bool) -> Report:
    """Return the advice on a ledger.

    Args:
        facts: of the ledger.
        wishes: the user's.
        trace: what of the traffic repeats, where that is known.
        traced: whether a trace was given, with hashes or without.
    """
    if facts.span_s < MIN_SPAN_S:
        text = (
            f"The ledger's lines in that time lie within {_span(facts.span_s)}; what a day would save needs at least "
            f"{_span(MIN_SPAN_S)}."
        )
        return Report(facts.currency, facts.span_s, facts.spent, facts.requests, [Part(None, "Time", notes=[text])])
    rates = per_second(facts)
    hourly = frozenset(rates)
    parts = [
        thresholds(facts, wishes, hourly),
        order(facts, wishes.seed, hourly),
        cache(facts, rates, trace, given=traced),
        pools(facts),
    ]
    if facts.is_cut:
        text = f"Of requests that went through tiers, only the newest {MOST_LINES} lines were looked at."
        parts.append(Part(None, "Size", notes=[text]))
    return Report(facts.currency, facts.span_s, facts.spent, facts.requests, parts)


# --- text --------------------------------------------------------------------------------------------------


def to_plain(report: Report) -> str:
    """Return a report as text."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterable[str]:
    spent = f"{amount(report.spent)} {report.currency}"
    yield f"In {_span(report.span_s)} of the ledger {report.requests} requests and all idle time cost {spent}."
    if 0 < report.span_s < _DAY_S:
        yield "That is less than a day: amounts for a day assume that the rest of it is alike."
    advice = report.advice
    yield "" if advice else "\nNo change is advised."
    for number, one in enumerate(advice, 1):
        yield from _advice(report, number, one)
    if len(advice) > 1:
        yield f"\n{_TOGETHER}"
    for part in report.parts:
        if not part.rows and not part.notes:
            continue
        yield f"\n{part.title}"
        if part.rows:
            yield from (f"  {line}" for line in table(part.rows, report.currency))
        yield from (_wrapped(note, "  ") for note in part.notes)


def _advice(report: Report, number: int, one: Advice) -> Iterable[str]:
    share = f", {one.saving / report.spent:.1%} of all that was spent" if report.spent else ""
    yield f"{number}. {one.topic}, {one.subject}"
    for name, text in (
        ("now", one.now),
        ("instead", one.instead),
        ("saves", f"{_saving(report, one)}{share}"),
        ("risk", one.risk),
        ("rests on", f"{one.requests} requests"),
    ):
        yield _wrapped(text, f"   {name:9}")


def _wrapped(text: str, head: str) -> str:
    """Return a text in lines behind its head; no word is parted, for options are words."""
    room = " " * len(head)
    return textwrap.fill(
        text, _WIDTH, initial_indent=head, subsequent_indent=room, break_long_words=False, break_on_hyphens=False
    )


def _saving(report: Report, one: Advice) -> str:
    """Return a saving in words; one without an interval is no estimate but a bound."""
    told = f"{amount(report.per_day(one.saving))} {report.currency} a day"
    if one.interval is None:
        return f"at most {told}"
    low, high = (amount(report.per_day(value)) for value in one.interval)
    return f"{told} (95 %: {low} to {high})"


def table(rows: Sequence[Row], currency: str) -> list[str]:
    """Return rows as lines of columns, texts to the left and numbers to the right."""
    heads = list(rows[0])
    money = {head for head in heads if any(isinstance(row[head], Money) for row in rows)}
    titles = [f"{head}, {currency}" if head in money else head for head in heads]
    cells = [titles, *([shown(row[head]) for head in heads] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(heads))]
    left = [all(isinstance(row[head], str) for row in rows) for head in heads]
    return [
        "  ".join(
            cell.ljust(width) if first else cell.rjust(width)
            for cell, width, first in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in cells
    ]


def shown(cell: Cell) -> str:
    """Return a cell as text."""
    if cell is None:
        return "-"
    if isinstance(cell, Money):
        return amount(cell.nano)
    return f"{cell.value:.1%}" if isinstance(cell, Share) else str(cell)


def amount(nano: int) -> str:
    """Return an amount with four digits that count, and without an exponent."""
    value = nano / NANO
    return f"{value:.0f}" if abs(value) >= 1000 else format(Decimal(f"{value:.4g}"), "f")


def _span(seconds: float) -> str:
    for unit, size in (("days", _DAY_S), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}".replace(".0 ", " ")
    return f"{seconds:.0f} seconds"


# --- JSON --------------------------------------------------------------------------------------------------


def to_json(report: Report) -> bytes:
    """Return a report as JSON; amounts are numbers in the currency, exact in their decimals."""
    told = {
        "currency": report.currency,
        "span_s": round(report.span_s, 3),
        "spent": _raw(report.spent),
        "requests": report.requests,
        "advice": [_piece(report, one) for one in report.advice],
        "tables": {_key(part.topic): [_told(row) for row in part.rows] for part in report.parts if part.topic},
        "notes": [note for part in report.parts for note in part.notes],
    }
    return msgspec.json.encode(told)


def _piece(report: Report, one: Advice) -> dict[str, Any]:
    return {
        "topic": one.topic,
        "subject": one.subject,
        "now": one.now,
        "instead": one.instead,
        "saving": _raw(one.saving),
        "saving_per_day": _raw(report.per_day(one.saving)),
        "interval_per_day": None if one.interval is None else [_raw(report.per_day(value)) for value in one.interval],
        "risk": one.risk,
        "requests": one.requests,
    }


def _told(row: Row) -> Mapping[str, Any]:
    return {_key(name): _value(cell) for name, cell in row.items()}


def _key(name: str) -> str:
    return name.replace(" ", "_")


def _value(cell: Cell) -> Any:
    if isinstance(cell, Money):
        return _raw(cell.nano)
    return round(cell.value, 6) if isinstance(cell, Share) else cell


def _raw(nano: int) -> msgspec.Raw:
    return msgspec.Raw(to_text(nano).encode())
