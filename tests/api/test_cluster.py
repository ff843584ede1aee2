"""What kubectl and autoscalers do with our kinds on a real API server."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
from e2e.cluster.api import ApiCluster
from e2e.cluster.errors import CommandError
from e2e.cluster.kubectl import Kubectl
from tests.api.manifests import Case

from headrace_api.names import API_VERSION, GROUP

pytestmark = pytest.mark.processes
NAMESPACE: Final = "resources"
CONDITION: Final = {
    "type": "Ready",
    "status": "True",
    "reason": "HandoffVerified",
    "lastTransitionTime": "2026-01-31T12:00:00Z",
}
STATUS: Final = {
    "mode": "disaggregated",
    "prefill": {"replicas": 2, "ready": 1, "summary": "1/2"},
    "decode": {"replicas": 3, "ready": 3, "summary": "3/3"},
    "endpoint": "http://shown.resources.svc",
    "conditions": [CONDITION],
}


@pytest.fixture(scope="module")
def kubectl(api_cluster: ApiCluster) -> Iterator[Kubectl]:
    kubectl = Kubectl(api_cluster.kubectl, api_cluster.kubeconfig)
    kubectl("create", "namespace", NAMESPACE)
    yield kubectl
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def create(kubectl: Kubectl, kind: str, name: str, **spec: Any) -> None:
    manifest = Case("", {"metadata.name": name, "metadata.namespace": NAMESPACE}, kind=kind).manifest
    manifest["spec"] |= spec
    kubectl.apply([manifest])


def get(kubectl: Kubectl, what: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", what, name, "-n", NAMESPACE, "-o", "json"))
    return found


def patch(kubectl: Kubectl, what: str, name: str, change: dict[str, Any], *more: str) -> None:
    kubectl("patch", what, name, "-n", NAMESPACE, "--type=merge", "-p", json.dumps(change), *more)


def identity(name: str) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "LLMDeployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
    }


def rows(text: str) -> list[dict[str, str]]:
    """Return a table of kubectl's as one mapping a row; columns start where their heads do."""
    head, *lines = text.splitlines()
    starts = [place for place, char in enumerate(head) if char != " " and (place == 0 or head[place - 1] == " ")]
    ends = [*starts[1:], None]
    spans = [slice(start, end) for start, end in zip(starts, ends, strict=True)]
    return [{head[span].strip(): line[span].strip() for span in spans} for line in lines]


def test_a_pool_is_scaled_through_its_subresource(kubectl: Kubectl) -> None:
    create(kubectl, "LLMPool", "scaled")

    kubectl("scale", "llmpool", "scaled", "-n", NAMESPACE, "--replicas=3")

    assert get(kubectl, "llmpool", "scaled")["spec"]["replicas"] == 3


def test_an_autoscaler_reads_number_and_selector_of_a_pool(kubectl: Kubectl) -> None:
    create(kubectl, "LLMPool", "read", replicas=2)
    patch(kubectl, "llmpool", "read", {"status": {"replicas": 1, "selector": "a=b"}}, "--subresource=status")

    scale = json.loads(kubectl("get", "--raw", f"/apis/{API_VERSION}/namespaces/{NAMESPACE}/llmpools/read/scale"))

    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 1, "selector": "a=b"})


def test_a_pool_cannot_be_scaled_below_nothing(kubectl: Kubectl) -> None:
    create(kubectl, "LLMPool", "bounded")
    with pytest.raises(CommandError, match=r"spec\.replicas"):
        patch(kubectl, "llmpool", "bounded", {"spec": {"replicas": -1}}, "--subresource=scale")


@pytest.mark.parametrize(("field", "value"), [("deployment", "other"), ("role", "prefill")])
def test_a_pool_keeps_its_deployment_and_role(kubectl: Kubectl, field: str, value: str) -> None:
    create(kubectl, "LLMPool", "kept")
    with pytest.raises(CommandError, match=f"spec.{field}.*{field} cannot be changed"):
        patch(kubectl, "llmpool", "kept", {"spec": {field: value}})


def test_deployments_show_their_state_in_one_line(kubectl: Kubectl) -> None:
    create(kubectl, "LLMDeployment", "shown")
    patch(kubectl, "llm", "shown", {"status": STATUS}, "--subresource=status")

    (row,) = rows(kubectl("get", "llm", "shown", "-n", NAMESPACE))
    (wide,) = rows(kubectl("get", "llm", "shown", "-n", NAMESPACE, "-o", "wide"))

    assert row.pop("AGE")
    assert row == {
        "NAME": "shown",
        "MODEL": "hf://org/name",
        "MODE": "disaggregated",
        "P": "1/2",
        "D": "3/3",
        "READY": "True",
        "ENDPOINT": "http://shown.resources.svc",
    }
    assert wide["REASON"] == "HandoffVerified"


