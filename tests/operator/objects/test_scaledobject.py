"""ScaledObjects, one for each LLMPool."""

from typing import Any

import pytest
from tests.operator.objects.conftest import make_deployment, stamped_pools

from headrace_operator.objects import Site, deployment_children
from headrace_operator.objects.scaledobject import ceilings, scaled_objects, terms

SITE = Site("worker", "router", keda=True, nvidia=True)


def built(site: Site = SITE, **spec: Any) -> dict[str, Any]:
    """Return the ScaledObjects of a deployment by role."""
    found = scaled_objects(make_deployment(**{"scaling": {}, **spec}), site)
    return {manifest["spec"]["scaleTargetRef"]["name"].removeprefix("chat-"): manifest for manifest in found}


def test_each_pool_has_one_that_scales_it_through_its_scale_subresource() -> None:
    found = built()
    assert found.keys() == {"prefill", "decode"}
    assert found["decode"]["metadata"]["name"] == "chat-decode"
    spec = found["decode"]["spec"]
    assert spec["scaleTargetRef"] == {
        "apiVersion": "serving.headrace.dev/v1alpha1",
        "kind": "LLMPool",
        "name": "chat-decode",
    }
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 8)
    assert spec["triggers"] == [
        {
            "type": "external-push",
            "metadata": {"scalerAddress": SITE.scaler_address, "pool": "chat-decode"},
        }
    ]


def test_unified_workers_have_one() -> None:
    assert built(disaggregation="never").keys() == {"unified"}


def test_they_are_made_where_keda_is_and_somebody_asks() -> None:
    def kinds(site: Site, **spec: Any) -> set[str]:
        deployment = make_deployment(**spec)
        return {
            child.kind for child in deployment_children(deployment, stamped_pools(deployment, site), site, secret="s")
        }

    assert "ScaledObject" in kinds(SITE, scaling={})
    assert "ScaledObject" not in kinds(SITE)
    assert "ScaledObject" not in kinds(Site("worker", "router"), scaling={})


def test_what_the_policy_says_is_done_at_once() -> None:
    spec = built()["decode"]["spec"]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert {rule["stabilizationWindowSeconds"] for rule in behavior.values()} == {0}
    assert spec["cooldownPeriod"] == 0


def test_raw_signals_are_left_to_the_windows_of_the_autoscaler() -> None:
    scaling = {
        "trigger": "metrics-api",
        "idleAfter": "90s",
        "up": {"stabilization": "5s", "change": 3, "every": "20s"},
        "down": {"change": "10%"},
    }
    spec = built(scaling=scaling)["prefill"]["spec"]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior == {
        "scaleUp": {
            "stabilizationWindowSeconds": 5,
            "policies": [{"type": "Pods", "value": 3, "periodSeconds": 20}],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 300,
            "policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}],
        },
    }
    assert spec["cooldownPeriod"] == 90
    assert [(one["metadata"]["valueLocation"], one["metadata"]["targetValue"]) for one in spec["triggers"]] == [
        ("requestsWaiting", "4"),
        ("promptTokensWaiting", "16384"),
        ("workersBusy", "0.8"),
    ]
    assert spec["triggers"][0]["metadata"]["url"] == f"{SITE.scaler_url}/scaling/serving/chat-prefill"


def test_prometheus_is_asked_for_the_load_of_one_pool() -> None:
    address = "http://prometheus.monitoring.svc:9090"
    scaling = {"trigger": "prometheus", "prometheus": {"address": address}, "targets": {"kvUtilization": 70}}
    triggers = {one["name"]: one["metadata"] for one in built(scaling=scaling)["decode"]["spec"]["triggers"]}
    assert triggers.keys() == {"requestsWaiting", "requestsRunning", "kvUsed"}
    assert {one["serverAddress"] for one in triggers.values()} == {address}
    assert {one["ignoreNullValues"] for one in triggers.values()} == {"false"}
    assert triggers["kvUsed"]["threshold"] == "0.7"
    assert triggers["requestsRunning"]["threshold"] == "48"
    pods = 'namespace="serving",serving_headrace_dev_deployment="chat",serving_headrace_dev_role="decode"'
    assert all(pods in one["query"] for one in triggers.values())


def test_paused_is_told_to_keda() -> None:
    assert built(scaling={"paused": True})["decode"]["metadata"]["annotations"] == {
        "autoscaling.keda.sh/paused": "true"
    }
    assert "annotations" not in built()["decode"]["metadata"]


@pytest.mark.parametrize(
    ("scaling", "tops"),
    [
        ({"maxGPUs": 6}, {"prefill": 5, "decode": 5}),
        ({"maxGPUs": 6, "prefill": {"minReplicas": 2}}, {"prefill": 5, "decode": 4}),
        ({"maxGPUs": 8, "ratio": "1:3"}, {"prefill": 2, "decode": 6}),
        ({"ratio": "1:2", "decode": {"maxReplicas": 6}}, {"prefill": 3, "decode": 6}),
        ({}, {"prefill": 8, "decode": 8}),
    ],
)
def test_the_budget_is_a_bound_of_each_pool(scaling: dict[str, Any], tops: dict[str, int]) -> None:
    found = built(scaling=scaling)
    assert {role: one["spec"]["maxReplicaCount"] for role, one in found.items()} == tops


def test_gpus_are_counted_by_what_workers_take() -> None:
    limits = {"resources": {"limits": {"nvidia.com/gpu": 4}}}
    asked = terms(make_deployment(scaling={"maxGPUs": 16}, decode=limits), SITE)
    assert {role: bounds.gpus for role, bounds in asked.pools.items()} == {"prefill": 1, "decode": 4}
    assert ceilings(asked) == {"prefill": 8, "decode": 3}
    cpu = terms(make_deployment(scaling={"maxGPUs": 1}), Site("worker", "router"))
    assert ceilings(cpu) == {"prefill": 8, "decode": 8}


def test_running_requests_follow_the_engine_where_nobody_says_them() -> None:
    assert terms(make_deployment(scaling={}, engine={"maxRunning": 32}), SITE).running == 24
