"""The router of a deployment or of an LLMRouter: rights to see its workers, and the Deployment."""

import math
from typing import Final

from headrace_api.resources.router import RouterSpec
from headrace_operator.objects import labels, names, placement, security
from headrace_operator.objects.books import Books, books
from headrace_operator.objects.images import image_fields, pull_secrets
from headrace_operator.objects.owner import Manifest, Owner
from headrace_operator.objects.site import Site

HTTP_PORT: Final = 8080
DRAIN_S: Final = 600.0
"""How long streams that run may take to finish; as long as an LLMDeployment gives its workers by default."""
VERBS: Final = ("get", "list", "watch")
"""What a router may do with pods; the operator can grant only what it may do itself."""
_LEAVE_S: Final = 5
"""Until every node has taken the pod out of its Service: connections that come meanwhile are still served."""
_EXIT_S: Final = 15


def router_role(owner: Owner) -> Manifest:
    """Return the right to see the pods of the namespace: workers are found by watching them."""
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": list(VERBS)}]
    return owner.manifest("Role", "rbac.authorization.k8s.io/v1", names.router(owner.name), _labels(owner), rules=rules)


def router_binding(owner: Owner) -> Manifest:
    """Return what gives the router's account that right."""
    name, group = names.router(owner.name), "rbac.authorization.k8s.io"
    return owner.manifest(
        "RoleBinding",
        f"{group}/v1",
        name,
        _labels(owner),
        roleRef={"apiGroup": group, "kind": "Role", "name": name},
        subjects=[{"kind": "ServiceAccount", "name": name, "namespace": owner.namespace}],
    )


def router_deployment(
    owner: Owner,
    deployments: tuple[str, ...],
    site: Site,
    *,
    replicas: int,
    drain_s: float = DRAIN_S,
    spec: RouterSpec | None = None,
) -> Manifest:
    """Return the Deployment of a router.

    Args:
        owner: the resource that asked for it.
        deployments: names of the LLMDeployments that it serves; none where all its tiers are endpoints.
        site: see there.
        replicas: number of routers.
        drain_s: how long running requests may take to finish once a router is to end.
        spec: of the LLMRouter, whose prices, keys, budgets and ledger it keeps.
    """
    kept = books(spec)
    selector = labels.select_application(owner, labels.ROUTER)
    pod = {
        "serviceAccountName": names.router(owner.name),
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "securityContext": security.pod_security(),
        "terminationGracePeriodSeconds": _LEAVE_S + math.ceil(drain_s) + _EXIT_S,
        **pull_secrets(site),
        **placement.apart(selector),
        "containers": [_container([*_arguments(owner, deployments, drain_s), *kept.arguments], site, kept)],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *kept.volumes],
    }
    template = {
        "replicas": replicas,
        "revisionHistoryLimit": 2,
        "strategy": _strategy(alone=kept.alone),
        "selector": {"matchLabels": selector},
        "template": {"metadata": {"labels": _labels(owner)}, "spec": pod},
    }
    return owner.manifest("Deployment", "apps/v1", names.router(owner.name), _labels(owner), spec=template)


def _strategy(*, alone: bool) -> Manifest:
    if alone:
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def _labels(owner: Owner) -> dict[str, str]:
    return labels.common(owner, labels.ROUTER, "router")


def _arguments(owner: Owner, deployments: tuple[str, ...], drain_s: float) -> list[str]:
    served = ",".join(f"{owner.namespace}/{name}" for name in sorted(set(deployments)))
    discovery = f"kubernetes:{served}" if served else "none"
    return [
        *("--host", "0.0.0.0"),  # noqa: S104  # the pod's own network
        *("--port", str(HTTP_PORT)),
        *("--discovery", discovery),
        *("--drain-deadline", f"{drain_s:g}"),
    ]


def _container(arguments: list[str], site: Site, kept: Books) -> Manifest:
    alive: Manifest = {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 5}
    return {
        "name": "router",
        **image_fields(site.router_image, site),
        "command": ["python3", "-m", "headrace_router"],
        "args": arguments,
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108  # a volume of the pod's own
        "ports": [{"name": "http", "containerPort": HTTP_PORT}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "securityContext": security.container_security(),
        "readinessProbe": {**alive, "periodSeconds": 1, "failureThreshold": 3},
        "livenessProbe": {**alive, "periodSeconds": 10, "failureThreshold": 6},
        "lifecycle": {"preStop": {"sleep": {"seconds": _LEAVE_S}}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *kept.mounts],  # noqa: S108  # likewise
    }
