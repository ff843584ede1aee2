"""Keeps the cache true: a list, then a watch that resumes from the last version it saw, for as long as it takes."""

import asyncio
import logging
import random
from typing import Final, Generic, TypeVar

from headrace_operator.kubernetes.cache import Cache
from headrace_operator.kubernetes.errors import ClusterError, GoneError
from headrace_operator.kubernetes.kinds import Kind
from headrace_operator.kubernetes.objects import Item
from headrace_operator.kubernetes.retry import backoff_s
from headrace_operator.kubernetes.session import Session

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=Item)

_LASTING_S: Final = 300.0
_FIRST_PAUSE_S: Final = 0.2
_MOST_PAUSE_S: Final = 30.0


class Watcher(Generic[T]):
    """Feeds the cache with the objects of one kind.

    Args:
        session: to the API server.
        cache: what is fed.
        kind: of the objects.
        namespace: where they lie; None: everywhere.
        selector: picks them by label.
    """

    def __init__(
        self, session: Session, cache: Cache, kind: Kind[T], namespace: str | None = None, selector: str = ""
    ) -> None:
        self._session = session
        self._cache = cache
        self._kind = kind
        self._namespace = namespace
        self._selector = selector
        self._version = ""
        self.synced = asyncio.Event()
        """Set once the cache holds what was there at the start."""

    async def run(self) -> None:
        """Watch until cancelled; no failure of the server ends this."""
        failures = 0
        while True:
            try:
                if not self._version:
                    await self._list()
                before = self._version
                await self._follow()
                # A server that closes every watch at once must not be asked in a tight loop.
                failures = 0 if self._version != before else failures + 1
            except GoneError:
                logger.debug("listing %s again: the version to resume from is forgotten", self._kind.plural)
                self._version = ""
                failures += 1
            except ClusterError as error:
                failures += 1
                logger.log(logging.WARNING if failures > 2 else logging.DEBUG, "watching goes on after: %s", error)
            if failures:
                await asyncio.sleep(backoff_s(failures, _FIRST_PAUSE_S, _MOST_PAUSE_S, random.random()))  # noqa: S311

    async def _list(self) -> None:
        """Bring the cache to what is there now; changes since the last look are told like any other."""
        items: list[T] = []
        version = ""
        async for page, at in self._session.pages(self._kind, self._namespace, self._selector):
            items += page
            version = at
        self._cache.settle(self._kind, self._namespace, items, int(version or 0))
        self._version = version
        self.synced.set()

    async def _follow(self) -> None:
        """Take the events of one watch until it ends; some 5 minutes, spread so that not all end together."""
        lasting_s = _LASTING_S * (0.8 + 0.4 * random.random())  # noqa: S311
        async for change, item in self._session.watch(
            self._kind, self._namespace, self._selector, self._version, lasting_s=lasting_s
        ):
            self._cache.see(self._kind, self._namespace, change, item)
            self._version = item.metadata.resource_version