def test_pools_and_routers_show_their_state_in_one_line(kubectl: Kubectl) -> None:
    create(kubectl, "LLMPool", "listed", replicas=4)
    create(kubectl, "LLMRouter", "listed")
    patch(kubectl, "llmpool", "listed", {"status": {"replicas": 3, "readyReplicas": 2}}, "--subresource=status")
    patch(kubectl, "llmrouter", "listed", {"status": {"endpoint": "http://x"}}, "--subresource=status")

    (pool,) = rows(kubectl("get", "llmpool", "listed", "-n", NAMESPACE))
    (router,) = rows(kubectl("get", "llmrouter", "listed", "-n", NAMESPACE))

    del pool["AGE"], router["AGE"]
    assert pool == {
        "NAME": "listed",
        "DEPLOYMENT": "chat",
        "ROLE": "decode",
        "DESIRED": "4",
        "CURRENT": "3",
        "READY": "2",
    }
    assert router == {"NAME": "listed", "REPLICAS": "1", "READY": "", "ENDPOINT": "http://x"}


def test_users_list_their_own_kinds_among_all_and_every_kind_by_category(kubectl: Kubectl) -> None:
    for kind in ("LLMDeployment", "LLMPool", "LLMRouter"):
        create(kubectl, kind, "sorted")

    everything = kubectl("get", "all", "-n", NAMESPACE, "-o", "name").split()
    ours = kubectl("get", "headrace", "-n", NAMESPACE, "-o", "name").split()

    own = {f"llmdeployment.{GROUP}/sorted", f"llmrouter.{GROUP}/sorted"}
    assert own <= set(everything)
    assert f"llmpool.{GROUP}/sorted" not in everything
    assert own | {f"llmpool.{GROUP}/sorted"} <= set(ours)


def test_the_status_is_written_through_its_subresource_only(kubectl: Kubectl) -> None:
    create(kubectl, "LLMDeployment", "split")
    patch(kubectl, "llm", "split", {"status": STATUS})
    assert "status" not in get(kubectl, "llm", "split")

    patch(kubectl, "llm", "split", {"status": STATUS, "spec": {"disaggregation": "never"}}, "--subresource=status")

    stored = get(kubectl, "llm", "split")
    assert stored["spec"]["disaggregation"] == "auto"
    assert stored["status"]["decode"] == STATUS["decode"]


@pytest.mark.parametrize(
    "condition",
    [
        {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-31T12:00:00Z"},
        CONDITION | {"status": "true"},
        CONDITION | {"lastTransitionTime": "today"},
    ],
)
def test_a_condition_that_says_too_little_is_refused(kubectl: Kubectl, condition: dict[str, str]) -> None:
    create(kubectl, "LLMDeployment", "strict")
    with pytest.raises(CommandError, match=r"status\.conditions"):
        patch(kubectl, "llm", "strict", {"status": {"conditions": [condition]}}, "--subresource=status")


def test_writers_of_different_conditions_leave_each_other_alone(kubectl: Kubectl) -> None:
    create(kubectl, "LLMDeployment", "shared")
    for manager, kind in (("one", "Planned"), ("two", "Ready")):
        status = {"conditions": [CONDITION | {"type": kind}]}
        text = json.dumps(identity("shared") | {"status": status})
        kubectl("apply", "--server-side", "--subresource=status", f"--field-manager={manager}", "-f", "-", stdin=text)

    stored = get(kubectl, "llm", "shared")["status"]["conditions"]

    assert [condition["type"] for condition in stored] == ["Planned", "Ready"]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("llm.spec.kv", "Tokens per KV block"),
        ("llm.spec.rollout.maxSurge", "a number, or a share rounded up"),
        ("llm.spec.model.cache", "Size of the volume"),
        ("llmpool.spec.replicas", "written through the `scale` subresource"),
        ("llmrouter.spec.tiers", "LLMDeployment that serves this tier"),
    ],
)
def test_the_manual_is_in_the_cluster(kubectl: Kubectl, field: str, expected: str) -> None:
    assert expected in " ".join(kubectl("explain", field).split())
