"""What the operator does for one LLMDeployment when it is its turn: look, decide, act, report.

A call that fails ends the turn, and the queue brings the next one; what was done before stays done, so the operator may
end between any two calls.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from headrace_api.names import ANNOTATION_REPLICAS_WRITTEN
from headrace_api.resources import LLMDeployment
from headrace_operator.actions import Action, DrainPool, EnsurePool, RemovePool, ScalePool, Verify
from headrace_operator.desired import Desired, Pool, Role
from headrace_operator.kubernetes import report, vouch, workers, writing
from headrace_operator.kubernetes.agenda import Lane
from headrace_operator.kubernetes.apply import Wanted
from headrace_operator.kubernetes.cache import Key
from headrace_operator.kubernetes.desire import desire, numbers, stamp
from headrace_operator.kubernetes.few import each
from headrace_operator.kubernetes.kinds import DEPLOYMENTS, LLM_DEPLOYMENTS, POOLS, SERVICE_ACCOUNTS, STATEFUL_SETS
from headrace_operator.kubernetes.making import Maker
from headrace_operator.kubernetes.memory import Memory, Rendered, Written
from headrace_operator.kubernetes.numbers import Number
from headrace_operator.kubernetes.observe import observe, refusals
from headrace_operator.kubernetes.pools import hold_numbers, is_number_due, report_pools
from headrace_operator.kubernetes.queue import Again
from headrace_operator.kubernetes.scaling import lowering
from headrace_operator.kubernetes.tools import Tools
from headrace_operator.objects import Child, Owner, deployment_children, names
from headrace_operator.objects import Lane as ChildLane
from headrace_operator.objects.models import fetch_job
from headrace_operator.observed import Observed
from headrace_operator.reconcile import reconcile

logger = logging.getLogger(__name__)

_TELL_AGAIN_S: Final = 5.0
_MAKE_PODS: Final = (DEPLOYMENTS, STATEFUL_SETS)


class Turn:
    """One turn for one LLMDeployment.

    Args:
        tools: what all turns share.
        key: of the resource.
        memory: of the resource.
        deployment: the resource.
        lane: in which the turn was taken; what is not of this lane is left to the next one.
    """

    def __init__(self, tools: Tools, key: Key, memory: Memory, deployment: LLMDeployment, lane: Lane) -> None:
        self._tools = tools
        self._key = key
        self._memory = memory
        self._deployment = deployment
        self._lane = lane
        self._site = tools.site()
        self._now = asyncio.get_running_loop().time()
        self._maker = Maker(tools.session, tools.applier, memory, self._now)

    async def take(self) -> Again | None:
        """Look, decide, act, report; return when there is more to do."""
        memory, maker = self._memory, self._maker
        if memory.site is not self._site or not memory.pools:
            memory.pools, memory.site = stamp(self._deployment, self._site), self._site
            job = fetch_job(self._deployment, self._site)
            memory.fetch = None if job is None else job["metadata"]["name"]
        items = {item.spec.role: item for item in self._tools.cache.of(POOLS, self._key)}
        held = numbers(self._deployment, memory.pools, items)
        desired = desire(self._deployment, memory.pools, held)
        seen, observed = self._seen(), self._observe(desired)
        actions = reconcile(desired, observed)
        children = self._render(desired, observed, actions, held)
        if await maker.is_orphaned(LLM_DEPLOYMENTS, self._key, children):
            self._tools.resources.drop(self._key)
            return Again()
        await lowering.mark(self._tools, self._key, actions, observed.pools)
        urgent = [child for child in children if not child.later]
        # A pod is not admitted before its account is there; what else it needs, the kubelet waits for, and it is there
        # by the time that the pod has a node.
        await each((child for child in urgent if child.wanted.kind is SERVICE_ACCOUNTS), maker.make)
        others = (child for child in urgent if child.wanted.kind is not SERVICE_ACCOUNTS)
        await each(sorted(others, key=lambda child: child.wanted.kind not in _MAKE_PODS), maker.make)
        if memory.has_served:
            await self._serve(actions, desired, observed)
        later = [child for child in children if child.later]
        if self._lane in {Lane.URGENT, Lane.NORMAL} and not all(map(maker.is_settled, later)):
            return Again(0.0, Lane.LOW)
        await each((child for child in later if not is_number_due(self._tools.cache, child, held)), maker.make)
        if not memory.has_served:
            if self._lane is not Lane.IDLE:
                return Again(0.0, Lane.IDLE)
            await self._serve(actions, desired, observed)
        await hold_numbers(self._tools, maker, later, held)
        await maker.prune(self._key, self._tools.cache, children)
        pauses = [
            *await self._report(desired, observed if self._seen() == seen else self._observe(desired), children),
            maker.again_s(),
            _TELL_AGAIN_S if memory.ended else None,
            min(memory.resting.values()) - self._now if memory.resting else None,
        ]
        due = [pause for pause in pauses if pause is not None]
        return Again(max(0.0, min(due)), Lane.IDLE) if due else None

    async def _serve(self, actions: Sequence[Action], desired: Desired, observed: Observed) -> None:
        """Do what traffic depends on."""
        await self._act(actions, desired, observed)
        await workers.set_gates(self._tools, self._key, self._memory, desired, observed)
        await self._tell_ends(observed)

    def _seen(self) -> tuple[int, ...]:
        """Return what is another after any news."""
        memory = self._memory
        return self._tools.cache.changes, len(memory.verified), len(memory.probing), len(memory.resting)

    def _observe(self, desired: Desired) -> Observed:
        return observe(
            self._deployment,
            desired,
            self._tools.cache,
            fetch=self._memory.fetch,
            verified=frozenset(self._memory.verified),
            probing=frozenset(self._memory.probing),
            resting=self._memory.rest(self._now),
        )

    def _render(
        self, desired: Desired, observed: Observed, actions: Iterable[Action], held: Mapping[Role, Number]
    ) -> tuple[Rendered, ...]:
        """Return every object as it should be now; built anew only when something in it could be another.

        A revision that waits for room has no Deployment yet.
        """
        ensured = {action.pool.key: action.pool.replicas for action in actions if isinstance(action, EnsurePool)}
        current = {one.key: one.replicas for one in observed.pools if not one.draining}
        placed = {pool.key: ensured.get(pool.key, current.get(pool.key)) for pool in desired.pools}
        asked = {role: number.asked for role, number in held.items()}
        rendered_for = (self._site, self._memory.generation, placed, asked)
        if self._memory.rendered_for != rendered_for:
            pools = tuple(replace(pool, replicas=placed[pool.key] or 0) for pool in desired.pools)
            secret = vouch.shared_secret(self._tools.key, self._key, self._memory.uid)
            waiting = {name for pool in pools if placed[pool.key] is None for name in _names(self._key.name, pool)}
            children = deployment_children(self._deployment, pools, self._site, secret=secret)
            self._memory.rendered = tuple(_prepared(child, asked) for child in children if child.name not in waiting)
            self._memory.rendered_for = rendered_for
        return self._memory.rendered

    async def _act(self, actions: Sequence[Action], desired: Desired, observed: Observed) -> None:
        """Carry out what is not the content of an object that is wanted."""
        by_name = {worker.name: worker for worker in observed.workers}
        template = desired.pools[0].template
        for action in actions:
            match action:
                case Verify(prefill, decode):
                    sides = by_name[prefill], by_name[decode]
                    self._tools.trials.begin(self._key, self._memory, action, sides, template)
                case ScalePool(pool, replicas):
                    await workers.scale(self._tools, self._key, self._memory.uid, pool, replicas)
                case DrainPool(pool):
                    await workers.scale(self._tools, self._key, self._memory.uid, pool, 0)
                case RemovePool(pool):
                    await workers.remove(self._tools, self._key, self._memory.uid, pool)
                case _:
                    """An EnsurePool is among the children, a Route in the gates, the router in both."""

    async def _tell_ends(self, observed: Observed) -> None:
        """Tell decode workers of prefill pods that have ended; those that do not answer are told in a later turn."""
        if self._memory.ended:
            secret = vouch.shared_secret(self._tools.key, self._key, self._memory.uid)
            await vouch.tell(self._memory, observed.workers, self._tools.client, secret)

    async def _report(self, desired: Desired, observed: Observed, children: Sequence[Rendered]) -> list[float | None]:
        """Write the statuses; return after how long what is left of them is due."""
        memory, tools = self._memory, self._tools
        own = tools.resources.get(self._key) or {}
        before = memory.status or Written(own.get("status") or {}, self._now + writing.FIRST_S - writing.EVERY_S)
        deployments = tools.cache.of(DEPLOYMENTS, self._key)
        status = report.deployment_status(
            self._deployment,
            desired,
            observed,
            problems=[str(error) for error in self._maker.problems(children)],
            refused=refusals(deployments),
            trials=[memory.reasons[one.incarnation] for one in observed.workers if one.incarnation in memory.reasons],
            previous=before.status,
            now=workers.stamp(),
            scaled=tools.scaled(self._key),
        )
        memory.has_served |= report.condition_of(status, "Ready").get("status") == "True"
        place = self._key.namespace, self._key.name
        memory.status, again_s = await writing.write(
            tools.session, tools.cache, LLM_DEPLOYMENTS, place, status, before=before, now=self._now
        )
        if memory.status is not before:
            await writing.note(tools.events, self._key, memory, before.status, status)
        owner = Owner.of(self._deployment)
        return [again_s, await report_pools(tools, memory, owner, desired, observed, now=self._now)]


def _names(deployment: str, pool: Pool) -> tuple[str, ...]:
    """Return the names of the objects that a revision has of its own."""
    made_by = (deployment, pool.role, pool.revision)
    return names.revision(*made_by), names.heads(*made_by), names.members(*made_by)


def _prepared(child: Child, asked: Mapping[Role, int]) -> Rendered:
    """Return an object ready to be sent; an LLMPool with the note of its number."""
    manifest = child.manifest
    if child.kind == POOLS.name:
        note = {ANNOTATION_REPLICAS_WRITTEN: str(asked[manifest["spec"]["role"]])}
        manifest = {**manifest, "metadata": {**manifest["metadata"], "annotations": note}}
    return Rendered(Wanted.of(manifest), child.lane is ChildLane.LATER, child.once)
