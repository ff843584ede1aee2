"""What a user is told: conditions of a deployment, in the words of the resource's status."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace_operator.desired import DeploymentName, Desired, Pool
from headrace_operator.observed import Observed, Phase, Worker
from headrace_operator.routing import endpoints, proved, usable_workers

_TOLD = 3
"""Workers that a message names; the rest is a number."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One statement on a deployment; `message` says what is missing and is empty where nothing is."""

    type: str
    holds: bool
    message: str = ""
    reason: str = "AsAsked"
    """One word in CamelCase, for programs."""


def conditions(deployment: DeploymentName, desired: Desired, observed: Observed) -> tuple[Condition, ...]:
    """Return WeightsReady, PrefillReady, DecodeReady, KVTransferVerified, RouterReady, Degraded and, last, Ready.

    Ready sums up all but Degraded: everything is as asked, in the newest revision. Degraded says that requests are
    answered by fewer workers than asked for.
    """
    pools = [pool for pool in desired.pools if pool.deployment == deployment]
    parts = (
        _weights_ready(observed),
        _pool_ready("PrefillReady", [pool for pool in pools if pool.role == "prefill"], observed),
        _pool_ready("DecodeReady", [pool for pool in pools if pool.role != "prefill"], observed),
        _verified(pools, observed),
        _router_ready(desired, observed),
    )
    missing = [part for part in parts if not part.holds]
    message = "; ".join(part.message for part in missing)
    ready = Condition("Ready", not missing, message, missing[0].reason if missing else "AsAsked")
    return (*parts, _degraded(deployment, pools, observed), ready)


def is_ready(desired: Desired, observed: Observed) -> bool:
    """Return whether every deployment serves as asked: all workers, hand-offs tried, known to the router."""
    # Without a deployment, where all tiers are endpoints of others, the router is all there is.
    return _router_ready(desired, observed).holds and all(
        conditions(name, desired, observed)[-1].holds for name in desired.deployments
    )


def _weights_ready(observed: Observed) -> Condition:
    weights = observed.weights
    if weights is None or weights.ready:
        return Condition("WeightsReady", True)
    return Condition("WeightsReady", False, weights.message or "the model is being fetched", "Fetching")


def _pool_ready(kind: str, pools: Sequence[Pool], observed: Observed) -> Condition:
    """Whether as many workers of the wanted revision are ready as were asked for."""
    messages: list[str] = []
    reason = "AsAsked"
    for pool in pools:
        alive = observed.alive(pool.key)
        ready = [worker for worker in alive if worker.phase is Phase.READY]
        waiting = [worker for worker in alive if worker.phase not in {Phase.READY, Phase.DRAINING}]
        if len(ready) >= pool.replicas:
            continue
        told = [f"{worker.name} {_state(worker)}" for worker in waiting[:_TOLD]]
        absent = pool.replicas - len(ready) - len(told)
        if absent > 0:
            told.append(f"{absent} of {pool.replicas} {pool.role} workers not started yet")
        messages += told
        reason = _reason(pool, waiting, observed)
    return Condition(kind, not messages, "; ".join(messages), reason)


def _reason(pool: Pool, waiting: Sequence[Worker], observed: Observed) -> str:
    if any(worker.failure is not None for worker in waiting):
        return "WorkerFailing"
    older = any(one.replicas for one in observed.pools if one.key != pool.key and one.key.role == pool.role)
    return "RollingOut" if older else "Starting"


def _state(worker: Worker) -> str:
    state = f"is in {worker.phase}" if worker.phase is Phase.BACKOFF else f"is {worker.phase}"
    failure = worker.failure
    return state if failure is None or worker.name in failure.message else f"{state}: {failure.message}"


def _verified(pools: Sequence[Pool], observed: Observed) -> Condition:
    """Whether each ready worker of the wanted revisions took part in a hand-off that was tried for real."""
    kind = "KVTransferVerified"
    if not any(pool.role == "prefill" and pool.replicas for pool in pools):
        return Condition(kind, True, reason="NoHandOff")
    split = [pool for pool in pools if pool.role != "unified" and pool.replicas]
    workers = [one for pool in split for one in observed.alive(pool.key) if one.phase is Phase.READY]
    missing = [one.name for one in workers if one.incarnation not in observed.verified]
    if missing:
        failed = {side for pair in observed.resting for side in (pair.prefill, pair.decode)}
        reason = "TrialFailed" if any(one.incarnation in failed for one in workers) else "Untried"
        return Condition(kind, False, f"the hand-off of {_some(missing)} is not verified yet", reason)
    if {one.role for one in workers} != {"prefill", "decode"}:
        return Condition(kind, False, "no hand-off was tried yet, it takes a ready worker of each role", "Untried")
    return Condition(kind, True, reason="Tried")


def _some(names: Sequence[str]) -> str:
    more = len(names) - _TOLD
    return ", ".join(names[:_TOLD]) + (f" and {more} more" if more > 0 else "")


def _router_ready(desired: Desired, observed: Observed) -> Condition:
    if desired.router is None:
        return Condition("RouterReady", True, reason="NotAsked")
    if observed.router is None or observed.router.phase is not Phase.READY:
        failure = observed.router.failure if observed.router is not None else None
        message = "the router does not listen yet" + (f": {failure.message}" if failure is not None else "")
        return Condition("RouterReady", False, message, "Starting")
    wanted = endpoints(desired, observed)
    unknown = {one.url for one in wanted if one.deployment in desired.router.serves} - observed.router.workers
    if unknown or observed.routed != wanted:
        return Condition("RouterReady", False, "the router does not know all workers yet", "Updating")
    return Condition("RouterReady", True)


def _degraded(deployment: DeploymentName, pools: Sequence[Pool], observed: Observed) -> Condition:
    """Whether fewer workers than asked for take traffic, those of other revisions counted."""
    alone = not any(pool.role == "prefill" and pool.replicas for pool in pools)
    usable = usable_workers(deployment, observed)
    used = [one for one in usable if proved(one, observed, alone=alone)]
    short = [
        f"{have} of {pool.replicas} {pool.role} workers serve"
        for pool in pools
        if (have := sum((one.role == "prefill") == (pool.role == "prefill") for one in used)) < pool.replicas
    ]
    holds = bool(short) and any(one.role != "prefill" and one.url is not None for one in usable)
    return Condition("Degraded", holds, "; ".join(short) if holds else "", "FewerWorkers" if holds else "AsAsked")
