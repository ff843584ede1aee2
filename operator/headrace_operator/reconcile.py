"""The decision: what to do next so that what is becomes what should be.

Pure and level-triggered: it reads one snapshot, keeps no memory, and asks again for whatever has not happened yet.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from headrace_operator.actions import (
    Action,
    DrainPool,
    EnsurePool,
    EnsureRouter,
    RemovePool,
    RemoveRouter,
    Route,
    ScalePool,
    Verify,
)
from headrace_operator.desired import DeploymentName, Desired, Pool, PoolKey, Role
from headrace_operator.observed import Observed, ObservedPool, Pair, Phase, Worker
from headrace_operator.rollout import Held, retire, spread
from headrace_operator.routing import endpoints, proved

_LANES: tuple[tuple[Role, ...], ...] = (("prefill",), ("decode", "unified"))
"""Roles that take each other's place when a deployment changes its mode."""


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
    """Each deployment's pools step towards what is wanted; one that drains is made anew once it has gone."""
    for deployment in desired.deployments:
        pools = [pool for pool in desired.pools if pool.deployment == deployment]
        for lane in _LANES:
            wanted = next((pool for pool in pools if pool.role in lane), None)
            held = [one for one in observed.pools if one.key.deployment == deployment and one.key.role in lane]
            yield from _step(wanted, held, pools, observed)


def _step(
    wanted: Pool | None, held: Sequence[ObservedPool], pools: Sequence[Pool], observed: Observed
) -> Iterator[Action]:
    """Yield what brings one lane closer to the wanted pool."""
    alone = not any(pool.role == "prefill" and pool.replicas for pool in pools)
    counts = [_count(one, wanted, observed, alone=alone) for one in held]
    current = {one.key: one for one in held}
    if observed.weights is not None and not observed.weights.ready:
        # A worker started now would find no files, and could take their volume to another node than who fetches them.
        if wanted is not None and wanted.key not in current:
            yield EnsurePool(replace(wanted, replicas=0))
        return
    targets = retire(counts) if wanted is None else spread(wanted, counts)
    for key, replicas in targets.items():
        now = current.get(key)
        if now is not None and (now.draining or now.replicas == replicas):
            continue
        if wanted is None or key != wanted.key:
            yield ScalePool(key, replicas)
        elif now is not None or replicas or not wanted.replicas:  # a first worker may still wait for room
            yield EnsurePool(replace(wanted, replicas=replicas))


def _count(held: ObservedPool, wanted: Pool | None, observed: Observed, *, alone: bool) -> Held:
    """Count the workers of one revision."""
    alive = observed.alive(held.key)
    ready = [one for one in alive if one.phase is Phase.READY and proved(one, observed, alone=alone)]
    floor = 0
    if held.key.role == "prefill" and (wanted is None or held.key != wanted.key):
        floor = _needed(held, wanted, observed)
    return Held(held.key, held.replicas, len(alive), len(ready), floor)


def _needed(held: ObservedPool, wanted: Pool | None, observed: Observed) -> int:
    """Return how many prefill workers of an old revision its decode workers still need.

    One, as long as any decode worker of its pairing lives that the successor cannot serve; all, where none succeeds
    it. None, where the successor waits for this very room.
    """
    if wanted is not None and wanted.pairing == held.pairing:
        return 0
    if not any(one.pairing == held.pairing for one in _decoders(held.key.deployment, observed)):
        return 0
    if wanted is None:
        return held.replicas
    successors = next((one.replicas for one in observed.pools if one.key == wanted.key), 0)
    return 1 if successors or not wanted.replicas or wanted.pace.surge else 0


def _verify(desired: Desired, observed: Observed) -> Iterator[Action]:
    """Every ready worker takes part in one trial per incarnation, with a proved partner where there is one."""
    for deployment in desired.deployments:
        prefills, decodes = observed.ready(deployment, "prefill"), observed.ready(deployment, "decode")
        busy = {side for pair in observed.probing for side in (pair.prefill, pair.decode)}
        for worker in (*decodes, *prefills):
            if worker.incarnation in observed.verified or worker.incarnation in busy:
                continue
            partner = _partner(worker, prefills if worker.role == "decode" else decodes, busy, observed)
            if partner is not None:
                prefill, decode = (partner, worker) if worker.role == "decode" else (worker, partner)
                busy |= {worker.incarnation, partner.incarnation} - observed.verified
                yield Verify(prefill.name, decode.name, _pair(worker, partner))


def _partner(worker: Worker, others: Sequence[Worker], busy: set[str], observed: Observed) -> Worker | None:
    """Return whom to try a worker with: proved ones first, nobody who failed with it a moment ago."""
    fit = [
        other
        for other in others
        if other.pairing == worker.pairing
        and _pair(worker, other) not in observed.resting
        and (other.incarnation in observed.verified or other.incarnation not in busy)
    ]
    return min(fit, key=lambda other: other.incarnation not in observed.verified, default=None)


def _pair(one: Worker, other: Worker) -> Pair:
    """Return the two as a pair, whichever of them decodes."""
    prefill, decode = (other, one) if one.role == "decode" else (one, other)
    return Pair(prefill.incarnation, decode.incarnation)


def _route(desired: Desired, observed: Observed) -> Iterator[Action]:
    """While the router drains it still sends replays, so its list is kept until it has gone."""
    draining = desired.router is None and observed.router is not None
    wanted = endpoints(desired, observed)
    if not draining and wanted != observed.routed:
        yield Route(wanted)


def _retire_router(desired: Desired, observed: Observed) -> Iterator[Action]:
    router = observed.router
    if desired.router is None and router is not None and router.phase is not Phase.DRAINING:
        yield RemoveRouter()


def _retire_pools(desired: Desired, observed: Observed) -> Iterator[Action]:
    """Pools without workers are forgotten; those of a deployment that is not wanted end downstream.

    The router first, then those that decode, then the prefill workers they still ask.
    """
    wanted = {pool.key for pool in desired.pools}
    for held in observed.pools:
        gone = not observed.alive(held.key)
        if held.draining:
            if gone:
                yield RemovePool(held.key)
        elif held.key.deployment in desired.deployments:
            if held.key not in wanted and gone and not held.replicas:
                yield RemovePool(held.key)
        elif (desired.router is not None or observed.router is None) and not _asked(held.key, observed):
            yield DrainPool(held.key)


def _asked(key: PoolKey, observed: Observed) -> bool:
    """Return whether a prefill worker of this pool may still be asked: a decode worker of its deployment lives."""
    return key.role == "prefill" and any(_decoders(key.deployment, observed))


def _decoders(deployment: DeploymentName, observed: Observed) -> Iterator[Worker]:
    """Yield the decode workers of a deployment that may still run."""
    for worker in observed.workers:
        if worker.deployment == deployment and worker.role == "decode" and worker.phase is not Phase.DEAD:
            yield worker
