"""Workers from a cluster's pods: listed once, then watched.

A watch goes on from the last version that was seen, over broken connections and restarts of the API server; only a
version that the server has forgotten costs a new list. While the server is away the workers known so far stay: they
serve on without it, and the breaker notices those that do not.
"""

import asyncio
import dataclasses
import logging
import random
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing

from headrace_api.names import LABEL_DEPLOYMENT, LABEL_ROLE
from headrace_router.discovery.access import Access
from headrace_router.discovery.api import ApiError, GoneError, PodsApi
from headrace_router.discovery.pods import Pod, worker_of
from headrace_router.discovery.source import Changed
from headrace_router.discovery.worker import Worker

logger = logging.getLogger(__name__)

WATCH_S = 60
"""About how long one watch lasts. A server that fell silent without closing is noticed after that, and a new watch
costs it little."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
SHORT_S = 1.0
"""A watch that ends sooner and brought nothing counts as a failure, so that no server is asked without a pause."""


def pause_s(failures: int, chance: float) -> float:
    """Return the pause after so many failures in a row; `chance` from 0 to 1 spreads routers that failed together."""
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16))
    return longest * (0.5 + chance / 2)


@dataclasses.dataclass(slots=True)
class _Namespace:
    """What is known of one namespace."""

    name: str
    selector: str
    api: PodsApi
    version: str | None = None
    """To watch from; None: list first."""
    workers: dict[str, Worker] = dataclasses.field(default_factory=dict)
    """By the pod's UID."""
    failures: int = 0
    heard_s: float = 0.0
    """When a list or a watch brought something last."""


class KubernetesDiscovery:
    """Watches the pods of some deployments.

    Args:
        names: deployments by namespace; their models are known from the start, with workers or without.
        access: to the cluster.
        changed: called after each change.
    """

    def __init__(self, names: Mapping[str, Iterable[str]], access: Access, changed: Changed) -> None:
        self._namespaces = [_Namespace(name, _selector(found), PodsApi(access)) for name, found in names.items()]
        self._models = frozenset(model for found in names.values() for model in found)
        self._changed = changed
        self._random = random.Random()  # noqa: S311 - pauses need to differ, not to be secret

    def start(self) -> None:
        """Make the models known: requests wait for their workers."""
        self._tell()

    async def run(self) -> None:
        """Follow all namespaces until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for namespace in self._namespaces:
                tasks.create_task(self._follow(namespace))

    async def _follow(self, namespace: _Namespace) -> None:
        try:
            await self._follow_on(namespace)
        finally:
            await namespace.api.close()

    async def _follow_on(self, namespace: _Namespace) -> None:
        while True:
            began_s = time.monotonic()
            try:
                if namespace.version is None:
                    await self._list(namespace)
                await self._watch(namespace)
            except ApiError as error:
                await self._recover(namespace, error)
            except Exception as error:
                logger.exception("discovery in namespace %s failed", namespace.name)
                await self._recover(namespace, ApiError(f"a fault of the router: {error}"))
            else:
                if time.monotonic() - began_s < SHORT_S and namespace.heard_s < began_s:
                    await self._recover(namespace, ApiError("the watch ended at once"))

    async def _list(self, namespace: _Namespace) -> None:
        pods, version = await namespace.api.pods(namespace.name, namespace.selector)
        namespace.workers = {pod.metadata.uid: worker for pod in pods if (worker := _worker(pod)) is not None}
        namespace.version = version
        self._tell()

    async def _watch(self, namespace: _Namespace) -> None:
        assert namespace.version is not None
        timeout_s = round(WATCH_S * self._random.uniform(0.75, 1.25))
        changes = namespace.api.changes(namespace.name, namespace.selector, namespace.version, timeout_s)
        async with aclosing(changes) as reads:
            async for events in reads:
                before = dict(namespace.workers)
                for kind, pod in events:
                    self._take(namespace, kind, pod)
                namespace.failures, namespace.heard_s = 0, time.monotonic()
                if namespace.workers != before:
                    self._tell()

    def _take(self, namespace: _Namespace, kind: str, pod: Pod) -> None:
        namespace.version = pod.metadata.resource_version
        worker = _worker(pod) if kind in ("ADDED", "MODIFIED") else None
        if worker is not None:
            namespace.workers[pod.metadata.uid] = worker
        elif kind != "BOOKMARK":
            namespace.workers.pop(pod.metadata.uid, None)

    async def _recover(self, namespace: _Namespace, error: ApiError) -> None:
        """Rest after a failure; what is known stays."""
        if isinstance(error, GoneError):
            namespace.version = None
        namespace.failures += 1
        # Authorities and certificates may have been replaced meanwhile.
        await namespace.api.close()
        rest_s = max(error.retry_after_s, pause_s(namespace.failures, self._random.random()))
        logger.warning("pods of namespace %s: %s; trying again in %.1f s", namespace.name, error, rest_s)
        await asyncio.sleep(rest_s)

    def _tell(self) -> None:
        workers = tuple(worker for namespace in self._namespaces for worker in namespace.workers.values())
        self._changed(workers, self._models)


def _selector(names: Iterable[str]) -> str:
    return f"{LABEL_DEPLOYMENT} in ({','.join(sorted(names))}),{LABEL_ROLE}"


def _worker(pod: Pod) -> Worker | None:
    try:
        return worker_of(pod)
    except ValueError as error:
        logger.warning("pod %s is left out: %s", pod.metadata.name, error)
        return None
