"""On which nodes the pods of an owner would rather be."""

from typing import Final

from headrace_api.names import LABEL_NAME
from headrace_api.resources.pods import Toleration
from headrace_operator.desired import Role
from headrace_operator.objects import labels
from headrace_operator.objects.owner import Manifest, Owner

_NODE: Final = "kubernetes.io/hostname"


def near_or_apart(owner: Owner, role: Role, *, one_node: bool) -> Manifest:
    """Return the placement of worker pods.

    Args:
        owner: the deployment.
        role: of the pods.
        one_node: their claim can be mounted on one node at a time; a pod on another node would wait for ever.
    """
    return together(owner) if one_node else apart(labels.select_role(owner, role))


def together(owner: Owner) -> Manifest:
    """Return the wish for the node where other pods that mount the same claim are.

    A wish, since a volume that is bound to its node already forces it, and a demand could not be met by the first pod
    of a deployment whose volume is full of others.
    """
    mounting = {"key": LABEL_NAME, "operator": "In", "values": [labels.WORKER, labels.MODELS]}
    term = {"topologyKey": _NODE, "labelSelector": {"matchLabels": owner.label, "matchExpressions": [mounting]}}
    wish = [{"weight": 100, "podAffinityTerm": term}]
    return {"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": wish}}}


def apart(selector: dict[str, str]) -> Manifest:
    """Return the wish that pods of `selector` spread over nodes, so that one node's end takes few of them."""
    constraint = {
        "maxSkew": 1,
        "topologyKey": _NODE,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector},
    }
    return {"topologySpreadConstraints": [constraint]}


def toleration(own: Toleration) -> Manifest:
    """Return a toleration as a pod has it."""
    return own.model_dump(by_alias=True, exclude_none=True)
