"""All objects of a resource together."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace_api.names import (
    LABEL_DEPLOYMENT,
    LABEL_INSTANCE,
    LABEL_MANAGED_BY,
    LABEL_PAIRING,
    LABEL_REVISION,
    LABEL_ROLE,
)
from headrace_api.resources import LLMDeployment
from headrace_operator.objects import Child, Lane, Site, deployment_children, stamped
from headrace_operator.plan import pools_of

Make = Callable[..., LLMDeployment]
Children = Callable[[LLMDeployment], tuple[Child, ...]]


def pods(children: tuple[Child, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield name of the maker and labels of each kind of pod."""
    for child in children:
        if child.kind in {"Deployment", "Job"}:
            yield child.name, child.manifest["spec"]["template"]["metadata"]["labels"]


def selected(children: tuple[Child, ...], selector: dict[str, str]) -> set[str]:
    return {name for name, labels in pods(children) if selector.items() <= labels.items()}


def find(children: tuple[Child, ...], kind: str, name: str) -> dict[str, Any]:
    return next(one.manifest for one in children if (one.kind, one.name) == (kind, name))


def test_a_deployment_of_ten_lines_has_all_of_its_objects(make: Make, children: Children) -> None:
    made = children(make())
    prefill, decode = (child.name for child in made if child.kind == "ConfigMap")
    fetch = next(child.name for child in made if child.kind == "Job")
    assert [(child.kind, child.name) for child in made if child.lane is Lane.FIRST] == [
        ("ServiceAccount", "chat-worker"),
        ("ServiceAccount", "chat-router"),
        ("Secret", "chat-handoff"),
        ("PersistentVolumeClaim", "chat-models"),
        ("Job", fetch),
        ("ConfigMap", prefill),
        ("ConfigMap", decode),
        ("Deployment", prefill),
        ("Deployment", decode),
        ("Deployment", "chat-router"),
        ("Role", "chat-router"),
    ]
    assert {(child.kind, child.name) for child in made if child.lane is Lane.LATER} == {
        ("LLMPool", "chat-prefill"),
        ("LLMPool", "chat-decode"),
        ("PodDisruptionBudget", "chat-prefill"),
        ("PodDisruptionBudget", "chat-decode"),
        ("PodDisruptionBudget", "chat-router"),
        ("Service", "chat-workers"),
        ("Service", "chat"),
        ("NetworkPolicy", "chat-workers"),
        ("RoleBinding", "chat-router"),
    }
    assert {child.kind for child in made if child.once} == {"Secret", "Job"}


def test_unified_workers_have_one_pool(make: Make, children: Children) -> None:
    made = children(make(disaggregation="never"))
    assert [child.name for child in made if child.kind == "LLMPool"] == ["chat-unified"]


def test_every_object_is_plain_json_and_belongs_to_its_resource(make: Make, children: Children) -> None:
    for child in children(make()):
        metadata = json.loads(json.dumps(child.manifest))["metadata"]
        assert metadata["namespace"] == "serving"
        assert metadata["ownerReferences"] == [
            {
                "apiVersion": "serving.headrace.dev/v1alpha1",
                "kind": "LLMDeployment",
                "name": "chat",
                "uid": "11111111-2222-3333-4444-555555555555",
                "controller": True,
            }
        ]
        assert metadata["labels"][LABEL_MANAGED_BY] == "headrace"
        assert metadata["labels"][LABEL_INSTANCE] == metadata["labels"][LABEL_DEPLOYMENT] == "chat"


def test_an_object_of_no_cluster_names_no_owner(site: Site) -> None:
    deployment = LLMDeployment.model_validate({"metadata": {"name": "chat"}, "spec": {"model": {"uri": "hf://a/b"}}})
    pools = [stamped(deployment, pool, site) for pool in pools_of(deployment)]
    made = deployment_children(deployment, pools, site, secret="s")
    assert not any("ownerReferences" in child.manifest["metadata"] for child in made)


def test_the_same_resource_gives_the_same_objects(make: Make, children: Children) -> None:
    assert [child.manifest for child in children(make())] == [child.manifest for child in children(make())]


