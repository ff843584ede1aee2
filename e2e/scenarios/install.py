"""Installs the operator into a cluster for a test: by the packed chart, as a person would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from e2e.cluster.errors import CommandError, StartError
from e2e.cluster.security import NAMESPACE_LABELS
from e2e.scenarios.helm import Release
from e2e.scenarios.space import DEPLOYMENT, Space, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from e2e.cluster.kubectl import Kubectl
    from e2e.scenarios.helm import Helm
    from e2e.scenarios.space import Object

NAMESPACE: Final = "headrace-system"
NAME: Final = "headrace-operator"
RESOURCES: Final = (DEPLOYMENT, "llmpools.serving.headrace.dev", "llmrouters.serving.headrace.dev")

_READY_TIMEOUT_S: Final = 120.0


def install_operator(
    kubectl: Kubectl, helm: Helm, chart: Path, *, namespace: str = NAMESPACE, watched: str | None = None
) -> Space:
    """Install a release with one operator, and wait until it is ready.

    Args:
        kubectl: With the rights of an administrator.
        helm: With the same rights.
        chart: The packed chart.
        namespace: Where the operator runs.
        watched: The one namespace that it serves; None: all of them.

    Raises:
        StartError: It did not become ready; the message tells what the namespace looked like.
    """
    kubectl.apply([namespace_object(namespace)])
    space = Space(kubectl, namespace)
    try:
        Release(helm, namespace).install(chart, values(watched))
    except CommandError as error:
        raise StartError(f"{error}\n{space.report()}") from error
    return space


def values(watched: str | None = None, **more: object) -> Object:
    """Return the values of a release of images that were loaded into the node.

    A release for one namespace leaves the custom resources to an administrator, as the chart's manual has it.
    """
    own: Object = {"global": {"imageRegistry": "localhost"}, "operator": {"replicas": 1}, **more}
    return own if watched is None else {**own, "watchNamespaces": [watched], "crds": {"create": False}}


def remove_operator(helm: Helm, space: Space) -> None:
    """Take away what `install_operator` made, but for the custom resources, which a release leaves."""
    Release(helm, space.name).uninstall()
    space.kubectl("delete", "namespace", space.name, "--ignore-not-found", "--timeout=120s", timeout_s=130)


def remove_resources(kubectl: Kubectl) -> None:
    """Take away the custom resources' definitions, and with them everything of their kinds."""
    kubectl("delete", "crd", *RESOURCES, "--ignore-not-found", "--timeout=120s", timeout_s=130)


def wait_operator(space: Space) -> None:
    """Wait until every wanted operator is ready and no other is left."""
    status = ("rollout", "status", f"deployment/{NAME}", f"--timeout={_READY_TIMEOUT_S:.0f}s")
    space.run(*status, timeout_s=_READY_TIMEOUT_S + 10)


def scale_operator(space: Space, replicas: int) -> None:
    """Run another number of operators, and wait until it is so."""
    space.run("scale", "deployment", NAME, f"--replicas={replicas}")
    wait_operator(space)
    what = f"There are not {replicas} operators"
    wait_for(lambda: len(space.listed("pods", f"app.kubernetes.io/name={NAME}")) == replicas, _READY_TIMEOUT_S, what)


def leader(space: Space) -> str:
    """Return the identity that holds the operators' Lease, empty where none does."""
    leases = space.listed("leases.coordination.k8s.io")
    return next(
        (lease["spec"].get("holderIdentity") or "" for lease in leases if NAME in lease["metadata"]["name"]), ""
    )


def wait_leader(space: Space, other_than: str, timeout_s: float) -> str:
    """Wait until an operator leads that is not `other_than`; return its identity."""

    def found() -> str | None:
        name = leader(space)
        return name if name and name != other_than else None

    return wait_for(found, timeout_s, "No other operator took the lead")


def namespace_object(name: str) -> Object:
    """Return a namespace whose pods must keep to the restricted profile."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(NAMESPACE_LABELS)}}
