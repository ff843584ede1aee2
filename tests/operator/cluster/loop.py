"""Running coroutines in tests: nothing without a deadline."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


def run(main: Coroutine[Any, Any, Any], timeout_s: float = 60.0) -> Any:
    """Run a test's coroutine, which must end by the deadline."""

    async def bounded() -> Any:
        async with asyncio.timeout(timeout_s):
            return await main

    return asyncio.run(bounded())


async def eventually(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Return what a condition gives once it is true; it may be a coroutine function."""
    async with asyncio.timeout(timeout_s):
        while True:
            outcome = condition()
            if isinstance(outcome, Awaitable):
                outcome = await outcome
            if outcome:
                return outcome
            await asyncio.sleep(0.02)