@pytest.mark.parametrize("disaggregation", ["auto", "never"])
def test_every_selector_finds_its_own_pods_and_no_others(make: Make, children: Children, disaggregation: str) -> None:
    older = children(make(disaggregation=disaggregation, engine={"maxRunning": 8}))
    others = children(make(name="other"))
    own = children(make(disaggregation=disaggregation))
    made = (*older, *others, *own)
    workers = {child.name for child in (*older, *own) if child.kind == "Deployment" and child.name != "chat-router"}
    for child in own:
        spec = child.manifest.get("spec", {})
        match child.kind:
            case "Deployment":
                assert selected(made, spec["selector"]["matchLabels"]) == {child.name}
            case "PodDisruptionBudget":
                expected = {name for name in workers | {"chat-router"} if name.startswith(child.name)}
                assert selected(made, spec["selector"]["matchLabels"]) == expected
            case "NetworkPolicy":
                assert selected(made, spec["podSelector"]["matchLabels"]) == workers
            case "Service":
                expected = workers if child.name == "chat-workers" else {"chat-router"}
                assert selected(made, spec["selector"]) == expected


def test_only_workers_can_be_found_by_a_role(make: Make, children: Children) -> None:
    made = children(make())
    with_role = {name for name, labels in pods(made) if LABEL_ROLE in labels}
    assert with_role == {child.name for child in made if child.kind == "Deployment"} - {"chat-router"}


def test_pods_say_their_revision_and_with_whom_they_pair(make: Make, children: Children) -> None:
    made = [labels for _, labels in pods(children(make())) if LABEL_ROLE in labels]
    assert len({labels[LABEL_PAIRING] for labels in made}) == 1
    assert len({labels[LABEL_REVISION] for labels in made}) == 2


def test_a_pool_leaves_its_number_to_whoever_scales_it(make: Make, children: Children) -> None:
    pool = find(children(make(decode={"replicas": 4})), "LLMPool", "chat-decode")
    assert pool["spec"] == {"deployment": "chat", "role": "decode"}


def test_the_number_of_a_revisions_workers_is_the_operators(make: Make, children: Children) -> None:
    made = children(make(prefill={"replicas": 2}, decode={"replicas": 4}))
    numbers = {
        child.manifest["metadata"]["labels"][LABEL_ROLE]: child.manifest["spec"]["replicas"]
        for child in made
        if child.kind == "Deployment" and child.name != "chat-router"
    }
    assert numbers == {"prefill": 2, "decode": 4}


def test_the_secret_is_given_from_outside_and_never_changes(make: Make, children: Children) -> None:
    secret = find(children(make()), "Secret", "chat-handoff")
    assert base64.b64decode(secret["data"]["secret"]) == b"0" * 64
    assert secret["immutable"] is True


def test_workers_have_addresses_before_they_are_ready(make: Make, children: Children) -> None:
    spec = find(children(make()), "Service", "chat-workers")["spec"]
    assert (spec["clusterIP"], spec["publishNotReadyAddresses"]) == ("None", True)


def test_a_drain_of_nodes_takes_one_worker_at_a_time(make: Make, children: Children) -> None:
    spec = find(children(make()), "PodDisruptionBudget", "chat-decode")["spec"]
    assert spec["maxUnavailable"] == 1
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_workers_take_connections_from_routers_peers_and_the_operator_only(make: Make, site: Site) -> None:
    deployment = make()
    where = Site(site.worker_image, site.router_image, operator_namespace="ops", operator_labels={"app": "op"})
    pools = [stamped(deployment, pool, where) for pool in pools_of(deployment)]
    policy = find(deployment_children(deployment, pools, where, secret="s"), "NetworkPolicy", "chat-workers")["spec"]
    peers, clients = policy["ingress"]
    assert "ports" not in peers
    assert peers["from"] == [{"podSelector": policy["podSelector"]}]
    assert clients["ports"] == [{"protocol": "TCP", "port": "http"}]
    assert clients["from"] == [
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "headrace-router"}}},
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ops"}},
            "podSelector": {"matchLabels": {"app": "op"}},
        },
    ]
