"""The readiness gate of worker pods: what it should say, and what it says. Pure.

The gate is the routing table: routers, Services and disruption budgets use a pod exactly when it is open. It also keeps
what was proved of which incarnation, for an operator that comes after this one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from headrace_operator.kubernetes.objects import PodItem, StatusCondition
from headrace_operator.kubernetes.pods import gate_of, incarnation_of
from headrace_operator.observed import Endpoint, Observed, Pair, Worker

VERIFIED: Final = "HandoffVerified"
_UNTRIED: Final = "NoPartner"
_UNIFIED: Final = "Unified"
_CLOSED: Final = "NotVerified"
_PREFIX: Final = "incarnation "


@dataclass(frozen=True, slots=True)
class Gate:
    """What a pod's gate is to say."""

    pod: str
    open: bool
    reason: str
    message: str


def proved(pod: PodItem) -> str | None:
    """Return the incarnation of which the gate says that its hand-off was verified."""
    gate = gate_of(pod)
    return _incarnation(gate) if gate is not None and gate.status == "True" and gate.reason == VERIFIED else None


def routed(pods: Iterable[PodItem], workers: Sequence[Worker]) -> tuple[Endpoint, ...]:
    """Return the workers whose gate is open, in the order of `workers`; a gate that says no incarnation has none."""
    by_name = {pod.metadata.name: pod for pod in pods}
    found = []
    for worker in workers:
        gate = gate_of(by_name[worker.name])
        if gate is not None and gate.status == "True" and worker.url is not None:
            found.append(
                Endpoint(
                    worker.name, worker.deployment, worker.role, worker.url, _incarnation(gate) or "", worker.pairing
                )
            )
    return tuple(found)


def changes(pods: Iterable[PodItem], wanted: Iterable[Endpoint], observed: Observed) -> list[Gate]:
    """Return the gates that must change: those of `wanted` are open, all others are not."""
    open_names = {one.name for one in wanted}
    roles = {worker.name: worker.role for worker in observed.workers}
    found = []
    for pod in pods:
        gate = gate_of(pod)
        if pod.metadata.name in open_names:
            incarnation = incarnation_of(pod)
            reason = _UNIFIED if roles.get(pod.metadata.name) == "unified" else _UNTRIED  # type: ignore[call-overload]
            fresh = Gate(
                pod.metadata.name,
                open=True,
                reason=VERIFIED if incarnation in observed.verified else reason,
                message=_PREFIX + incarnation,
            )
            if gate is None or (gate.status, gate.reason, gate.message) != ("True", fresh.reason, fresh.message):
                found.append(fresh)
        elif gate is not None and gate.status == "True" and pod.metadata.deletion_timestamp is None:
            found.append(Gate(pod.metadata.name, open=False, reason=_CLOSED, message=_PREFIX + incarnation_of(pod)))
    return found


def patient(wanted: Iterable[Endpoint], probing: Iterable[Pair], observed: Observed) -> tuple[Endpoint, ...]:
    """Return who may have traffic where nobody asks for any yet: a trial that runs is waited for.

    By all workers: one without a partner has one as soon as the trial ends, and its pod is then written once.
    """
    is_open = {one.name for one in observed.routed}
    waits = any(probing)
    return tuple(one for one in wanted if one.name in is_open or one.incarnation in observed.verified or not waits)


def _incarnation(gate: StatusCondition) -> str | None:
    return gate.message.removeprefix(_PREFIX) if gate.message.startswith(_PREFIX) else None
