"""Work that comes again and again."""

import asyncio
import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)


async def every(seconds: float, act: Callable[[], object]) -> None:
    """Call `act` for ever; one failure is logged and does not end the rest."""
    while True:
        await asyncio.sleep(seconds)
        try:
            act()
        except Exception:
            logger.exception("a periodic task failed")
