"""Scaling as a whole: rounds, KEDA's presence, and the scaler that KEDA calls."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from headrace_operator.errors import OperatorError
from headrace_operator.kubernetes.agenda import Lane
from headrace_operator.kubernetes.cache import Cache, Key
from headrace_operator.kubernetes.resources import Resources
from headrace_operator.kubernetes.scaling.endpoint import Offer, lead_here
from headrace_operator.kubernetes.scaling.figures import Figures
from headrace_operator.kubernetes.scaling.keda import Keda
from headrace_operator.kubernetes.scaling.loop import Rounds
from headrace_operator.kubernetes.session import Session
from headrace_operator.objects import Site
from headrace_operator.status import Condition

logger = logging.getLogger(__name__)

_AGAIN_S: Final = 5.0
_RENEW_S: Final = 300.0


class Scaling:
    """Scales while `run` lasts, which is as long as this operator leads.

    Args:
        reader: session whose calls only read.
        writer: session that writes only while this operator leads.
        cache: what is there.
        resources: what users ask for.
        site: what is known of the cluster.
        scopes: the namespaces that are served, None: all.
        add: asks for a turn of a resource.
        found: Told when KEDA has come or gone.
        offer: how scaling reaches others and is reached.
    """

    def __init__(
        self,
        reader: Session,
        writer: Session,
        cache: Cache,
        resources: Resources,
        *,
        site: Callable[[], Site],
        scopes: Sequence[str | None],
        add: Callable[[Key, Lane], None],
        found: Callable[[bool], None],
        offer: Offer,
    ) -> None:
        self._writer = writer
        self._offer = offer
        self._found = found
        self._rounds = Rounds(writer, cache, resources, site, add, interval_s=offer.interval_s, visits=offer.visits)
        self.figures = Figures(self._rounds.wants, lambda: self._rounds.lasted_s)
        self._keda = Keda(reader, cache, scopes, self._note)
        self._is_there = asyncio.Event()
        self._has_gone = asyncio.Event()
        self.scaler_port: int | None = None
        """Where the scaler listens; None while it does not."""

    def told(self, key: Key) -> Condition | None:
        """Return the condition of a resource that asks for scaling; None where it does not."""
        return self._rounds.told(key)

    def signals(self, namespace: str, pool: str) -> dict[str, float] | None:
        """Return the load of a pool by signal; None where it is not known."""
        want = self._rounds.wants.get(namespace, pool)
        return None if want is None else want.raw()

    async def run(self) -> None:
        """Scale until cancelled."""
        # Before KEDA was looked for nothing is written that might be KEDA's.
        await self._keda.look()
        async with asyncio.TaskGroup() as tasks:
            for work in (self._keda.run, self._rounds.run, self._serve):
                tasks.create_task(_go_on(work), name=f"scaling: {work.__qualname__}")

    async def _serve(self) -> None:
        """Listen for KEDA's calls as long as KEDA is there."""
        await self._is_there.wait()
        # gRPC takes 20 MB, and is of use only where KEDA is.
        from headrace_operator.kubernetes.scaling.scaler import Scaler  # noqa: PLC0415

        try:
            async with Scaler(self._rounds.wants).serving(self._offer.host, self._offer.grpc_port) as port:
                self.scaler_port = port
                logger.info("KEDA is answered on port %d", port)
                while self._is_there.is_set():
                    await lead_here(self._writer, self._offer, port)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_RENEW_S):
                            await self._has_gone.wait()
        finally:
            self.scaler_port = None

    def _note(self, is_there: bool) -> None:  # noqa: FBT001 - the fact itself
        for event, holds in ((self._is_there, is_there), (self._has_gone, not is_there)):
            if holds:
                event.set()
            else:
                event.clear()
        self._found(is_there)


async def _go_on(work: Callable[[], Awaitable[None]]) -> None:
    """Do the work again whenever it ends, after a pause where it failed."""
    while True:
        try:
            await work()
        except OperatorError as error:
            logger.warning("scaling goes on in %g s: %s", _AGAIN_S, error)
            await asyncio.sleep(_AGAIN_S)
        except Exception:
            logger.exception("scaling goes on in %g s after a fault of the operator", _AGAIN_S)
            await asyncio.sleep(_AGAIN_S)
