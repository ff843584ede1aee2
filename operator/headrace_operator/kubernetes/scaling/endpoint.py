"""Leads KEDA to the operator that leads: the endpoints of a Service that selects no pods.

A label on the leader's pod would take the right to change pods, and could lie for as long as its bearer is out of
reach. The leader writes the one EndpointSlice instead, whole; it goes with the leader's pod.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headrace_api.names import LABEL_MANAGED_BY, LABEL_PART_OF, MANAGER
from headrace_operator.kubernetes.kinds import SLICES
from headrace_operator.kubernetes.scaling.visits import Visits
from headrace_operator.kubernetes.session import Session, encode


@dataclass(frozen=True, slots=True)
class Offer:
    """How scaling reaches others and is reached; the docstring below a field is its manual."""

    service: str = "headrace-operator-scaler"
    """Name of the Service."""
    namespace: str = ""
    """Of the Service and of this pod."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    grpc_port: int = 0
    """Port of the external scaler; 0 takes a free one."""
    http_port: int = 0
    """Port on which this operator answers HTTP."""
    pod: str = ""
    """Name of this pod; empty outside of a cluster, where no EndpointSlice is written."""
    pod_uid: str = ""
    pod_ip: str = ""
    interval_s: float = 5.0
    """Between two rounds of scaling."""
    visits: Callable[[], Visits] = Visits
    """Makes what asks workers and routers for their load."""


def endpoint_slice(offer: Offer, grpc_port: int) -> dict[str, Any]:
    """Return the EndpointSlice that leads to this pod."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": offer.pod, "uid": offer.pod_uid}
    return {
        "apiVersion": SLICES.version,
        "kind": SLICES.name,
        "metadata": {
            "name": offer.service,
            "namespace": offer.namespace,
            "labels": {
                "kubernetes.io/service-name": offer.service,
                "endpointslice.kubernetes.io/managed-by": "serving.headrace.dev",
                LABEL_MANAGED_BY: MANAGER,
                LABEL_PART_OF: MANAGER,
            },
            "ownerReferences": [owner],
        },
        "addressType": "IPv6" if ":" in offer.pod_ip else "IPv4",
        "endpoints": [
            {
                "addresses": [offer.pod_ip],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "namespace": offer.namespace, "name": offer.pod, "uid": offer.pod_uid},
            }
        ],
        "ports": [
            {"name": "grpc", "port": grpc_port, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"},
            {"name": "http", "port": offer.http_port, "protocol": "TCP", "appProtocol": "http"},
        ],
    }


async def lead_here(session: Session, offer: Offer, grpc_port: int) -> None:
    """Write the EndpointSlice, where this is a pod."""
    if offer.pod and offer.pod_ip:
        body = encode(endpoint_slice(offer, grpc_port))
        await session.apply(SLICES, offer.namespace, offer.service, body, force=True)
