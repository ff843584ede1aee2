"""A worker's pod as the decision sees it: a pure reading of what the kubelet and the scheduler report."""

from typing import Final

from headrace_api.names import CONDITION_KV_TRANSFER, LABEL_DEPLOYMENT, LABEL_PAIRING, LABEL_REVISION, LABEL_ROLE
from headrace_operator.desired import DeploymentName, Role, WorkerName
from headrace_operator.kubernetes.objects import ContainerStatus, PodItem, StatusCondition
from headrace_operator.objects.pod import HTTP_PORT
from headrace_operator.observed import Failure, Phase, Worker

_ROLES: Final[dict[str, Role]] = {"prefill": "prefill", "decode": "decode", "unified": "unified"}
LABEL_POD: Final = "statefulset.kubernetes.io/pod-name"
"""On pods of StatefulSets: such a worker spans several pods."""
_PULL: Final = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
_LINES: Final = 5
_USAGE: Final = 2
"""Exit status of a worker whose settings or model can never work."""


def worker_of(pod: PodItem) -> Worker | None:
    """Return the worker in a pod, read once; None where the pod is no worker's."""
    if "worker" not in pod.__dict__:
        pod.__dict__["worker"] = _read(pod)
    worker: Worker | None = pod.__dict__["worker"]
    return worker


def _read(pod: PodItem) -> Worker | None:
    labels = pod.metadata.labels
    role = _ROLES.get(labels.get(LABEL_ROLE, ""))
    if role is None or LABEL_REVISION not in labels:
        return None
    return Worker(
        WorkerName(pod.metadata.name),
        DeploymentName(labels.get(LABEL_DEPLOYMENT, "")),
        role,
        phase_of(pod),
        incarnation_of(pod),
        url_of(pod),
        failure=failure_of(pod),
        revision=labels[LABEL_REVISION],
        pairing=labels.get(LABEL_PAIRING, ""),
    )


def phase_of(pod: PodItem) -> Phase:
    """Return where the worker is in its life."""
    if has_ended(pod):
        return Phase.DEAD
    if pod.metadata.deletion_timestamp is not None:
        return Phase.DRAINING
    container = _container(pod)
    waiting = container.state.waiting if container is not None else None
    if waiting is not None and waiting.reason == "CrashLoopBackOff":
        return Phase.BACKOFF
    return Phase.READY if _holds(pod, "ContainersReady") else Phase.STARTING


def has_ended(pod: PodItem) -> bool:
    """Return whether all processes of the pod have ended and none will be started: the kubelet's own word.

    A phase alone proves nothing: other controllers set it for pods of nodes that they cannot reach.
    """
    statuses = pod.status.container_statuses
    final = pod.metadata.deletion_timestamp is not None or pod.status.phase in {"Failed", "Succeeded"}
    return final and bool(statuses) and all(status.state.terminated is not None for status in statuses)


def incarnation_of(pod: PodItem) -> str:
    """Return what tells this start of the worker from all others."""
    container = _container(pod)
    return f"{pod.metadata.uid}/{container.restart_count if container is not None else 0}"


def url_of(pod: PodItem) -> str | None:
    """Return where the worker listens; None while the pod has no address."""
    if not pod.status.pod_ip:
        return None
    ports = (port for container in pod.spec.containers for port in container.ports)
    port = next((port.container_port for port in ports if port.name == "http"), HTTP_PORT)
    host = f"[{pod.status.pod_ip}]" if ":" in pod.status.pod_ip else pod.status.pod_ip
    return f"http://{host}:{port}"


def gate_of(pod: PodItem) -> StatusCondition | None:
    """Return the condition by which the operator opens the pod to traffic."""
    return _condition(pod, CONDITION_KV_TRANSFER)


def is_ready(pod: PodItem) -> bool:
    """Return whether everybody takes the pod for ready: its containers and its gate."""
    return _holds(pod, "Ready") and pod.metadata.deletion_timestamp is None


def failure_of(pod: PodItem) -> Failure | None:
    """Return what keeps the worker from running, with what to do; None where it only takes its time."""
    unscheduled = _condition(pod, "PodScheduled")
    if unscheduled is not None and unscheduled.status == "False":
        return Failure(1, f"no node takes the pod: {unscheduled.message}")
    container = _container(pod)
    if container is None or container.ready:
        return None
    waiting, last = container.state.waiting, container.state.terminated or container.last_state.terminated
    if waiting is not None and waiting.reason in _PULL:
        return Failure(1, f"the image cannot be pulled ({waiting.reason}): {waiting.message}")
    if waiting is not None and waiting.reason in {"CreateContainerConfigError", "CreateContainerError"}:
        return Failure(1, f"the container cannot be made: {waiting.message}")
    if last is None:
        return None
    lines = tuple(line for line in last.message.strip().splitlines() if line)[-_LINES:]
    reason = lines[-1] if lines else last.reason or "no last words"
    times = max(1, container.restart_count)
    text = f"its process ended {times} times, the last time with status {last.exit_code}: {reason}"
    return Failure(times, text, permanent=last.exit_code == _USAGE, lines=lines)


def _container(pod: PodItem) -> ContainerStatus | None:
    """Return the container that computes; a user's template may bring others."""
    statuses = pod.status.container_statuses
    return next((status for status in statuses if status.name == "worker"), statuses[0] if statuses else None)


def _condition(pod: PodItem, kind: str) -> StatusCondition | None:
    return next((condition for condition in pod.status.conditions if condition.type == kind), None)


def _holds(pod: PodItem, kind: str) -> bool:
    condition = _condition(pod, kind)
    return condition is not None and condition.status == "True"
