"""Installs the operator into a cluster for a test: manifests as a person would apply them."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml
from e2e.scenarios.security import CONTAINER, NAMESPACE_LABELS, POD
from e2e.scenarios.space import Space, wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2e.cluster.kubectl import Kubectl
    from e2e.images.build import Images
    from e2e.scenarios.space import Object

NAMESPACE: Final = "headrace-system"
NAME: Final = "headrace-operator"
CRDS: Final = Path(__file__).parents[2] / "crds"

_ESTABLISHED_TIMEOUT_S: Final = 60
_READY_TIMEOUT_S: Final = 120.0
_PORT: Final = 8080
_KEY_FOLDER: Final = "/etc/headrace/operator"


def install_resources(kubectl: Kubectl) -> None:
    """Apply the custom resources and wait until the API server knows them."""
    kubectl.define(CRDS.glob("*.yaml"), timeout_s=_ESTABLISHED_TIMEOUT_S)


def install_operator(
    kubectl: Kubectl, images: Images, *, namespace: str = NAMESPACE, watched: str | None = None
) -> Space:
    """Install the operator and wait until it is ready.

    Args:
        kubectl: With the rights of an administrator.
        images: What the operator and the pods that it makes run.
        namespace: Where the operator runs.
        watched: The one namespace that it serves; None: all of them.
    """
    space = Space(kubectl, namespace)
    kubectl.apply([namespace_object(namespace)])
    kubectl.apply([account(namespace), *roles(namespace, watched)])
    if space.find("secret", NAME) is None:
        space.run("create", "secret", "generic", NAME, f"--from-literal=key={secrets.token_hex(32)}")
    space.apply(deployment(images, namespace, watched, replicas=1))
    wait_operator(space)
    return space


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


def remove_operator(space: Space, watched: str | None = None) -> None:
    """Take away what `install_operator` made."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": roles(space.name, watched)})
    space.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=text)
    space.kubectl("delete", "namespace", space.name, "--ignore-not-found", "--timeout=120s", timeout_s=130)


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


def account(namespace: str) -> Object:
    """Return the operator's account."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": namespace}}


def roles(namespace: str, watched: str | None) -> list[Object]:
    """Return the roles and bindings that the operator's own generator prints."""
    flags = ["--namespace", namespace, "--account", NAME]
    flags += ["--namespaced", "--watch", watched] if watched is not None else []
    command = [sys.executable, "-m", "headrace_operator.rbac", *flags]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return [each for each in yaml.safe_load_all(done.stdout) if each is not None]


def deployment(images: Images, namespace: str, watched: str | None, *, replicas: int) -> Object:
    """Return the operator's Deployment."""
    labels = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "headrace"}
    probe = {"httpGet": {"path": "/healthz", "port": "http"}}
    container: Object = {
        "name": "operator",
        "image": images.operator,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "headrace_operator"],
        "args": arguments(images, watched),
        "ports": [{"name": "http", "containerPort": _PORT}],
        "readinessProbe": {**probe, "periodSeconds": 1},
        "livenessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 6},
        "resources": {"requests": {"cpu": "100m", "memory": "192Mi"}},
        "securityContext": CONTAINER,
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "key", "mountPath": _KEY_FOLDER, "readOnly": True},
        ],
    }
    pod: Object = {
        "serviceAccountName": NAME,
        "securityContext": POD,
        "terminationGracePeriodSeconds": 30,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "key", "secret": {"secretName": NAME}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app.kubernetes.io/name": NAME}},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def arguments(images: Images, watched: str | None) -> Sequence[str]:
    """Return the operator's flags."""
    flags = ["--worker-image", images.worker, "--router-image", images.router, "--key-file", f"{_KEY_FOLDER}/key"]
    return [*flags, *(["--namespaces", watched] if watched is not None else [])]
