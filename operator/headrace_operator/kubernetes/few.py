"""A few calls in flight at once: a loaded API server answers each of them late, and serves who asks."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

T = TypeVar("T")

AT_ONCE: Final = 4


async def each(items: Iterable[T], act: Callable[[T], Awaitable[object]], *, at_once: int = AT_ONCE) -> None:
    """Do the same with all items, a few at once; once all have ended the first failure is raised."""
    room = asyncio.Semaphore(at_once)

    async def one(item: T) -> None:
        async with room:
            await act(item)

    outcomes = await asyncio.gather(*(one(item) for item in items), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
