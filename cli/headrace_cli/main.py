"""The entry: parses the command line, runs a command, turns every error into a sentence and an exit status."""

import argparse
import importlib.metadata
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from headrace_cli import cascade, chat, cost, render, up
from headrace_cli.errors import CliError

INTERRUPTED_STATUS = 130
"""What a shell expects of a command that Ctrl-C ended."""
UNREAD_STATUS = 141
"""The same of one whose reader has gone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.WARNING, format="headrace: %(message)s", stream=sys.stderr
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED_STATUS
    except BrokenPipeError:
        # Whoever reads has enough (`headrace … | head`); what is left must not be written again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD_STATUS
    except CliError as error:
        sys.stderr.write(f"headrace: {error}\n")
        return error.status
    except Exception as error:  # noqa: BLE001 (the last resort: a bug of ours still ends in a sentence)
        if options.debug:
            traceback.print_exc()
        sys.stderr.write(f"headrace: internal error: {type(error).__name__}: {error}; run it with --debug for more\n")
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headrace", description="Serve language models with prefill and decode apart."
    )
    parser.add_argument("--version", action="version", version=f"headrace {_version()}")
    parser.add_argument("--debug", action="store_true", help="log decisions and print tracebacks")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (up, chat, cascade, render, cost):
        command.add_parser(commands)
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("headrace")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed as a package)"
