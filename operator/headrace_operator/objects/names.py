"""Names of the objects made for a resource: one function each, so that a name is spelled in one place."""

from typing import Final

from headrace_operator.desired import Role
from headrace_operator.objects.digest import digest

MAX_NAME: Final = 63
"""A label's value and a Service's name end here; names of pods are made from these and are cut by the API server."""
MAX_SET: Final = 52
"""A StatefulSet's name ends here: its controller adds a dash and a hash of ten to make the value of a label."""
_HASH: Final = 8


def compose(*parts: str, most: int = MAX_NAME) -> str:
    """Return the parts joined by dashes; a name that is too long is cut and ends with a hash over all of it."""
    whole = "-".join(parts)
    if len(whole) <= most:
        return whole
    return f"{whole[: most - _HASH - 1].rstrip('-')}-{digest(whole)}"


def worker_account(name: str) -> str:
    """Return the name of the ServiceAccount of worker pods."""
    return compose(name, "worker")


def handoff_secret(name: str) -> str:
    """Return the name of the Secret that the workers of one deployment share."""
    return compose(name, "handoff")


def pool(name: str, role: Role) -> str:
    """Return the name of the LLMPool and the PodDisruptionBudget of a role."""
    return compose(name, role)


def revision(name: str, role: Role, revision: str) -> str:
    """Return the name of the Deployment and the ConfigMap of one revision of a role."""
    return compose(name, role, revision)


def heads(name: str, role: Role, revision: str) -> str:
    """Return the name of the StatefulSet of the heads of one revision, where workers span pods."""
    return compose(name, role, revision, most=MAX_SET)


def members(name: str, role: Role, revision: str) -> str:
    """Return the name of the StatefulSet of the other pods of those workers."""
    return compose(name, role, revision, "members", most=MAX_SET)


def workers(name: str) -> str:
    """Return the name of the headless Service and the NetworkPolicy of a deployment's workers."""
    return compose(name, "workers")


def models(name: str) -> str:
    """Return the name of the claim that keeps the weights."""
    return compose(name, "models")


def fetch(name: str, wanted: str) -> str:
    """Return the name of the Job that fills the claim; `wanted` is the hash over what it fetches."""
    return compose(name, "models", wanted)


def router(name: str) -> str:
    """Return the name of the router's account, role, Deployment and budget; its Service has the resource's own."""
    return compose(name, "router")
