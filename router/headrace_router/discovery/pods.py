"""Workers from pods (pure): which pods may be chosen, where they listen, and as whom.

Only what is needed is decoded; the rest of a pod, mostly the ledger of who wrote which field, is skipped unread.
"""

import logging
from typing import Any, get_args

import msgspec

from headrace_api.names import LABEL_DEPLOYMENT, LABEL_PAIRING, LABEL_ROLE
from headrace_router.discovery.worker import Role, Worker, worker_at

logger = logging.getLogger(__name__)

PORT = "http"
"""Name of the container port that a worker serves on."""
_ROLES = get_args(Role)


class Meta(msgspec.Struct, rename="camel"):
    """A pod's metadata."""

    name: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}


class _Port(msgspec.Struct, rename="camel"):
    container_port: int
    name: str = ""


class _Container(msgspec.Struct):
    name: str
    ports: list[_Port] = []


class _Spec(msgspec.Struct):
    containers: list[_Container] | None = None
    """None in the empty pod that a bookmark carries."""


class _Condition(msgspec.Struct):
    type: str
    status: str


class _ContainerStatus(msgspec.Struct, rename="camel"):
    name: str
    restart_count: int = 0


class _Status(msgspec.Struct, rename="camel"):
    pod_ip: str = msgspec.field(name="podIP", default="")
    conditions: list[_Condition] = []
    container_statuses: list[_ContainerStatus] = []


class Pod(msgspec.Struct):
    """A pod."""

    metadata: Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class ListMeta(msgspec.Struct, rename="camel"):
    """A list's metadata."""

    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class PodList(msgspec.Struct):
    """One page of a list of pods."""

    metadata: ListMeta
    items: list[Pod] = []


class Event(msgspec.Struct):
    """One line of a watch."""

    type: str
    """`ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` (only a newer version) or `ERROR`."""
    object: msgspec.Raw


class Failure(msgspec.Struct):
    """A `Status` object: why a request, or a watch, has failed."""

    code: int = 0
    message: str = ""


def worker_of(pod: Pod) -> Worker | None:
    """Return the worker in a pod; None while it must have no new requests.

    A pod that is being deleted is left at once: its worker may have been told to end already. Ready covers everything
    else, the operator's gate (a hand-off that was tried for real) included.
    """
    meta, status = pod.metadata, pod.status
    ready = any(condition.type == "Ready" and condition.status == "True" for condition in status.conditions)
    if meta.deletion_timestamp is not None or not ready or not status.pod_ip:
        return None
    found = _listening(pod.spec)
    role: Any = meta.labels.get(LABEL_ROLE)
    if found is None or role not in _ROLES:
        logger.warning("pod %s is left out: its role is %r, its port %s is %r", meta.name, role, PORT, found)
        return None
    container, port = found
    restarts = next((one.restart_count for one in status.container_statuses if one.name == container), 0)
    host = f"[{status.pod_ip}]" if ":" in status.pod_ip else status.pod_ip
    return worker_at(
        f"http://{host}:{port}",
        deployment=meta.labels.get(LABEL_DEPLOYMENT, ""),
        role=role,
        incarnation=f"{meta.uid}/{restarts}",
        name=meta.name,
        pairing=meta.labels.get(LABEL_PAIRING, ""),
    )


def _listening(spec: _Spec) -> tuple[str, int] | None:
    """Return the container that serves, and its port."""
    for container in spec.containers or ():
        for port in container.ports:
            if port.name == PORT:
                return container.name, port.container_port
    return None
