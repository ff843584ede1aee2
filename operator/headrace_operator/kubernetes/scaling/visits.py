"""Questions to workers and routers, over connections that are kept."""

import asyncio
from collections.abc import Collection

from headrace_operator.http.connection import ExchangeError
from headrace_operator.http.pool import Pool


class Visits:
    """Asks servers; a question that finds no answer is None, not an exception."""

    def __init__(self) -> None:
        self._pools: dict[str, Pool] = {}

    async def get(self, server: str, target: str, deadline_s: float) -> bytes | None:
        """Return what a server answers; None where that is no success or does not come in time."""
        pool = self._pools.get(server)
        if pool is None:
            pool = self._pools[server] = Pool(server)
        try:
            async with asyncio.timeout(deadline_s):
                answer = await pool.ask("GET", target, {})
        except (ExchangeError, OSError, TimeoutError, ValueError):
            return None
        return answer.body if answer.status == 200 else None

    def keep(self, servers: Collection[str]) -> None:
        """Let go of the connections to all others."""
        for server in [server for server in self._pools if server not in servers]:
            self._pools.pop(server).close()

    def close(self) -> None:
        """End all connections."""
        self.keep(())
