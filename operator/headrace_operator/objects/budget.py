"""PodDisruptionBudgets: how many pods a drain of nodes may take at once."""

from headrace_api.names import LABEL_COMPONENT, LABEL_NAME
from headrace_operator.desired import Role
from headrace_operator.objects import labels, names
from headrace_operator.objects.owner import Manifest, Owner


def role_budget(owner: Owner, role: Role, *, nodes: int = 1) -> Manifest:
    """Return the budget of a role, over all its revisions.

    Where a worker spans pods, each of them counts: the worker goes with any one.
    """
    selector: Manifest = {"matchLabels": labels.select_role(owner, role)}
    if nodes > 1:
        parts = {"key": LABEL_COMPONENT, "operator": "In", "values": [role, labels.members_of(role)]}
        selector = {"matchLabels": {LABEL_NAME: labels.WORKER, **owner.label}, "matchExpressions": [parts]}
    return _budget(owner, names.pool(owner.name, role), labels.of_role(owner, role), selector)


def router_budget(owner: Owner) -> Manifest:
    """Return the budget of the routers."""
    selector = {"matchLabels": labels.select_application(owner, labels.ROUTER)}
    return _budget(owner, names.router(owner.name), labels.common(owner, labels.ROUTER, "router"), selector)


def _budget(owner: Owner, name: str, own_labels: dict[str, str], selector: Manifest) -> Manifest:
    """Return a budget of one pod at a time; one that is not ready serves nobody and never holds up a node's drain."""
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": selector,
    }
    return owner.manifest("PodDisruptionBudget", "policy/v1", name, own_labels, spec=spec)
