"""What is done to workers that run: more or fewer of an old revision, its end, and the gate to traffic."""

from contextlib import suppress
from datetime import UTC, datetime

from headrace_api.names import ANNOTATION_MEMBERS, CONDITION_KV_TRANSFER, LABEL_REVISION, LABEL_ROLE
from headrace_operator.desired import Desired, PoolKey
from headrace_operator.kubernetes import gates
from headrace_operator.kubernetes.cache import Key
from headrace_operator.kubernetes.errors import NotFoundError
from headrace_operator.kubernetes.few import each
from headrace_operator.kubernetes.kinds import DEPLOYMENTS, PODS, STATEFUL_SETS, Kind
from headrace_operator.kubernetes.memory import Memory
from headrace_operator.kubernetes.objects import DeploymentItem
from headrace_operator.kubernetes.observe import key_of
from headrace_operator.kubernetes.tools import Tools
from headrace_operator.observed import Observed
from headrace_operator.routing import endpoints


async def scale(tools: Tools, key: Key, uid: str, pool: PoolKey, replicas: int) -> None:
    """Hold another number of workers of a revision that is on its way out."""
    found = _find(tools, key, uid, pool)
    if found is None:
        return
    await _hold(tools, *found, replicas)
    for members in tools.cache.of(STATEFUL_SETS, key):
        each = members.metadata.annotations.get(ANNOTATION_MEMBERS)
        if each is not None and members.metadata.labels.get(LABEL_REVISION) == pool.revision:
            await _hold(tools, STATEFUL_SETS, members, replicas * int(each))


async def remove(tools: Tools, key: Key, uid: str, pool: PoolKey) -> None:
    """Remove a revision whose workers have all ended."""
    found = _find(tools, key, uid, pool)
    if found is not None:
        await tools.applier.delete(*found)


async def set_gates(tools: Tools, key: Key, memory: Memory, desired: Desired, observed: Observed) -> None:
    """Open and close pods to traffic; while the router ends, its list is left as it is."""
    if desired.router is None and observed.router is not None:
        return
    names = {worker.name for worker in observed.workers}
    pods = [pod for pod in tools.cache.of(PODS, key) if pod.metadata.name in names]

    async def move(gate: gates.Gate) -> None:
        body = {"status": {"conditions": [_condition(gate)]}}
        with suppress(NotFoundError):
            tools.cache.learn(
                PODS,
                await tools.session.merge(PODS, key.namespace, gate.pod, body, subresource="status", strategic=True),
            )

    wanted = endpoints(desired, observed)
    if not memory.has_served:
        wanted = gates.patient(wanted, memory.probing, observed)
    await each(gates.changes(pods, wanted, observed), move)


def _condition(gate: gates.Gate) -> dict[str, str]:
    return {
        "type": CONDITION_KV_TRANSFER,
        "status": "True" if gate.open else "False",
        "reason": gate.reason,
        "message": gate.message,
        "lastTransitionTime": stamp(),
    }


async def _hold(tools: Tools, kind: Kind[DeploymentItem], item: DeploymentItem, replicas: int) -> None:
    if item.spec.replicas != replicas:
        body = {"spec": {"replicas": replicas}}
        answer = await tools.session.merge(kind, item.metadata.namespace, item.metadata.name, body)
        tools.cache.learn(kind, answer)


def _find(tools: Tools, key: Key, uid: str, pool: PoolKey) -> tuple[Kind[DeploymentItem], DeploymentItem] | None:
    """Return the Deployment or the StatefulSet of a revision, if it is ours."""
    for kind in (DEPLOYMENTS, STATEFUL_SETS):
        for item in tools.cache.of(kind, key):
            controller = item.metadata.controller
            if LABEL_ROLE in item.metadata.labels and key_of(key.name, item) == pool:
                return (kind, item) if controller is not None and controller.uid == uid else None
    return None


def stamp() -> str:
    """Return the time as conditions have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
