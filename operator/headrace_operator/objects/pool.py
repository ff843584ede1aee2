"""LLMPools: the objects that autoscalers and `kubectl scale` turn to."""

from headrace_api.names import API_VERSION
from headrace_operator.desired import Role
from headrace_operator.objects import labels, names
from headrace_operator.objects.owner import Manifest, Owner


def llm_pool(owner: Owner, role: Role) -> Manifest:
    """Return the LLMPool of a role, without replicas: whoever scales the pool owns that field."""
    return owner.manifest(
        "LLMPool",
        API_VERSION,
        names.pool(owner.name, role),
        labels.of_role(owner, role),
        spec={"deployment": owner.name, "role": role},
    )
