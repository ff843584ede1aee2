"""The command `headrace cost advise`."""

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

import msgspec

from headrace_cli import ledger
from headrace_cli.errors import RuntimeFailure, UsageError
from headrace_router.cost.facts import Facts, read_facts
from headrace_router.cost.report import ReportError, parse_span


def add_parser(parts: Any) -> None:
    """Add `advise` to the commands of `headrace cost`."""
    parser: argparse.ArgumentParser = parts.add_parser(
        "advise",
        help="what another threshold, tier order, cache or ratio of pools would have cost",
        description="Say what another threshold of the gate, order of tiers, prefix cache or ratio of prefill to "
        "decode would have cost over a span of the ledger, with what risk, and how many requests that rests on.",
    )
    ledger.add_place(parser)
    parser.add_argument("--gate", type=Path, metavar="GATE.json", help="judge the targets that this gate file knows")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="lines of JSON with input_length and hash_ids")
    parser.add_argument(
        "--may-lose",
        type=_share,
        default=0.01,
        metavar="SHARE",
        help="answers that may be wrong more than now, by the gate's belief (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write a page and a picture there, too")
    parser.set_defaults(run=run)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; expected a number from 0 to 1")
    return share


def run(options: argparse.Namespace) -> int:
    """Print the advice; return the exit status."""
    if options.out is not None and importlib.util.find_spec("matplotlib") is None:
        raise UsageError("`headrace cost advise --out` needs matplotlib: pip install 'headrace[cascade]'")
    # These need numpy, which other commands should not wait for.
    from headrace_cli.advice import report as reports  # noqa: PLC0415
    from headrace_cli.advice.gates import settings_of  # noqa: PLC0415
    from headrace_cli.advice.piece import Wishes  # noqa: PLC0415
    from headrace_cli.advice.trace import read_trace  # noqa: PLC0415

    try:
        since_s = parse_span(options.since)
    except ReportError as error:
        raise UsageError(str(error)) from error
    settings = () if options.gate is None else settings_of(options.gate)
    trace = None if options.trace is None else read_trace(options.trace)
    facts = _facts(options, since_s)
    wishes = Wishes(options.may_lose, options.seed, settings)
    found = reports.analyse(facts, wishes, trace, traced=options.trace is not None)
    sys.stdout.write(f"{reports.to_json(found).decode()}\n" if options.json else reports.to_plain(found))
    if options.out is not None:
        _write(options, found)
    return 0


def _facts(options: argparse.Namespace, since_s: float) -> Facts:
    if options.ledger is not None:
        return ledger.beside(
            options.ledger, lambda store, now_s: read_facts(store.query, store.columns(), now_s - since_s)
        )
    body = ledger.asked(options.url, {"since": options.since, "format": "facts"})
    try:
        return msgspec.json.decode(body, type=Facts)
    except msgspec.MsgspecError as error:
        text = f"the router at {options.url} tells its costs in another way than this program knows: {error}"
        raise RuntimeFailure(text) from error


def _write(options: argparse.Namespace, found: Any) -> None:
    from headrace_cli.advice.page import write_page  # noqa: PLC0415

    try:
        written = write_page(options.out, found)
    except OSError as error:
        raise UsageError(f"{options.out} cannot be written: {error.strerror or error}") from error
    if not options.json:
        sys.stdout.write("\n" + "\n".join(map(str, written)) + "\n")
