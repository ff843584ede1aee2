"""When objects came to be, as the API server tells: the clock of the operator's benchmark."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

from headrace_api.names import LABEL_DEPLOYMENT
from headrace_operator.kubernetes.errors import ClusterError
from headrace_operator.kubernetes.kinds import CHILDREN, Kind
from headrace_operator.kubernetes.objects import Item, PodItem
from headrace_operator.kubernetes.session import Session

ChildName = tuple[str, str]
"""Kind and name."""


class Seen:
    """First sight of each child and pod of one namespace, in monotonic seconds."""

    kinds: tuple[Kind[Any], ...] = CHILDREN

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._children: dict[ChildName, float] = {}
        self._pods: dict[str, dict[str, float]] = {}
        self._ready: dict[str, float] = {}
        self._present: set[ChildName] = set()
        self._addresses: dict[str, str] = {}
        self._changed = asyncio.Condition()

    def reset(self) -> None:
        """Forget what was seen."""
        self._children.clear()
        self._pods.clear()
        self._ready.clear()

    def name_of(self, address: str) -> str:
        """Return the name of the pod that has an address."""
        return self._addresses[address]

    def children_at(self, children: Iterable[ChildName]) -> float:
        """Return when the last of these was first seen."""
        return max(self._children[child] for child in children)

    def pods_at(self, deployment: str, count: int) -> float:
        """Return when so many pods of a deployment were there."""
        return sorted(self._pods[deployment].values())[count - 1]

    def ready_at(self, count: int) -> float:
        """Return when so many pods were ready."""
        return sorted(self._ready.values())[count - 1]

    async def all_of(self, deployment: str, children: frozenset[ChildName], pods: int) -> None:
        """Wait for the children and the number of pods of one deployment."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: children <= self._children.keys() and len(self._pods.get(deployment, ())) >= pods
            )

    async def ready(self, count: int) -> None:
        """Wait until so many pods were ready at one time or another."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._ready) >= count)

    async def nothing_left(self) -> None:
        """Wait until no labelled child and no pod is there any more."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._present)

    async def follow(self, session: Session, kind: Kind[Any], begun: asyncio.Event) -> None:
        """Watch one kind until cancelled; sets `begun` once nothing can be missed."""
        version = ""
        while True:
            if not version:
                async for items, at in session.pages(kind, self._namespace):
                    version = at
                    for item in items:
                        await self._note(kind, "ADDED", item)
            begun.set()
            try:
                async for happened, item in session.watch(kind, self._namespace, "", version, lasting_s=3600):
                    version = item.metadata.resource_version
                    if happened != "BOOKMARK":
                        await self._note(kind, happened, item)
            except ClusterError:
                version = ""

    async def _note(self, kind: Kind[Any], happened: str, item: Item) -> None:
        now, metadata = time.monotonic(), item.metadata
        deployment = metadata.labels.get(LABEL_DEPLOYMENT)
        if deployment is None:
            return
        name = (kind.name, metadata.name)
        async with self._changed:
            if happened == "DELETED":
                self._present.discard(name)
            else:
                self._present.add(name)
                self._children.setdefault(name, now)
                if isinstance(item, PodItem):
                    self._addresses[item.status.pod_ip] = metadata.name
                    self._pods.setdefault(deployment, {}).setdefault(metadata.uid, now)
                    if any(one.type == "Ready" and one.status == "True" for one in item.status.conditions):
                        self._ready.setdefault(metadata.uid, now)
            self._changed.notify_all()


@contextlib.asynccontextmanager
async def watching(session: Session, namespace: str) -> AsyncIterator[Seen]:
    """Give a `Seen` whose watches have begun."""
    seen = Seen(namespace)
    begun = [asyncio.Event() for _ in seen.kinds]
    tasks = [
        asyncio.create_task(seen.follow(session, kind, event)) for kind, event in zip(seen.kinds, begun, strict=True)
    ]
    try:
        await asyncio.gather(*(event.wait() for event in begun))
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
