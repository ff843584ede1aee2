"""ServiceAccounts of worker and router pods."""

from headrace_operator.objects import labels, names
from headrace_operator.objects.owner import Manifest, Owner


def worker_account(owner: Owner) -> Manifest:
    """Return the account of worker pods: it has no rights, and no token is mounted."""
    return _account(owner, names.worker_account(owner.name), labels.common(owner, labels.WORKER))


def router_account(owner: Owner) -> Manifest:
    """Return the account of router pods; they ask for its token themselves, other pods that name it get none."""
    return _account(owner, names.router(owner.name), labels.common(owner, labels.ROUTER, "router"))


def _account(owner: Owner, name: str, own_labels: dict[str, str]) -> Manifest:
    return owner.manifest("ServiceAccount", "v1", name, own_labels, automountServiceAccountToken=False)
