"""Entry of the operator's process: `python -m headrace_operator`."""

import asyncio
import gc
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Final

import kopf

from headrace_operator import handlers
from headrace_operator.errors import OperatorError, SettingsError
from headrace_operator.settings import OperatorSettings, parse_settings

_COLLECT_AFTER: Final = 10_000


async def operate(settings: OperatorSettings) -> None:
    """Run until SIGTERM or SIGINT."""
    namespaces = settings.served
    await kopf.operator(
        registry=kopf.get_default_registry(),
        memo=kopf.Memo(settings=settings),
        clusterwide=not namespaces,
        namespaces=namespaces,
        standalone=True,
    )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return uvloop's loop where it is installed: TLS and streams take it a third less processor time."""
    try:
        import uvloop  # noqa: PLC0415 - an optional dependency
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the operator until it is told to stop; return the exit status (2: it could not start as asked)."""
    try:
        settings = parse_settings(sys.argv[1:] if arguments is None else arguments)
        settings.key()
        logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        # kopf tells of each event that it hands on, and what a resource gets is told by the operator itself.
        logging.getLogger("kopf").setLevel(logging.WARNING)
        # What was imported stays for good, and most of what is made later has no cycles.
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER, 20, 20)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(operate(settings))
    except SettingsError as error:
        sys.stderr.write(f"headrace-operator: {error}\n")
        return 2
    except OperatorError as error:
        sys.stderr.write(f"headrace-operator: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    assert handlers.hand_on, "kopf finds its handlers by the import"
    sys.exit(main())
