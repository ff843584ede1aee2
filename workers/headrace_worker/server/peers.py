"""Prefill workers by their base URLs: who they are now, asked once and kept fresh while they are used."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import httpx
import msgspec

from headrace_api.handoff import HandoffAddress
from headrace_worker.messages import PrefillPeer

logger = logging.getLogger(__name__)

MAX_PEERS: Final = 8
"""The core tries peers in turn; beyond a few, prefilling here is sooner done."""
ASK_S: Final = 0.5
"""A healthy peer answers within milliseconds; a request does not wait longer for one."""
FRESH_S: Final = 3.0
"""A restarted peer has a new incarnation: an answer is asked again after this long, behind the request's back."""
RETRY_S: Final = 1.0
"""A peer that did not answer is left out for this long."""
FORGET_S: Final = 600.0

_decoder = msgspec.json.Decoder(HandoffAddress)


@dataclass(frozen=True, slots=True)
class _Known:
    peer: PrefillPeer | None
    asked_at: float
    used_at: float


class Peers:
    """The hand-off addresses that this worker knows.

    Args:
        client: with no proxy: peers are in the same cluster.
        clock: monotonic seconds.
    """

    def __init__(self, client: httpx.AsyncClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Task[PrefillPeer | None]] = {}

    async def resolve(self, urls: Sequence[str]) -> tuple[PrefillPeer, ...]:
        """Return the peers behind these URLs in the same order, without those that do not answer."""
        wanted = list(dict.fromkeys(urls))[:MAX_PEERS]
        found = await asyncio.gather(*(self._peer(url) for url in wanted))
        self._forget_unused()
        return tuple(peer for peer in found if peer is not None)

    def forget(self, workers: Sequence[str]) -> None:
        """Ask these peers again before their next use: a request that they were to serve has failed."""
        for url, known in list(self._known.items()):
            if known.peer is not None and known.peer.worker in workers:
                del self._known[url]

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _peer(self, url: str) -> PrefillPeer | None:
        now = self._clock()
        known = self._known.get(url)
        if known is None:
            return await asyncio.shield(self._ask(url))
        self._known[url] = _Known(known.peer, known.asked_at, now)
        if now - known.asked_at > (FRESH_S if known.peer is not None else RETRY_S):
            self._ask(url)
        return known.peer

    def _ask(self, url: str) -> asyncio.Task[PrefillPeer | None]:
        """Return the question under way to this peer, begun now if there is none."""
        task = self._asking.get(url)
        if task is None:
            task = self._asking[url] = asyncio.create_task(self._fetch(url))
            task.add_done_callback(lambda _: self._asking.pop(url, None))
        return task

    async def _fetch(self, url: str) -> PrefillPeer | None:
        peer: PrefillPeer | None = None
        try:
            async with asyncio.timeout(ASK_S):
                answer = await self._client.get(f"{url.rstrip('/')}/handoff")
            answer.raise_for_status()
            address = _decoder.decode(answer.content)
            peer = PrefillPeer(address.worker, address.address, address.incarnation)
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, msgspec.MsgspecError) as error:
            logger.warning("prefill worker at %s left out: %s", url, str(error) or type(error).__name__)
        now = self._clock()
        known = self._known.get(url)
        self._known[url] = _Known(peer, now, known.used_at if known is not None else now)
        return peer

    def _forget_unused(self) -> None:
        now = self._clock()
        for url, known in list(self._known.items()):
            if now - known.used_at > FORGET_S:
                del self._known[url]
