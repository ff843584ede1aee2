"""What a real API server says to the objects."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from e2e.cluster.errors import CommandError
from e2e.cluster.kubectl import Kubectl

from headrace_api.resources import LLMDeployment, LLMRouter, Resource, load_manifests
from headrace_operator import rbac
from headrace_operator.objects import Site, deployment_children, router_children, stamped
from headrace_operator.plan import pools_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from e2e.cluster.api import ApiCluster

    from headrace_operator.objects import Child

    Make = Callable[..., LLMDeployment]

T = TypeVar("T", bound=Resource)

pytestmark = pytest.mark.processes

EXAMPLES = Path(__file__).parents[3] / "examples"
RESTRICTED = "objects-restricted"
OPEN = "objects-open"
OPERATORS = "objects-operator"
UID = "11111111-2222-3333-4444-555555555555"
DRY = ("--dry-run=server", "--validate=strict", "-f", "-")
LOCKING = {"rdma": {"resource": "rdma/hca", "lockMemory": True}}


@pytest.fixture(scope="module")
def kubectl(api_cluster: ApiCluster) -> Iterator[Kubectl]:
    """A cluster with a namespace of the restricted profile, one of none, and one where operators run."""
    kubectl = Kubectl(api_cluster.kubectl, api_cluster.kubeconfig)
    for name in (RESTRICTED, OPEN, OPERATORS):
        kubectl("create", "namespace", name)
    kubectl("label", "namespace", RESTRICTED, "pod-security.kubernetes.io/enforce=restricted")
    yield kubectl
    kubectl("delete", "namespace", RESTRICTED, OPEN, OPERATORS, "--wait=false")


def examples() -> list[LLMDeployment | LLMRouter]:
    found = [one for path in sorted(EXAMPLES.glob("*.yaml")) for one in load_manifests(path)]
    return [one for one in found if isinstance(one, LLMDeployment | LLMRouter)]


def placed(resource: T, namespace: str = RESTRICTED) -> T:
    """Return the resource as the API server would have it."""
    metadata = resource.metadata.model_copy(update={"namespace": namespace, "uid": UID})
    return resource.model_copy(update={"metadata": metadata})


def children(resource: LLMDeployment | LLMRouter, site: Site) -> tuple[Child, ...]:
    if isinstance(resource, LLMRouter):
        return router_children(resource, site)
    pools = [stamped(resource, pool, site) for pool in pools_of(resource)]
    return deployment_children(resource, pools, site, secret="0" * 64)


def text(manifests: Iterable[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})


def apply(kubectl: Kubectl, made: Sequence[Child], *flags: str) -> list[str]:
    """Send objects as the operator does, for nothing; return what the server answered."""
    changed = text(child.manifest for child in made if not child.once)
    once = text(child.manifest for child in made if child.once)
    answer = kubectl("apply", "--server-side", "--field-manager=headrace", *flags, *DRY, stdin=changed)
    if any(child.once for child in made):
        answer += kubectl("create", *flags, *DRY, stdin=once)
    return answer.splitlines()


def pods(made: Iterable[Child]) -> Iterator[dict[str, Any]]:
    """Yield a pod for each template: Pod Security judges pods, and only warns of templates."""
    for number, child in enumerate(made):
        if child.kind in {"Deployment", "Job", "StatefulSet"}:
            template = child.manifest["spec"]["template"]
            metadata = {
                **template["metadata"],
                "name": f"pod-{number}",
                "namespace": child.manifest["metadata"]["namespace"],
            }
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def keep(kubectl: Kubectl, made: Iterable[Child], kind: str, *flags: str) -> None:
    """Make the objects of one kind for real; without their owner, which is nowhere, so that they stay."""
    bare = [
        {**child.manifest, "metadata": {**child.manifest["metadata"], "ownerReferences": []}}
        for child in made
        if child.kind == kind
    ]
    kubectl("apply", "--server-side", *flags, "-f", "-", stdin=text(bare))


def admit(kubectl: Kubectl, made: Sequence[Child]) -> list[str]:
    """Have the pods of these objects judged; their accounts must be there, and are made."""
    keep(kubectl, made, "ServiceAccount")
    return kubectl("create", *DRY, stdin=text(pods(made))).splitlines()


@pytest.mark.parametrize("nvidia", [False, True])
def test_every_object_of_every_example_is_accepted(kubectl: Kubectl, site: Site, *, nvidia: bool) -> None:
    where = replace(site, nvidia=nvidia, image_pull_secrets=("pull",))
    made = [child for resource in examples() for child in children(placed(resource), where)]

    answers = apply(kubectl, made)

    assert len(answers) == len(made)
    assert {child.kind for child in made} == {
        *("ConfigMap", "Deployment", "Job", "LLMPool", "NetworkPolicy", "PersistentVolumeClaim"),
        *("PodDisruptionBudget", "Role", "RoleBinding", "Secret", "Service", "ServiceAccount", "StatefulSet"),
    }


@pytest.mark.parametrize("nvidia", [False, True])
def test_the_restricted_profile_admits_the_pods_of_every_example(kubectl: Kubectl, site: Site, *, nvidia: bool) -> None:
    made = [
        child
        for resource in examples()
        if isinstance(resource, LLMRouter) or not (resource.spec.kv.rdma and resource.spec.kv.rdma.lock_memory)
        for child in children(placed(resource), replace(site, nvidia=nvidia))
    ]

    assert len(admit(kubectl, made)) == len(list(pods(made)))


def test_locked_memory_needs_a_namespace_of_another_profile(kubectl: Kubectl, make: Make, site: Site) -> None:
    deployment = make(kv=LOCKING)

    with pytest.raises(CommandError, match='violates PodSecurity "restricted:latest": unrestricted capabilities'):
        admit(kubectl, children(placed(deployment), site))

    assert admit(kubectl, children(placed(deployment, OPEN), site))


def test_a_template_that_is_no_pod_is_refused_with_the_name_of_the_field(
    kubectl: Kubectl, make: Make, site: Site
) -> None:
    made = children(placed(make(template={"spec": {"priorityClasName": "high"}})), site)
    with pytest.raises(CommandError, match="priorityClasName"):
        apply(kubectl, made)


@pytest.mark.parametrize("nodes", [1, 2])
def test_names_at_their_longest_are_accepted(kubectl: Kubectl, make: Make, site: Site, nodes: int) -> None:
    made = children(placed(make(name="a" * 63, parallelism={"tensor": 2, "nodes": nodes})), site)
    assert len(apply(kubectl, made)) == len(made)
    assert admit(kubectl, made)


@pytest.mark.parametrize("namespaced", [False, True])
def test_the_operators_rights_are_enough_to_make_them(
    kubectl: Kubectl, make: Make, site: Site, *, namespaced: bool
) -> None:
    account = f"operator-{namespaced}".lower()
    roles = rbac.manifests(namespaced=namespaced, namespace=OPERATORS, account=account, watched=OPEN)
    kubectl("apply", "--server-side", "--validate=strict", "-f", "-", stdin=text(roles))
    made = children(placed(make(), OPEN), site)
    operator = f"--as=system:serviceaccount:{OPERATORS}:{account}"

    keep(kubectl, made, "Role", operator)  # a binding is checked against the role that is there
    answers = apply(kubectl, made, operator)

    assert len(answers) == len(made)
    with pytest.raises(CommandError, match="cannot get resource"):
        kubectl("get", "secret", "any", "-n", OPEN, operator)
    if namespaced:
        with pytest.raises(CommandError, match="forbidden"):
            apply(kubectl, children(placed(make(), RESTRICTED), site), operator)
