"""Leadership by a Lease: at most one operator writes at any time.

Own code, since the client's leader election compares wall clocks of different machines, gives its renewal no deadline,
and does not give the lease back. Whoever leads may write for `Election.left_s` only, which the session checks before
each write and takes as the deadline of each (`Session.leadership_s`): a process that was stopped and wakes up later
writes nothing.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from headrace_operator.kubernetes.election import Election, LeaseSpec, Step, Terms, next_spec
from headrace_operator.kubernetes.errors import ClusterError, ConflictError, NotFoundError
from headrace_operator.kubernetes.kinds import LEASES
from headrace_operator.kubernetes.session import Session, encode

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who wants to lead, and by which lease."""

    identity: str
    """Unlike that of any other candidate."""
    namespace: str
    """Of the lease."""
    name: str
    """Of the lease."""
    terms: Terms = field(default_factory=Terms)


class Lease:
    """One candidate's way to leadership.

    Args:
        session: whose writes are not bound to leadership.
        candidate: see there.
    """

    def __init__(self, session: Session, candidate: Candidate) -> None:
        self._session = session
        self._namespace = candidate.namespace
        self._name = candidate.name
        self._election = Election(candidate.identity, candidate.terms)
        self._version = ""

    def left_s(self) -> float:
        """Return for how long this process may write from now."""
        return self._election.left_s(now_s())

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Wait for leadership and run `lead` while it lasts, again and again, until cancelled or `lead` returns.

        `lead` is cancelled when leadership is lost. On leaving the lease is given back, so that the next operator need
        not wait for its end.
        """
        try:
            while True:
                await self._acquire()
                logger.info("%s leads from now", self._election.identity)
                leading = asyncio.ensure_future(lead())
                holding = asyncio.ensure_future(self._hold())
                try:
                    await asyncio.wait({leading, holding}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    lost = holding.done()
                    await _cancel(leading, holding)
                if not lost:
                    leading.result()
                    return
                logger.warning("%s leads no more: %s", self._election.identity, self._election.holder)
        finally:
            await self._release()

    async def _acquire(self) -> None:
        while self.left_s() <= 0:
            with suppress(ClusterError, TimeoutError):
                await self._try()
            if self.left_s() <= 0:
                await asyncio.sleep(self._election.terms.retry_s * (0.5 + random.random() / 2))  # noqa: S311

    async def _hold(self) -> None:
        """Renew until that fails for too long, or somebody else holds the lease."""
        terms = self._election.terms
        while (left := self.left_s()) > 0:
            await asyncio.sleep(min(terms.retry_s, left))
            try:
                await self._try()
            except (ClusterError, TimeoutError) as error:
                logger.warning("the lease could not be renewed: %s", str(error) or "no answer in time")

    async def _try(self) -> None:
        """Read the lease and create, take or renew it, where the rules allow that."""
        asked_at = now_s()
        async with asyncio.timeout(self._election.terms.renew_s / 2):
            spec = await self._read()
            step = self._election.step(spec, asked_at)
            if step is Step.WAIT:
                self._election.lost()
                return
            fresh = next_spec(spec, self._election.identity, self._election.terms, _stamp())
            try:
                await self._write(fresh, create=step is Step.CREATE)
            except (ConflictError, NotFoundError):
                if step is not Step.RENEW:
                    return
                raise
            self._election.held(fresh, asked_at)

    async def _read(self) -> LeaseSpec | None:
        try:
            whole = await self._session.read_whole(LEASES, self._namespace, self._name)
        except NotFoundError:
            return None
        self._version = whole["metadata"]["resourceVersion"]
        return msgspec.convert(whole.get("spec", {}), LeaseSpec)

    async def _write(self, spec: LeaseSpec, *, create: bool) -> None:
        """Write the lease on the condition that nobody has since it was read."""
        metadata: dict[str, Any] = {"name": self._name, "namespace": self._namespace}
        if create:
            body = {"apiVersion": LEASES.version, "kind": LEASES.name, "metadata": metadata, "spec": spec}
            await self._session.create(LEASES, self._namespace, encode(body))
            return
        metadata = {"resourceVersion": self._version}
        await self._session.merge(LEASES, self._namespace, self._name, {"metadata": metadata, "spec": spec})

    async def _release(self) -> None:
        """Give the lease back, if it is ours; a failure costs the next operator a wait and no more."""
        held = self.left_s() > 0
        self._election.lost()
        if not held:
            return
        with suppress(ClusterError, TimeoutError):
            async with asyncio.timeout(2.0):
                spec = await self._read()
                if spec is not None and spec.holder_identity == self._election.identity:
                    body = {"metadata": {"resourceVersion": self._version}, "spec": {"holderIdentity": None}}
                    await self._session.merge(LEASES, self._namespace, self._name, body)
                    logger.info("%s gave its leadership back", self._election.identity)


def now_s() -> float:
    """Return the time by a clock that goes on while the process is stopped or the machine sleeps."""
    boot_time: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def _cancel(*tasks: "asyncio.Future[None]") -> None:
    """End tasks and wait until they have; what they raise on the way is their own."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            logger.debug("ended with %r", outcome)
