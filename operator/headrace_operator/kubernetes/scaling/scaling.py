"""Scaling as a whole: rounds, KEDA's presence, and the scaler that KEDA calls."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from headrace_operator.errors import OperatorError
from headrace_operator.kubernetes.agenda import Lane
from headrace_operator.kubernetes.cache import Cache, Key
from headrace_operator.kubernetes.resources import Resources
from headrace_operator.kubernetes.scaling.endpoint import Offer, lead_here
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
        self._keda = Keda(reader, cache, scopes, self._note)
        self._is_there = asyncio.Event()
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
            tasks.create_task(self._keda.run(), name="look for KEDA")
            tasks.create_task(self._rounds.run(), name="rounds of scaling")
            tasks.create_task(self._serve(), name="scaler")

    async def _serve(self) -> None:
        """Listen for KEDA's calls as long as KEDA is there."""
        while True:
            await self._is_there.wait()
            # gRPC takes 20 MB, and is of use only where KEDA is.
            from headrace_operator.kubernetes.scaling.scaler import Scaler  # noqa: PLC0415

            try:
                async with Scaler(self._rounds.wants).serving(self._offer.host, self._offer.grpc_port) as port:
                    self.scaler_port = port
                    logger.info("KEDA is answered on port %d", port)
                    while self._is_there.is_set():
                        await lead_here(self._writer, self._offer, port)
                        await asyncio.sleep(_RENEW_S)
            except OperatorError as error:
                logger.warning("KEDA cannot be answered yet: %s", error)
                await asyncio.sleep(_AGAIN_S)
            finally:
                self.scaler_port = None

    def _note(self, is_there: bool) -> None:  # noqa: FBT001 - the fact itself
        if is_there:
            self._is_there.set()
        else:
            self._is_there.clear()
        self._found(is_there)
