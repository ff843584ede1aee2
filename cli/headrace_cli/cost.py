"""`headrace cost`: what requests cost, from a running router or from the ledger itself, and new API keys."""

import argparse
import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx

from headrace_cli.errors import RuntimeFailure, UsageError
from headrace_router.cost.report import GROUPS, ReportError, parse_groups, parse_span, report, to_csv, to_json
from headrace_router.cost.store import StoreError, open_store

KEY_VARIABLE: Final = "HEADRACE_API_KEY"
_DEADLINE_S: Final = 70.0
_SHOWN: Final = (
    *("requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens"),
    *("cost", "billed", "currency"),
)


def add_parser(commands: Any) -> None:
    """Add `cost` to the commands."""
    parser: argparse.ArgumentParser = commands.add_parser("cost", help="report what requests cost; make API keys")
    parts = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    told = parts.add_parser(
        "report",
        help="sums of the ledger",
        description=f"Sums of the ledger, from a router (as the admin whose key {KEY_VARIABLE} holds) or beside it.",
    )
    told.add_argument("--by", default="tenant,tier,model", help=f"comma-separated, of {', '.join(GROUPS)}")
    told.add_argument("--since", default="7d", metavar="SPAN", help="such as 30m, 24h, 7d, 2w; default: 7d")
    told.add_argument("--format", choices=("table", "csv", "json"), default="table")
    where = told.add_mutually_exclusive_group()
    where.add_argument("--url", default="http://127.0.0.1:8080", help="of the router; default: %(default)s")
    where.add_argument("--ledger", metavar="PLACE", help="sqlite:PATH or postgres:PATH, as the router has it")
    told.set_defaults(run=run_report)
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
    try:
        store = open_store(place, read_only=True)
        try:
            return report(store.query, columns, time.time() - since_s)
        finally:
            store.close()
    except StoreError as error:
        raise RuntimeFailure(str(error)) from error


def _asked(options: argparse.Namespace) -> list[dict[str, Any]]:
    key = os.environ.get(KEY_VARIABLE)
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    url = f"{options.url.rstrip('/')}/admin/costs"
    try:
        answer = httpx.get(
            url,
            params={"by": options.by, "since": options.since},
            headers=headers,
            timeout=_DEADLINE_S,
            trust_env=False,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RuntimeFailure(f"the router at {options.url} cannot be asked: {error}; give --url or --ledger") from error
    # Amounts stay the texts they are: a float would round them.
    body = json.loads(answer.content, parse_float=str) if "json" in answer.headers.get("content-type", "") else {}
    if answer.status_code != 200:
        said = body.get("error", {}).get("message", f"status {answer.status_code}")
        raise RuntimeFailure(f"the router at {options.url} refuses the report: {said}")
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
