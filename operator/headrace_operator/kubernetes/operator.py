"""The operator as a whole: what it watches, whose turn it is, and whether it may act."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from headrace_api.names import LABEL_MANAGED_BY, MANAGER
from headrace_operator.desired import Template
from headrace_operator.http.client import Client
from headrace_operator.http.probe import Handoff, try_handoff
from headrace_operator.kubernetes import report
from headrace_operator.kubernetes.agenda import Lane
from headrace_operator.kubernetes.apply import Applier
from headrace_operator.kubernetes.backend import Backend
from headrace_operator.kubernetes.cache import Cache, Key
from headrace_operator.kubernetes.credentials import Credentials
from headrace_operator.kubernetes.events import Events
from headrace_operator.kubernetes.kinds import CHILDREN, NODES, Kind
from headrace_operator.kubernetes.lease import Candidate, Lease
from headrace_operator.kubernetes.metrics import Metrics
from headrace_operator.kubernetes.objects import Item
from headrace_operator.kubernetes.queue import Again, WorkQueue
from headrace_operator.kubernetes.resources import Resources
from headrace_operator.kubernetes.scaling.endpoint import Offer
from headrace_operator.kubernetes.scaling.scaling import Scaling
from headrace_operator.kubernetes.session import Session
from headrace_operator.kubernetes.tools import Tools
from headrace_operator.kubernetes.verify import Probe, Trials
from headrace_operator.kubernetes.watch import Watcher
from headrace_operator.objects import Site
from headrace_operator.objects.resources import GPU
from headrace_operator.observed import Worker

logger = logging.getLogger(__name__)

_RESYNC_S: Final = 600.0
"""Each resource gets a turn this often though nothing has changed; nothing is written then, unless news were lost."""
_LOOK_S: Final = 30.0
_TOGETHER_S: Final = 0.5
"""Small news are collected for this long: they come many at a time."""


class Operator:
    """Reconciles the resources that it is told of; `run` is its life.

    Args:
        credentials: of the API server.
        candidate: for leadership; its identity is that of this process everywhere.
        site: what is known of the cluster; whether it has GPUs is found out where `nodes` is set.
        namespaces: that it serves; empty: all.
        key: secret of this installation, the same for all its operators.
        nodes: watch nodes, to see whether some offer GPUs.
        probe: tries a hand-off; the default sends a real request.
        sessions: makes the session that writes; for tests.
        offer: how scaling reaches others and is reached.
    """

    def __init__(
        self,
        credentials: Credentials,
        candidate: Candidate,
        *,
        site: Site,
        namespaces: Sequence[str],
        key: bytes,
        nodes: bool = True,
        probe: Probe | None = None,
        sessions: Callable[..., Session] = Session,
        offer: Offer = Offer(),  # noqa: B008 - never changes
    ) -> None:
        self.metrics = Metrics()
        self.resources = Resources()
        self._site = site
        self._scopes: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._nodes = nodes
        options: dict[str, Any] = {"identity": candidate.identity, "count": self.metrics.call}
        self._reader = Session(credentials, **options)
        self.lease = Lease(self._reader, candidate)
        self._writer = sessions(credentials, leadership_s=self.lease.left_s, **options)
        self.cache = Cache(self._changed)
        self.queue: WorkQueue[Key] = WorkQueue(self._work)
        self.scaling = self._scaling(offer)
        client = Client(deadline_s=2.0)
        self._trials = Trials(probe or _real_probe(client), self._ask)
        self._backend = Backend(self._tools(Events(self._writer, candidate.identity), client, offer, key))
        self.metrics.registry.register(self.scaling.figures)
        self.metrics.watch(
            lambda: self.queue.depth, lambda: self.lease.left_s() > 0, lambda: len(self.resources.listed())
        )

    def _scaling(self, offer: Offer) -> Scaling:
        return Scaling(
            self._reader,
            self._writer,
            self.cache,
            self.resources,
            site=lambda: self._site,
            scopes=self._scopes,
            add=self.queue.add,
            found=self._found_keda,
            offer=offer,
        )

    def _tools(self, events: Events, client: Client, offer: Offer, key: bytes) -> Tools:
        return Tools(
            session=self._writer,
            cache=self.cache,
            applier=Applier(self._writer, self.cache),
            resources=self.resources,
            events=events,
            client=client,
            trials=self._trials,
            scaled=self.scaling.told,
            visits=offer.visits,
            site=lambda: self._site,
            key=key,
        )

    def take(self, kind: str, body: Mapping[str, Any], *, gone: bool) -> None:
        """Take news of a resource: a new one, a changed one, or (`gone`) one that was deleted."""
        key = Key(kind, body["metadata"]["namespace"], body["metadata"]["name"])
        known = self.resources.get(key)
        if gone:
            self.resources.drop(key)
        if gone or self.resources.put(key, body):
            self.queue.add(key, fresh=True)
        if gone or known is None or _ready(known) != _ready(body):
            for router in self.resources.routers_of(key):
                self.queue.add(router)

    async def run(self) -> None:
        """Watch, and act while leading, until cancelled."""
        async with self._reader, self._writer, asyncio.TaskGroup() as tasks:
            watchers: list[Watcher[Any]] = [
                Watcher(self._reader, self.cache, kind, scope, f"{LABEL_MANAGED_BY}={MANAGER}")
                for kind in CHILDREN
                for scope in self._scopes
            ]
            if self._nodes:
                watchers.append(Watcher(self._reader, self.cache, NODES))
            running = [tasks.create_task(watcher.run(), name="watch") for watcher in watchers]
            try:
                for watcher in watchers:
                    await watcher.synced.wait()
                await self.lease.run(self._lead)
            finally:
                for task in running:
                    task.cancel()

    async def _lead(self) -> None:
        """Give every resource its turn, and from then on those that have news."""
        self._look_at_nodes()
        for key in self.resources.listed():
            self.queue.add(key, fresh=True)
        resync = asyncio.ensure_future(self._resync())
        scaling = asyncio.ensure_future(self.scaling.run())
        try:
            await self.queue.run()
        finally:
            resync.cancel()
            scaling.cancel()
            await asyncio.gather(scaling, return_exceptions=True)
            await self._trials.close()

    async def _resync(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_S)
            self._look_at_nodes()
            if time.monotonic() - last >= _RESYNC_S:
                last = time.monotonic()
                for key in self.resources.listed():
                    self.queue.add(key, Lane.IDLE)

    def _found_keda(self, is_there: bool) -> None:  # noqa: FBT001 - the fact itself
        self._know(replace(self._site, keda=is_there))

    def _look_at_nodes(self) -> None:
        """Note that some node offers GPUs. That none does any more is no news: nodes with GPUs come and go."""
        if self._site.nvidia or not any(node.status.allocatable.get(GPU, "0") != "0" for node in self.cache.all(NODES)):
            return
        logger.info("some node offers %s: accelerator auto means nvidia from now", GPU)
        self._know(replace(self._site, nvidia=True))

    def _know(self, site: Site) -> None:
        """Take what is known of the cluster now: objects of every resource may be others by that."""
        self._site = site
        for key in self.resources.listed():
            self.queue.add(key, Lane.LOW)

    def _changed(self, key: Key, kind: Kind[Any], old: Item | None, new: Item | None) -> None:
        if self.resources.get(key) is None:
            return
        lane = self._backend.changed(key, kind, old, new)
        if lane is not None:
            self._ask(key, lane)

    def _ask(self, key: Key, lane: Lane) -> None:
        self.queue.add(key, lane, after_s=_TOGETHER_S if lane is Lane.IDLE else 0.0)

    async def _work(self, key: Key, lane: Lane) -> Again | None:
        began, outcome = time.monotonic(), "error"
        try:
            again = await self._backend.work(key, lane)
            outcome = "done" if again is None else "again"
            return again
        finally:
            self.metrics.reconcile(key.kind, lane.name.lower(), outcome, time.monotonic() - began)


def _ready(body: Mapping[str, Any]) -> object:
    return report.condition_of(body.get("status") or {}, "Ready").get("status")


def _real_probe(client: Client, deadline_s: float = 60.0) -> Probe:
    async def probe(prefill: Worker, decode: Worker, template: Template) -> Handoff:
        with client.talking() as talk:
            return await try_handoff(talk, prefill, decode, template, deadline_s)

    return probe
