"""Finds out whether KEDA is in the cluster, and then follows its ScaledObjects that are ours."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from headrace_api.names import LABEL_MANAGED_BY, MANAGER
from headrace_operator.kubernetes.cache import Cache
from headrace_operator.kubernetes.errors import ClusterError, NotFoundError
from headrace_operator.kubernetes.kinds import SCALED_OBJECTS
from headrace_operator.kubernetes.session import Request, Session
from headrace_operator.kubernetes.watch import Watcher

logger = logging.getLogger(__name__)

_LOOK_S: Final = 30.0
_SYNC_S: Final = 30.0


class _Served(msgspec.Struct):
    name: str


class _Group(msgspec.Struct):
    resources: tuple[_Served, ...] = ()


class Keda:
    """Looks for KEDA again and again: it may be installed later than this operator, and removed.

    Args:
        session: that reads.
        cache: learns of ScaledObjects.
        scopes: the namespaces that are served, None: all.
        found: Told when KEDA has come or gone.
    """

    def __init__(
        self, session: Session, cache: Cache, scopes: Sequence[str | None], found: Callable[[bool], None]
    ) -> None:
        self._session = session
        self._cache = cache
        self._scopes = scopes
        self._found = found
        self._watches: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(_LOOK_S)
        finally:
            self._stop()

    async def look(self) -> None:
        """Look once; where the API server gives no answer, what was known goes on to hold."""
        try:
            is_there = await self._is_served()
        except (ClusterError, msgspec.MsgspecError) as error:
            logger.info("whether KEDA is installed could not be seen: %s", error)
            return
        if is_there and not self._watches:
            await self._follow()
        elif not is_there and self._watches:
            self._stop()
            logger.warning("KEDA has gone from the cluster: the operator scales by itself from now")
            self._found(False)

    async def _is_served(self) -> bool:
        path = f"/apis/{SCALED_OBJECTS.version}"
        request = Request("GET", path, SCALED_OBJECTS.plural, "discover", {"accept": "application/json"}, None)
        try:
            group = msgspec.json.decode(await self._session.send(request), type=_Group)
        except NotFoundError:
            return False
        return any(one.name == SCALED_OBJECTS.plural for one in group.resources)

    async def _follow(self) -> None:
        """Watch the ScaledObjects, and tell of KEDA once it is known which are there already."""
        selector = f"{LABEL_MANAGED_BY}={MANAGER}"
        watchers = [Watcher(self._session, self._cache, SCALED_OBJECTS, scope, selector) for scope in self._scopes]
        self._watches = [asyncio.create_task(watcher.run(), name="watch of ScaledObjects") for watcher in watchers]
        try:
            async with asyncio.timeout(_SYNC_S):
                for watcher in watchers:
                    await watcher.synced.wait()
        except TimeoutError:
            logger.warning("KEDA is installed and its ScaledObjects cannot be listed; the operator scales by itself")
            self._stop()
            return
        logger.info("KEDA is in the cluster: it scales from now")
        self._found(True)

    def _stop(self) -> None:
        for watch in self._watches:
            watch.cancel()
        self._watches = []
