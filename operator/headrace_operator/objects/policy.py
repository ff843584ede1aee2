"""The NetworkPolicy of worker pods: who may connect to them."""

from headrace_api.names import LABEL_NAME
from headrace_operator.objects import labels, names
from headrace_operator.objects.owner import Manifest, Owner
from headrace_operator.objects.site import Site


def workers_policy(owner: Owner, site: Site) -> Manifest:
    """Return the policy: routers and the operator reach the HTTP port, workers of the same deployment every port.

    Hand-offs use ports that UCX picks. Any router of the namespace may come, since an LLMRouter serves deployments of
    others too. What else may come, a metrics scraper for one, is for a policy of the user's: policies add up.
    """
    http = [{"protocol": "TCP", "port": "http"}]
    workers = labels.select_application(owner, labels.WORKER)
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": site.operator_namespace}},
        "podSelector": {"matchLabels": dict(site.operator_labels)},
    }
    spec = {
        "podSelector": {"matchLabels": workers},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [{"podSelector": {"matchLabels": workers}}]},
            {"from": [{"podSelector": {"matchLabels": {LABEL_NAME: labels.ROUTER}}}, operator], "ports": http},
        ],
    }
    own_labels = labels.common(owner, labels.WORKER)
    return owner.manifest("NetworkPolicy", "networking.k8s.io/v1", names.workers(owner.name), own_labels, spec=spec)
