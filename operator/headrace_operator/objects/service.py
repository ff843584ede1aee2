"""Services: the workers' names in DNS, and the endpoint for clients."""

from headrace_operator.objects import labels, names
from headrace_operator.objects.owner import Manifest, Owner


def workers_service(owner: Owner) -> Manifest:
    """Return the headless Service of all workers of a deployment, those that are not ready too."""
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": labels.select_application(owner, labels.WORKER),
        "ports": [{"name": "http", "port": 8000, "targetPort": "http"}],
    }
    return owner.manifest("Service", "v1", names.workers(owner.name), labels.common(owner, labels.WORKER), spec=spec)


def endpoint_service(owner: Owner) -> Manifest:
    """Return the Service that clients speak to; it has the resource's own name."""
    spec = {
        "selector": labels.select_application(owner, labels.ROUTER),
        "ports": [{"name": "http", "port": 80, "targetPort": "http", "appProtocol": "http"}],
    }
    return owner.manifest("Service", "v1", owner.name, labels.common(owner, labels.ROUTER, "router"), spec=spec)
