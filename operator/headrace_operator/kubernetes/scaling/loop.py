"""The rounds of scaling: look at the workers, ask the policy, tell or write its answer."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from headrace_operator.desired import Role
from headrace_operator.errors import OperatorError
from headrace_operator.kubernetes.agenda import Lane
from headrace_operator.kubernetes.cache import Cache, Key
from headrace_operator.kubernetes.errors import ClusterError, NotFoundError
from headrace_operator.kubernetes.kinds import POOLS
from headrace_operator.kubernetes.resources import Resources
from headrace_operator.kubernetes.scaling.pages import Pages
from headrace_operator.kubernetes.scaling.subjects import Subject, Subjects
from headrace_operator.kubernetes.scaling.told import starting, told
from headrace_operator.kubernetes.scaling.visits import Visits
from headrace_operator.kubernetes.scaling.waiting import Waiting
from headrace_operator.kubernetes.scaling.wants import Want, Wants
from headrace_operator.kubernetes.session import Session
from headrace_operator.objects import Site
from headrace_operator.scaling.load import Load, PoolLoad
from headrace_operator.scaling.policy import Policy, Seen
from headrace_operator.status import Condition

logger = logging.getLogger(__name__)

FRESH_ROUNDS: Final = 3
"""What a worker said counts for so many rounds: one lost answer is no news."""


class Rounds:
    """Decides for all deployments that ask for scaling.

    Args:
        session: writes only while this operator leads.
        cache: what is there.
        resources: what users ask for.
        site: what is known of the cluster.
        add: asks for a turn of a resource.
        interval_s: between two rounds.
        visits: makes what asks workers and routers.
    """

    def __init__(
        self,
        session: Session,
        cache: Cache,
        resources: Resources,
        site: Callable[[], Site],
        add: Callable[[Key, Lane], None],
        *,
        interval_s: float,
        visits: Callable[[], Visits] = Visits,
    ) -> None:
        self.wants = Wants()
        self.pages = Pages(visits())
        self.interval_s = interval_s
        self.lasted_s = 0.0
        """How long the last round took."""
        self._session = session
        self._subjects = Subjects(resources, cache)
        self._site = site
        self._add = add
        self._policies: dict[Key, Policy] = {}
        self._told: dict[Key, Condition] = {}
        self._woken = asyncio.Event()
        self._waiting = Waiting(visits(), self._woken.set)

    def told(self, key: Key) -> Condition | None:
        """Return the condition of a resource that asks for scaling; None where it does not."""
        return self._told.get(key, starting()) if self._subjects.asks(key) else None

    async def run(self) -> None:
        """Go round until cancelled; then everything learned is forgotten, since somebody else goes on."""
        try:
            while True:
                began = _now()
                try:
                    await self.round()
                except OperatorError as error:
                    logger.warning("a round of scaling ended early: %s", error)
                except Exception:
                    logger.exception("a round of scaling failed in a way that is a fault of the operator")
                self.lasted_s = _now() - began
                await self._rest(began + self.interval_s)
        finally:
            await self._waiting.close()
            self.pages.close()
            self._policies.clear()
            self._told.clear()
            self.wants.put({}, only=True)

    async def round(self) -> None:
        """Look at all workers once, and decide for every deployment."""
        subjects = self._subjects.find(self._site())
        self.pages.keep(_urls(subjects))
        self._waiting.follow({url for subject in subjects if subject.may_sleep for url in subject.routers})
        await self.pages.look(_urls(subject for subject in subjects if not self._is_elsewhere(subject)))
        keys = {subject.key for subject in subjects}
        self._policies = {key: policy for key, policy in self._policies.items() if key in keys}
        self._told = {key: one for key, one in self._told.items() if key in keys}
        await self._decide(subjects, all_of_them=True)

    async def wake(self) -> None:
        """Decide at once for deployments that routers hold requests for; workers are not asked for that."""
        held = [
            subject
            for subject in self._subjects.find(self._site())
            if subject.may_sleep
            and not all(subject.numbers.values())
            and self._waiting.held(subject.routers, subject.key.name, _now())
        ]
        await self._decide(held)

    async def _rest(self, until: float) -> None:
        """Wait for the next round, and wake meanwhile what is asked for."""
        while (left := until - _now()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._woken.wait()
            except TimeoutError:
                return
            self._woken.clear()
            with suppress(OperatorError):
                await self.wake()

    async def _decide(self, subjects: Sequence[Subject], *, all_of_them: bool = False) -> None:
        """Ask the policy for each deployment, publish its answers, and write them where nobody else does."""
        site, wants = self._site(), {}
        moved: list[tuple[Subject, Role, int]] = []
        for subject in subjects:
            seen, silent = self._see(subject)
            policy = self._policies.setdefault(subject.key, Policy())
            numbers = policy.decide(seen, subject.terms, _now())
            self._tell(subject, site, silent)
            for role, number in numbers.items():
                place = subject.key.namespace, subject.pools[role].metadata.name
                wants[place] = Want(number, seen.loads[role], seen.held)
                if not site.keda and number != seen.numbers[role]:
                    moved.append((subject, role, number))
        self.wants.put(wants, only=all_of_them)
        for subject, role, number in moved:
            await self._write(subject, role, number)

    def _see(self, subject: Subject) -> tuple[Seen, list[str]]:
        """Return what is known of a deployment, and the workers that say nothing."""
        silent: list[str] = []
        loads: dict[Role, PoolLoad] = {}
        for role, servers in subject.workers.items():
            told: list[Load | None] = []
            for server in servers:
                page = self.pages.of(server.url)
                if page is not None and _now() - page.at <= FRESH_ROUNDS * self.interval_s:
                    told.append(page.page.load)
                elif page is not None or server.is_ready:
                    # One that never said anything and is not Ready is still loading its model.
                    told.append(None)
                    silent.append(server.url)
            loads[role] = PoolLoad.of(told)
        held = self._waiting.held(subject.routers, subject.key.name, _now()) if subject.routers else None
        return Seen(subject.numbers, loads, held or 0, is_watched=held is not None), silent

    def _tell(self, subject: Subject, site: Site, silent: Sequence[str]) -> None:
        """Note the condition, and ask for a turn that writes it where it is another one."""
        fresh = told(subject.spec, keda=site.keda, silent=silent, sleepless=subject.may_sleep and not subject.routers)
        if self._told.get(subject.key) != fresh:
            self._told[subject.key] = fresh
            self._add(subject.key, Lane.IDLE)

    def _is_elsewhere(self, subject: Subject) -> bool:
        """Return whether somebody else reads the workers of a deployment."""
        return self._site().keda and subject.spec.trigger == "prometheus"

    async def _write(self, subject: Subject, role: Role, number: int) -> None:
        item = subject.pools[role]
        namespace, name = subject.key.namespace, item.metadata.name
        try:
            await self._session.scale(POOLS, namespace, name, number)
        except NotFoundError:
            return
        except ClusterError as error:
            logger.warning("LLMPool %s/%s could not be scaled to %d: %s", namespace, name, number, error)
            return
        logger.info("LLMPool %s/%s: %s → %d workers", namespace, name, item.spec.replicas, number)


def _urls(subjects: Iterable[Subject]) -> set[str]:
    return {server.url for subject in subjects for servers in subject.workers.values() for server in servers}


def _now() -> float:
    return asyncio.get_running_loop().time()
