"""PodDisruptionBudgets: how many pods a drain of nodes may take at once."""

from headrace_operator.desired import Role
from headrace_operator.objects import labels, names
from headrace_operator.objects.owner import Manifest, Owner


def role_budget(owner: Owner, role: Role) -> Manifest:
    """Return the budget of a role, over all its revisions."""
    return _budget(owner, names.pool(owner.name, role), labels.of_role(owner, role), labels.select_role(owner, role))


def router_budget(owner: Owner) -> Manifest:
    """Return the budget of the routers."""
    selector = labels.select_application(owner, labels.ROUTER)
    return _budget(owner, names.router(owner.name), labels.common(owner, labels.ROUTER, "router"), selector)


def _budget(owner: Owner, name: str, own_labels: dict[str, str], selector: dict[str, str]) -> Manifest:
    """Return a budget of one pod at a time; one that is not ready serves nobody and never holds up a node's drain."""
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": selector},
    }
    return owner.manifest("PodDisruptionBudget", "policy/v1", name, own_labels, spec=spec)
