"""What the builders are told about the cluster and the operator's own installation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Accelerator = Literal["cpu", "nvidia"]
PullPolicy = Literal["Always", "IfNotPresent", "Never"]


@dataclass(frozen=True, slots=True)
class Site:
    """The docstring below a field is its manual; the operator fills it from its settings and the nodes it sees."""

    worker_image: str
    """Image of worker pods and of the Job that fetches weights."""
    router_image: str
    """Image of router pods."""
    image_pull_policy: PullPolicy = "IfNotPresent"
    """For every container of ours."""
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets with the registry's credentials; they must be in the namespace of the resource."""
    operator_namespace: str = "headrace-system"
    """Where the operator runs: its pods may ask workers how they are."""
    operator_labels: Mapping[str, str] = field(default_factory=lambda: {"app.kubernetes.io/name": "headrace-operator"})
    """Labels of the operator's own pods."""
    nvidia: bool = False
    """Some node offers `nvidia.com/gpu`."""
    fetch_secret: str = "headrace-fetch"  # noqa: S105  # a name, no password
    """Secret in the namespace of the resource with what downloads need there: index address, proxy, authorities."""
    keda: bool = False
    """KEDA is there: it scales what asks to be scaled."""
    scaler_address: str = "headrace-operator-scaler.headrace-system.svc:9090"
    """Where KEDA reaches the leading operator by gRPC."""
    scaler_url: str = "http://headrace-operator-scaler.headrace-system.svc:8080"
    """Where KEDA reaches the leading operator by HTTP."""

    def accelerator(self, wanted: Literal["auto", "cpu", "nvidia"]) -> Accelerator:
        """Return what workers compute on: what the user wants, or GPUs where there are any."""
        if wanted == "auto":
            return "nvidia" if self.nvidia else "cpu"
        return wanted
