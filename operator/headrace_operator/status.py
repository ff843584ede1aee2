"""What a user is told: conditions of a deployment, in the words of the resource's status."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace_operator.desired import DeploymentName, Desired, Pool
from headrace_operator.observed import Observed, Pair, Phase, Worker
from headrace_operator.routing import endpoints


@dataclass(frozen=True, slots=True)
class Condition:
    """One statement on a deployment; `message` says what is missing and is empty where it holds."""

    type: str
    holds: bool
    message: str = ""


def conditions(deployment: DeploymentName, desired: Desired, observed: Observed) -> tuple[Condition, ...]:
    """Return PrefillReady, DecodeReady, KVTransferVerified, RouterReady and, last, Ready, which sums them up."""
    pools = [pool for pool in desired.pools if pool.deployment == deployment]
    parts = (
        _pool_ready("PrefillReady", [pool for pool in pools if pool.role == "prefill"], observed),
        _pool_ready("DecodeReady", [pool for pool in pools if pool.role != "prefill"], observed),
        _verified(deployment, observed),
        _router_ready(desired, observed),
    )
    missing = "; ".join(part.message for part in parts if not part.holds)
    return (*parts, Condition("Ready", not missing, missing))


def is_ready(desired: Desired, observed: Observed) -> bool:
    """Return whether every deployment serves as asked: all workers, all pairs verified, and the router knows them."""
    return all(conditions(name, desired, observed)[-1].holds for name in desired.deployments)


def _pool_ready(kind: str, pools: Sequence[Pool], observed: Observed) -> Condition:
    workers = {worker.name: worker for worker in observed.workers}
    missing = [
        f"{name} is {_state(workers.get(name))}"
        for pool in pools
        for name in pool.workers
        if name not in workers or workers[name].phase is not Phase.READY
    ]
    return Condition(kind, not missing, "; ".join(missing))


def _state(worker: Worker | None) -> str:
    if worker is None:
        return "not started yet"
    return f"in {worker.phase}" if worker.phase is Phase.BACKOFF else str(worker.phase)


def _verified(deployment: DeploymentName, observed: Observed) -> Condition:
    missing = [
        f"the hand-off {prefill.name} → {decode.name} is not verified yet"
        for prefill in observed.ready(deployment, "prefill")
        for decode in observed.ready(deployment, "decode")
        if Pair(prefill.incarnation, decode.incarnation) not in observed.verified
    ]
    return Condition("KVTransferVerified", not missing, "; ".join(missing))


def _router_ready(desired: Desired, observed: Observed) -> Condition:
    if observed.router is None or observed.router.phase is not Phase.READY:
        return Condition("RouterReady", False, "the router does not listen yet")
    serves = desired.router.serves if desired.router is not None else frozenset()
    wanted = endpoints(desired, observed)
    unknown = {one.url for one in wanted if one.deployment in serves} - observed.router.workers
    if unknown or observed.routed != wanted:
        return Condition("RouterReady", False, "the router does not know all workers yet")
    return Condition("RouterReady", True)
