"""Which changes of objects are worth a turn, and how urgent it is. Pure.

Most events tell of steps on the way, a pod that was scheduled or a counter that moved, and change no decision; they
were three quarters of all turns.
"""

from typing import Any

from headrace_api.names import LABEL_ROLE
from headrace_operator.kubernetes.agenda import Lane
from headrace_operator.kubernetes.objects import ClaimItem, DeploymentItem, Item, JobItem, PodItem, PoolItem
from headrace_operator.kubernetes.pods import failure_of, gate_of, is_ready, worker_of
from headrace_operator.observed import Phase


def lane_of(old: Item | None, new: Item | None) -> Lane | None:
    """Return how urgent the turn is that a change asks for; None where it changes no decision."""
    if old is not None and new is not None and essence(old) == essence(new):
        return None
    pod = new or old
    if isinstance(pod, PodItem):
        return _lane_of_pod(old, new)
    if new is None or old is None or not isinstance(new, DeploymentItem):
        return Lane.NORMAL
    return Lane.NORMAL if essence(old)[:4] != essence(new)[:4] else Lane.IDLE


def essence(item: Item) -> tuple[Any, ...]:
    """Return what decisions read of an object: first what an apply would bring back, then what it reports."""
    metadata = item.metadata
    own = (metadata.uid, metadata.mark, metadata.deletion_timestamp, metadata.controller)
    match item:
        case PodItem():
            return *own[2:3], worker_of(item), gate_of(item), failure_of(item), is_ready(item)
        case DeploymentItem():
            failures = [one for one in item.status.conditions if one.type == "ReplicaFailure"]
            is_router = LABEL_ROLE not in metadata.labels
            return *own, item.spec.replicas, failures, is_router and bool(item.status.ready_replicas)
        case JobItem():
            return *own, item.status.succeeded, item.status.conditions
        case ClaimItem():
            return *own, item.status.phase
        case PoolItem():
            return *own, item.spec.replicas, metadata.annotations
        case _:
            return own


def _lane_of_pod(old: Item | None, new: Item | None) -> Lane:
    """A worker that begins is for the numbers only; one that can serve, or no longer can, is waited for."""
    if old is None and isinstance(new, PodItem):
        worker = worker_of(new)
        return Lane.IDLE if worker is not None and worker.phase is Phase.STARTING else Lane.URGENT
    return Lane.URGENT
