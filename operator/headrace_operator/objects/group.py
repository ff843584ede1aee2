"""The StatefulSets of workers that span pods: one of the heads, one of all other pods.

Two, since only a head is a worker to everybody else: it alone has the role by which routers find workers, the readiness
gate, the port and the probes, and pods of one StatefulSet are all alike. Head N and the members from N * (nodes - 1) on
are one worker. When any of its pods ends, all its processes end, and each pod's container is started again.
"""

from typing import Any, Final

from headrace_api.names import ANNOTATION_MEMBERS
from headrace_api.resources import LLMDeployment
from headrace_operator.desired import Pool
from headrace_operator.objects import labels, names, placement
from headrace_operator.objects.owner import Manifest, Owner
from headrace_operator.objects.pod import pod_template
from headrace_operator.objects.site import Site
from headrace_operator.objects.weights import Weights

_WORKER: Final = "worker"
_OF_WORKERS: Final = frozenset({"ports", "startupProbe", "readinessProbe", "livenessProbe"})
"""What the container of a member lacks: nothing listens there that others ask."""


def heads(deployment: LLMDeployment, pool: Pool, site: Site) -> Manifest:
    """Return the StatefulSet of the heads of one revision: rank 0, Ray's head and the worker's HTTP."""
    owner = Owner.of(deployment)
    spec = _set(owner, pool.replicas, labels.select_pool(owner, pool), pod_template(deployment, pool, site))
    name = names.heads(owner.name, pool.role, pool.revision)
    return owner.manifest("StatefulSet", "apps/v1", name, labels.of_pool(owner, pool), spec=spec)


def members(deployment: LLMDeployment, pool: Pool, site: Site) -> Manifest:
    """Return the StatefulSet of the other pods of those workers: each joins its head, and ends when that has gone."""
    owner, each = Owner.of(deployment), pool.nodes - 1
    template = _member(deployment, pool, pod_template(deployment, pool, site))
    spec = _set(owner, pool.replicas * each, labels.select_members(owner, pool), template)
    name = names.members(owner.name, pool.role, pool.revision)
    manifest = owner.manifest("StatefulSet", "apps/v1", name, labels.of_members(owner, pool), spec=spec)
    manifest["metadata"]["annotations"] = {ANNOTATION_MEMBERS: str(each)}
    return manifest


def _set(owner: Owner, replicas: int, selector: dict[str, str], template: Manifest) -> Manifest:
    return {
        "replicas": replicas,
        "revisionHistoryLimit": 0,
        # all at once: the pods of a worker wait for each other
        "podManagementPolicy": "Parallel",
        "serviceName": names.workers(owner.name),
        "selector": {"matchLabels": selector},
        "template": template,
    }


def _member(deployment: LLMDeployment, pool: Pool, template: Manifest) -> Manifest:
    """Return the pod template of a worker as a member has it."""
    owner = Owner.of(deployment)
    theirs = template["metadata"].get("labels", {})
    own = {name: value for name, value in theirs.items() if name not in labels.of_pool(owner, pool)}
    spec = {name: value for name, value in template["spec"].items() if name != "readinessGates"}
    if not Weights.of(deployment).one_node and spec.get("topologySpreadConstraints") == _spread_of_heads(owner, pool):
        spec |= placement.apart(labels.select_members(owner, pool))
    spec["containers"] = [_container(owner, pool, container) for container in template["spec"]["containers"]]
    return {
        "metadata": {**template["metadata"], "labels": {**own, **labels.of_members(owner, pool)}},
        "spec": spec,
    }


def _spread_of_heads(owner: Owner, pool: Pool) -> Any:
    return placement.apart(labels.select_role(owner, pool.role))["topologySpreadConstraints"]


def _container(owner: Owner, pool: Pool, container: Manifest) -> Manifest:
    """Return a container as a member has it; those that a user's template brings stay as they are."""
    if container.get("name") != _WORKER:
        return container
    head = f"{names.heads(owner.name, pool.role, pool.revision)}-{{group}}"
    join = f"{head}.{names.workers(owner.name)}.{owner.namespace}.svc"
    return {
        **{name: value for name, value in container.items() if name not in _OF_WORKERS},
        "command": ["python3", "-m", "headrace_worker.parallel.node"],
        "args": [
            *("--join", join),
            *("--pod", "$(POD_NAME)"),
            *("--members", str(pool.nodes - 1)),
            *("--address", "$(POD_IP)"),
            *("--ranks", str(pool.template.tensor_parallel // pool.nodes)),
        ],
    }
