"""What each pool should have now, for whoever asks."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from headrace_operator.objects import scaledobject as signals
from headrace_operator.scaling.load import PoolLoad


@dataclass(frozen=True, slots=True)
class Want:
    """The policy's answer for one pool, and what it was made of."""

    replicas: int
    load: PoolLoad
    held: int = 0
    """Requests that wait in routers."""

    @property
    def is_active(self) -> bool:
        """Whether the pool should have any worker."""
        return self.replicas > 0

    def raw(self) -> dict[str, float] | None:
        """Return the load by the names that ScaledObjects use; None where not all workers said theirs."""
        load = self.load
        if not load.is_known:
            return None
        return {
            signals.WAITING: load.waiting + self.held,
            signals.TOKENS: load.waiting_tokens,
            signals.BUSY_WORKERS: load.busy,
            signals.RUNNING: load.running,
            signals.USED: round(load.used, 4),
        }


class Wants:
    """The newest answers, by namespace and name of the LLMPool."""

    def __init__(self) -> None:
        self._wants: dict[tuple[str, str], Want] = {}
        self._news = asyncio.Event()
        self.version = 0
        """Another one with every change."""

    def get(self, namespace: str, pool: str) -> Want | None:
        """Return the answer for a pool; None where nobody asks for it to be scaled, or nobody looked yet."""
        return self._wants.get((namespace, pool))

    def listed(self) -> list[tuple[tuple[str, str], Want]]:
        """Return all answers with their places."""
        return list(self._wants.items())

    def put(self, wants: Mapping[tuple[str, str], Want], *, only: bool = False) -> None:
        """Take new answers; `only`: there are no others."""
        fresh = dict(wants) if only else {**self._wants, **wants}
        if fresh != self._wants:
            self._wants = fresh
            self.version += 1
            self._news.set()
            self._news = asyncio.Event()

    async def changed(self, since: int) -> None:
        """Return once the version is another one than `since`."""
        while self.version == since:
            await self._news.wait()
