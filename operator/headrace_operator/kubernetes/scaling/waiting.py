"""Keeps a long poll open to each router that may have to wake somebody."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from headrace_operator.kubernetes.scaling.visits import Visits

_SECONDS: Final = 30
_SLACK_S: Final = 10.0
_PAUSE_S: Final = 1.0
"""From one question to the next at least: an answer that some wait comes at once, and so does none at all."""
FRESH_S: Final = _SECONDS + 2 * _SLACK_S
"""A router that has said nothing for this long is not known to have nobody waiting."""


class _Answer(msgspec.Struct):
    waiting: dict[str, int]


@dataclass(frozen=True, slots=True)
class Told:
    """What a router said, and when."""

    waiting: Mapping[str, int]
    at: float


class Waiting:
    """What routers say of requests that wait for a worker.

    Args:
        visits: asks the routers.
        woken: Called when some router says that requests wait.
    """

    def __init__(self, visits: Visits, woken: Callable[[], None]) -> None:
        self._visits = visits
        self._woken = woken
        self._polls: dict[str, asyncio.Task[None]] = {}
        self._told: dict[str, Told] = {}

    def follow(self, urls: Iterable[str]) -> None:
        """Ask exactly these routers from now on."""
        wanted = set(urls)
        self._visits.keep(wanted)
        for url in [url for url in self._polls if url not in wanted]:
            self._polls.pop(url).cancel()
            self._told.pop(url, None)
        for url in wanted - self._polls.keys():
            self._polls[url] = asyncio.create_task(self._poll(url), name=f"poll of {url}")

    async def close(self) -> None:
        """End all polls and wait until they have."""
        polls = list(self._polls.values())
        self.follow(())
        await asyncio.gather(*polls, return_exceptions=True)

    def held(self, urls: Iterable[str], model: str, now: float) -> int | None:
        """Return how many requests for a model wait in these routers; None where not all of them say it."""
        count = 0
        for url in urls:
            told = self._told.get(url)
            if told is None or now - told.at > FRESH_S:
                return None
            count += told.waiting.get(model, 0)
        return count

    async def _poll(self, url: str) -> None:
        """Ask a router again and again: with a long wait where nobody waits there, as far as is known, else without."""
        loop = asyncio.get_running_loop()
        while True:
            told, began = self._told.get(url), loop.time()
            seconds = 0 if told is None or any(told.waiting.values()) else _SECONDS
            waiting = _read(await self._visits.get(url, f"/waiting?seconds={seconds}", seconds + _SLACK_S))
            if waiting is not None:
                self._told[url] = Told(waiting, loop.time())
                if any(waiting.values()):
                    self._woken()
            # A router that ends answers at once too. The first answer that nobody waits is followed by the long wait.
            if told is not None or waiting is None or any(waiting.values()):
                await asyncio.sleep(max(0.0, began + _PAUSE_S - loop.time()))


def _read(body: bytes | None) -> dict[str, int] | None:
    """Return how many requests wait by model; None where a router did not say it."""
    try:
        return None if body is None else msgspec.json.decode(body, type=_Answer).waiting
    except msgspec.MsgspecError:
        return None
