"""What a deployment says of its scaling, and which pods are marked to go first."""

from typing import Any

import pytest

from headrace_api.names import LABEL_REVISION, LABEL_ROLE
from headrace_api.resources.scaling import ScalingSpec
from headrace_operator.actions import Action, EnsurePool, RemovePool, ScalePool
from headrace_operator.desired import DeploymentName, Pool, PoolKey, Template
from headrace_operator.kubernetes.objects import Metadata, PodItem
from headrace_operator.kubernetes.scaling.lowering import COST, changes, lowered
from headrace_operator.kubernetes.scaling.told import told
from headrace_operator.observed import ObservedPool

CHAT = DeploymentName("chat")


@pytest.mark.parametrize(
    ("spec", "keda", "reason", "text"),
    [
        ({}, False, "Operator", "KEDA is not in this cluster: the operator scales by itself"),
        ({}, True, "Keda", "KEDA scales by the numbers that the operator wants"),
        ({"trigger": "metrics-api"}, True, "Keda", "KEDA scales by the load that the operator reads"),
        (
            {"trigger": "prometheus", "prometheus": {"address": "http://p:9090"}},
            True,
            "Keda",
            "KEDA scales by what Prometheus at http://p:9090 says",
        ),
    ],
)
def test_it_says_who_scales(spec: dict[str, Any], keda: bool, reason: str, text: str) -> None:  # noqa: FBT001
    condition = told(ScalingSpec.model_validate(spec), keda=keda, silent=(), sleepless=False)
    assert (condition.type, condition.holds, condition.reason, condition.message) == (
        "ScalingActive",
        True,
        reason,
        text,
    )


def test_workers_that_say_nothing_are_named_and_the_rest_is_a_number() -> None:
    condition = told(ScalingSpec(), keda=False, silent=["a", "b", "c", "d", "e"], sleepless=False)
    assert (condition.holds, condition.reason) == (False, "MetricsMissing")
    assert condition.message.startswith("a, b, c and 2 more do not say what they have to do, so that no number sinks")


def test_what_prometheus_reads_is_not_missed_here() -> None:
    spec = ScalingSpec.model_validate({"trigger": "prometheus", "prometheus": {"address": "http://p"}})
    assert told(spec, keda=True, silent=["a"], sleepless=False).holds
    assert not told(spec, keda=False, silent=["a"], sleepless=False).holds


def test_paused_and_what_cannot_be_woken_are_told() -> None:
    assert told(ScalingSpec(paused=True), keda=True, silent=["a"], sleepless=True).reason == "Paused"
    condition = told(ScalingSpec(), keda=True, silent=(), sleepless=True)
    assert condition.holds
    assert "no router would wake a pool without workers" in condition.message


def key(revision: str) -> PoolKey:
    return PoolKey(CHAT, "decode", revision)


def test_only_pools_that_shrink_and_keep_somebody_have_a_choice() -> None:
    pools = [ObservedPool(key(revision), 4) for revision in ("old", "new", "same", "gone", "ends")]
    actions: list[Action] = [
        ScalePool(key("old"), 2),
        EnsurePool(Pool(CHAT, "decode", 3, Template("m"), "new")),
        ScalePool(key("same"), 4),
        ScalePool(key("ends"), 0),
        RemovePool(key("gone")),
        EnsurePool(Pool(CHAT, "decode", 3, Template("m"), "first")),
    ]
    assert lowered(actions, pools) == {key("old"): 2, key("new"): 3}


def pod(name: str, cost: str | None = None) -> PodItem:
    annotations = {} if cost is None else {COST: cost}
    labels = {LABEL_ROLE: "decode", LABEL_REVISION: "new"}
    return PodItem(Metadata(name=name, namespace="team", labels=labels, annotations=annotations))


def test_marks_are_written_once_and_taken_back_from_who_stays() -> None:
    pods = [pod("goes"), pod("goes-too", "-1"), pod("stays", "-1"), pod("unmarked"), pod("of-a-user", "100")]
    assert changes(pods, {"goes", "goes-too"}) == {"goes": "-1", "stays": None}
    assert changes(pods, {"of-a-user"})["of-a-user"] == "-1"
