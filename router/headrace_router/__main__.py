"""Entry of the router's process: `headrace-router`, `python -m headrace_router`."""

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence

from headrace_router.errors import SettingsError
from headrace_router.process import serve
from headrace_router.settings import parse_settings


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return uvloop's loop, or asyncio's own on systems that uvloop does not support."""
    try:
        import uvloop  # noqa: PLC0415 - an optional dependency
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a router until it is told to stop; return the exit status (2: it could not start as asked)."""
    try:
        settings = parse_settings(sys.argv[1:] if arguments is None else arguments)
        logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(settings))
    except SettingsError as error:
        sys.stderr.write(f"headrace-router: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
