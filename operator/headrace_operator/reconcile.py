"""The decision: what to do next so that what is becomes what should be.

Pure and level-triggered: it reads one snapshot, keeps no memory, and asks again for whatever has not happened yet.
"""

from collections.abc import Iterator

from headrace_operator.actions import (
    Action,
    DrainPool,
    EnsurePool,
    EnsureRouter,
    RemovePool,
    RemoveRouter,
    Route,
    Verify,
)
from headrace_operator.desired import DeploymentName, Desired, Role
from headrace_operator.observed import Observed, ObservedPool, Pair, Phase
from headrace_operator.routing import endpoints


def reconcile(desired: Desired, observed: Observed) -> tuple[Action, ...]:
    """Return the next actions, in the order in which a backend should take them; empty when nothing is to do."""
    return (
        *_ensure_router(desired, observed),
        *_ensure_pools(desired, observed),
        *_verify(desired, observed),
        *_route(desired, observed),
        *_retire_router(desired, observed),
        *_retire_pools(desired, observed),
    )


def _ensure_router(desired: Desired, observed: Observed) -> Iterator[Action]:
    if desired.router is not None and (observed.router is None or observed.router.router != desired.router):
        yield EnsureRouter(desired.router)


def _ensure_pools(desired: Desired, observed: Observed) -> Iterator[Action]:
    """A pool that drains is left alone until it has gone, and made anew then."""
    draining = {_key(held) for held in observed.pools if held.draining}
    current = {held.pool for held in observed.pools}
    for pool in desired.pools:
        if pool not in current and (pool.deployment, pool.role) not in draining:
            yield EnsurePool(pool)


def _verify(desired: Desired, observed: Observed) -> Iterator[Action]:
    """Every pair of ready workers is tried once per incarnation of both."""
    for deployment in desired.deployments:
        for decode in observed.ready(deployment, "decode"):
            for prefill in observed.ready(deployment, "prefill"):
                pair = Pair(prefill.incarnation, decode.incarnation)
                if pair not in observed.verified and pair not in observed.probed:
                    yield Verify(prefill.name, decode.name, pair)


def _route(desired: Desired, observed: Observed) -> Iterator[Action]:
    """While the router drains it still sends replays, so its list is kept until it has gone."""
    wanted = endpoints(desired, observed)
    if desired.router is not None and wanted != observed.routed:
        yield Route(wanted)


def _retire_router(desired: Desired, observed: Observed) -> Iterator[Action]:
    router = observed.router
    if desired.router is None and router is not None and router.phase is not Phase.DRAINING:
        yield RemoveRouter()


def _retire_pools(desired: Desired, observed: Observed) -> Iterator[Action]:
    """Ends flow downstream: the router first, then those that decode, then the prefill workers they still ask."""
    if desired.router is None and observed.router is not None:
        return
    wanted = {(pool.deployment, pool.role) for pool in desired.pools}
    for held in observed.pools:
        if _key(held) in wanted and not held.draining:
            continue
        if not held.draining:
            if held.pool.role != "prefill" or not _decodes(held, observed):
                yield DrainPool(*_key(held))
        elif not _alive(held, observed):
            yield RemovePool(*_key(held))


def _key(held: ObservedPool) -> tuple[DeploymentName, Role]:
    return held.pool.deployment, held.pool.role


def _alive(held: ObservedPool, observed: Observed) -> bool:
    return any(
        (worker.deployment, worker.role) == _key(held) and worker.phase is not Phase.DEAD for worker in observed.workers
    )


def _decodes(held: ObservedPool, observed: Observed) -> bool:
    """Whether a decode worker of the same deployment is not dead yet."""
    return any(
        worker.deployment == held.pool.deployment and worker.role == "decode" and worker.phase is not Phase.DEAD
        for worker in observed.workers
    )
