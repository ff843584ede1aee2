"""Says which pods go when a Deployment gets fewer of them: those whose prefixes are worth least.

Kubernetes takes pods that are not Ready first, then those of the least deletion cost. The marks are written as part of
a pod's status, which the operator may change anyway; they count for the next step only and are taken back after it.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from headrace_api.names import LABEL_REVISION, LABEL_ROLE
from headrace_operator.actions import Action, EnsurePool, ScalePool
from headrace_operator.desired import PoolKey
from headrace_operator.kubernetes.cache import Key
from headrace_operator.kubernetes.errors import NotFoundError
from headrace_operator.kubernetes.few import each
from headrace_operator.kubernetes.kinds import PODS
from headrace_operator.kubernetes.objects import PodItem
from headrace_operator.kubernetes.pods import LABEL_POD, has_ended, is_ready, url_of
from headrace_operator.kubernetes.scaling.pages import Pages
from headrace_operator.kubernetes.tools import Tools
from headrace_operator.observed import ObservedPool
from headrace_operator.scaling.victims import victims

COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_LEAST: Final = "-1"
_DEADLINE_S: Final = 0.5
"""The turn waits for it, and nothing breaks where a worker's worth is not known."""


async def mark(tools: Tools, key: Key, actions: Iterable[Action], pools: Sequence[ObservedPool]) -> None:
    """Mark the pods that shall go by the actions, before these are taken.

    Args:
        tools: what all turns share.
        key: of the deployment.
        actions: that are about to be taken.
        pools: as they are.
    """
    for pool, replicas in lowered(actions, pools).items():
        pods = [pod for pod in tools.cache.of(PODS, key) if _is_of(pod, pool)]
        serving = {pod.metadata.name: pod for pod in pods if is_ready(pod)}
        count = len(pods) - replicas - (len(pods) - len(serving))
        if 0 < count < len(serving):
            worths = await _worths(serving, Pages(tools.visits(), deadline_s=_DEADLINE_S))
            await _write(tools, pods, set(victims(sorted(serving), worths, count)))


def lowered(actions: Iterable[Action], pools: Iterable[ObservedPool]) -> dict[PoolKey, int]:
    """Return the pools that get fewer workers and keep some, with their number then."""
    before = {pool.key: pool.replicas for pool in pools}
    found: dict[PoolKey, int] = {}
    for action in actions:
        match action:
            case EnsurePool(pool):
                found[pool.key] = pool.replicas
            case ScalePool(pool_key, replicas):
                found[pool_key] = replicas
            case _:
                """The others take all workers of a pool or none."""
    return {pool_key: number for pool_key, number in found.items() if 0 < number < before.get(pool_key, 0)}


def changes(pods: Iterable[PodItem], chosen: set[str]) -> dict[str, str | None]:
    """Return the mark that each pod is to get; those that have theirs already are left out, None takes one away."""
    wanted = {pod.metadata.name: _LEAST if pod.metadata.name in chosen else None for pod in pods}
    found = {pod.metadata.name: pod.metadata.annotations.get(COST) for pod in pods}
    return {
        name: mark
        for name, mark in wanted.items()
        # What a user has set is left alone, unless the pod is to go.
        if mark != found[name] and (mark is not None or found[name] == _LEAST)
    }


def _is_of(pod: PodItem, pool: PoolKey) -> bool:
    own = pod.metadata.labels
    same = (own.get(LABEL_ROLE), own.get(LABEL_REVISION)) == (pool.role, pool.revision)
    if LABEL_POD in own:
        return False  # a StatefulSet takes the last ones, whatever they cost
    return same and pod.metadata.deletion_timestamp is None and not has_ended(pod)


async def _worths(serving: Mapping[str, PodItem], pages: Pages) -> dict[str, float]:
    """Return what the workers' prefixes are worth, of those that say it."""
    urls = {name: url for name, pod in serving.items() if (url := url_of(pod)) is not None}
    try:
        await pages.look(list(urls.values()))
        told = {name: pages.of(url) for name, url in urls.items()}
        return {name: one.page.worth for name, one in told.items() if one is not None}
    finally:
        pages.close()


async def _write(tools: Tools, pods: Sequence[PodItem], chosen: set[str]) -> None:
    namespaces = {pod.metadata.name: pod.metadata.namespace for pod in pods}

    async def move(change: tuple[str, str | None]) -> None:
        name, cost = change
        body: dict[str, Any] = {"metadata": {"annotations": {COST: cost}}}
        with suppress(NotFoundError):
            answer = await tools.session.merge(PODS, namespaces[name], name, body, subresource="status")
            tools.cache.learn(PODS, answer)

    await each(changes(pods, chosen).items(), move)
