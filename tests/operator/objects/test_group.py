"""Workers that span pods: a StatefulSet of heads, and one of all other pods."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.operator.objects.conftest import Make, stamped_pools

from headrace_api.names import (
    ANNOTATION_MEMBERS,
    CONDITION_KV_TRANSFER,
    LABEL_COMPONENT,
    LABEL_PAIRING,
    LABEL_REVISION,
    LABEL_ROLE,
)
from headrace_api.resources import LLMDeployment
from headrace_operator.objects import Child, Site
from headrace_operator.objects.group import heads as heads_of
from headrace_operator.objects.group import members as members_of

Children = Callable[[LLMDeployment], tuple[Child, ...]]
SPANNING = {"tensor": 4, "nodes": 2}


@pytest.fixture
def sets(make: Make, children: Children) -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    """The heads and the members of the decode workers."""

    def found(**spec: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        deployment = make(**{"parallelism": SPANNING, **spec})
        made = [child.manifest for child in children(deployment) if child.kind == "StatefulSet"]
        heads, members = (one for one in made if one["metadata"]["name"].startswith("chat-decode"))
        return heads, members

    return found


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]["containers"][0]
    return found


def labels(manifest: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = manifest["spec"]["template"]["metadata"]["labels"]
    return found


def test_workers_of_one_pod_stay_deployments(make: Make, children: Children) -> None:
    made = children(make(parallelism={"tensor": 2}))
    assert {child.kind for child in made} & {"StatefulSet", "Deployment"} == {"Deployment"}


def test_each_worker_has_one_head_and_the_members_that_it_needs(make: Make, children: Children) -> None:
    made = children(make(parallelism={"tensor": 6, "nodes": 3}, decode={"replicas": 2}))
    numbers = {child.name: child.manifest["spec"]["replicas"] for child in made if child.kind == "StatefulSet"}
    prefill, decode = (child.name for child in made if child.kind == "ConfigMap")
    assert numbers == {prefill: 1, f"{prefill}-members": 2, decode: 2, f"{decode}-members": 4}
    assert [child.name for child in made if child.kind == "Deployment"] == ["chat-router"]


def test_all_pods_start_at_once_and_find_each_other_by_the_headless_service(sets: Callable[..., Any]) -> None:
    for one in sets():
        assert one["spec"]["podManagementPolicy"] == "Parallel"
        assert one["spec"]["serviceName"] == "chat-workers"


def test_only_heads_are_workers_to_routers_and_take_part_in_trials(sets: Callable[..., Any]) -> None:
    heads, members = sets()
    assert labels(heads)[LABEL_ROLE] == labels(heads)[LABEL_COMPONENT] == "decode"
    assert LABEL_ROLE not in labels(members)
    assert labels(members)[LABEL_COMPONENT] == "decode-members"
    for name in (LABEL_REVISION, LABEL_PAIRING):
        assert labels(members)[name] == labels(heads)[name]
    gate = {"conditionType": CONDITION_KV_TRANSFER}
    assert heads["spec"]["template"]["spec"]["readinessGates"] == [gate]
    assert "readinessGates" not in members["spec"]["template"]["spec"]
    assert not {"ports", "startupProbe", "readinessProbe", "livenessProbe"} & container(members).keys()


def test_selectors_of_heads_and_members_never_meet(sets: Callable[..., Any]) -> None:
    heads, members = sets()
    for own, other in ((heads, members), (members, heads)):
        selector = own["spec"]["selector"]["matchLabels"]
        assert selector.items() <= labels(own).items()
        assert not selector.items() <= labels(other).items()


def test_a_member_joins_its_own_head(sets: Callable[..., Any]) -> None:
    heads, members = sets()
    assert members["metadata"]["annotations"] == {ANNOTATION_MEMBERS: "1"}
    own = container(members)
    assert own["command"] == ["python3", "-m", "headrace_worker.parallel.node"]
    given = dict(zip(own["args"][::2], own["args"][1::2], strict=True))
    assert given == {
        "--join": f"{heads['metadata']['name']}-{{group}}.chat-workers.serving.svc",
        "--pod": "$(POD_NAME)",
        "--members": "1",
        "--address": "$(POD_IP)",
        "--ranks": "2",
    }


def test_members_are_as_restricted_as_workers_and_know_the_secret(sets: Callable[..., Any]) -> None:
    heads, members = sets()
    for name in ("securityContext", "env", "volumeMounts", "resources", "image"):
        assert container(members)[name] == container(heads)[name]
    for name in ("securityContext", "serviceAccountName", "terminationGracePeriodSeconds", "volumes"):
        assert members["spec"]["template"]["spec"][name] == heads["spec"]["template"]["spec"][name]


def test_a_users_template_is_laid_over_members_too(sets: Callable[..., Any]) -> None:
    template = {
        "metadata": {"labels": {"team": "search"}},
        "spec": {"priorityClassName": "serving", "containers": [{"name": "side", "image": "example/side:1"}]},
    }
    _, members = sets(template=template)
    assert labels(members)["team"] == "search"
    assert members["spec"]["template"]["spec"]["priorityClassName"] == "serving"
    assert {"name": "side", "image": "example/side:1"} in members["spec"]["template"]["spec"]["containers"]


def test_each_pod_gets_its_share_of_the_gpus(make: Make, gpu_site: Site) -> None:

    deployment = make(parallelism=SPANNING)
    pool = stamped_pools(deployment, gpu_site)[1]
    for build in (heads_of, members_of):
        assert container(build(deployment, pool, gpu_site))["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_a_drain_of_nodes_takes_one_pod_of_a_role_at_a_time(make: Make, children: Children) -> None:
    made = children(make(parallelism=SPANNING))
    budget = next(one.manifest for one in made if (one.kind, one.name) == ("PodDisruptionBudget", "chat-decode"))
    selector = budget["spec"]["selector"]
    assert selector["matchExpressions"] == [
        {"key": LABEL_COMPONENT, "operator": "In", "values": ["decode", "decode-members"]}
    ]
    for child in made:
        if child.kind == "StatefulSet" and child.name.startswith("chat-decode"):
            assert selector["matchLabels"].items() <= labels(child.manifest).items()


def test_the_settings_say_how_many_ranks_and_nodes_there_are(make: Make, children: Children) -> None:
    made = children(make(parallelism=SPANNING))
    for child in made:
        if child.kind == "ConfigMap":
            assert '"nodes": 2' in child.manifest["data"]["settings.json"]
            assert '"tensor_parallel": 4' in child.manifest["data"]["settings.json"]


def test_names_leave_room_for_what_the_controller_adds(make: Make, children: Children) -> None:
    made = children(make(name="x" * 50, parallelism=SPANNING))
    names = [child.name for child in made if child.kind == "StatefulSet"]
    assert len(set(names)) == 4
    assert all(len(name) <= 52 for name in names)
