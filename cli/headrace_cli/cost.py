"""`headrace cost`: what requests cost, from a running router or from the ledger itself, advice, and new API keys."""

import argparse
import hashlib
import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from headrace_cli import ledger
from headrace_cli.advice import command as advice
from headrace_cli.errors import UsageError
from headrace_router.cost.report import GROUPS, ReportError, parse_groups, parse_span, report, to_csv, to_json

_SHOWN: Final = (
    *("requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens"),
    *("cost", "billed", "currency"),
)


def add_parser(commands: Any) -> None:
    """Add `cost` to the commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "cost", help="report what requests cost, and advise; make API keys"
    )
    parts = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    told = parts.add_parser(
        "report",
        help="sums of the ledger",
        description=f"Sums of the ledger, from a router (as the admin whose key {ledger.KEY_VARIABLE} holds) or beside "
        "it.",
    )
    told.add_argument("--by", default="tenant,tier,model", help=f"comma-separated, of {', '.join(GROUPS)}")
    told.add_argument("--format", choices=("table", "csv", "json"), default="table")
    ledger.add_place(told)
    told.set_defaults(run=run_report)
    advice.add_parser(parts)
    key = parts.add_parser(
        "key",
        help="make an API key",
        description="Print a new API key, once, and its entry for the router's key file, which never holds keys.",
    )
    key.add_argument("name", help="of the key in reports, such as a person or a service")
    key.add_argument("--team", default="none")
    key.add_argument("--organisation", default="none")
    key.add_argument("--admin", action="store_true", help="may read everybody's costs")
    key.set_defaults(run=run_key)


def run_report(options: argparse.Namespace) -> int:
    """Print a report; return the exit status."""
    try:
        columns, since_s = parse_groups(options.by), parse_span(options.since)
    except ReportError as error:
        raise UsageError(str(error)) from error
    rows = _beside(options.ledger, columns, since_s) if options.ledger else _asked(options)
    if options.format == "csv":
        sys.stdout.write(to_csv(rows))
    elif options.format == "json":
        sys.stdout.write(f"{to_json(rows).decode()}\n")
    else:
        sys.stdout.write(table(rows, columns))
    return 0


def _beside(place: str, columns: Sequence[str], since_s: float) -> list[dict[str, Any]]:
    return ledger.beside(place, lambda store, now_s: report(store.query, columns, now_s - since_s))


def _asked(options: argparse.Namespace) -> list[dict[str, Any]]:
    # Amounts stay the texts they are: a float would round them.
    body = json.loads(ledger.asked(options.url, {"by": options.by, "since": options.since}), parse_float=str)
    return [_row(row) for row in body["rows"]]


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    money = ("cost", "billed", "cache_saving")
    return {name: str(value) if name in money else value for name, value in row.items()}


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as columns of text, numbers to the right."""
    if not rows:
        return "nothing was spent in that time\n"
    heads = [*columns, *_SHOWN]
    lines = [[str(row[name]) for name in heads] for row in rows]
    widths = [max(len(head), *(len(line[at]) for line in lines)) for at, head in enumerate(heads)]

    def set_out(cells: Sequence[str]) -> str:
        left = len(columns)
        told = (
            cell.ljust(width) if at < left or at == len(heads) - 1 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(told).rstrip() + "\n"

    return "".join(map(set_out, [[head.replace("_", " ") for head in heads], *lines]))


def run_key(options: argparse.Namespace) -> int:
    """Print a new key and its entry; return the exit status."""
    key = f"hr-{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(key.encode()).hexdigest()
    entry = f"name: {options.name}, sha256: {digest}, team: {options.team}, organisation: {options.organisation}"
    admin = ", admin: true" if options.admin else ""
    sys.stdout.write(
        f"the key, shown only now:\n  {key}\nits line under `keys:` in the key file:\n  - {{{entry}{admin}}}\n"
    )
    return 0
