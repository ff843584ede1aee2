"""A user's template over ours."""

from collections.abc import Callable
from typing import Any

import pytest

from headrace_api.names import CONDITION_KV_TRANSFER, LABEL_DEPLOYMENT, LABEL_NAME, LABEL_REVISION
from headrace_api.resources import LLMDeployment

Make = Callable[..., LLMDeployment]
Render = Callable[..., dict[str, Any]]


def test_the_role_has_the_last_word(make: Make, pod: Render) -> None:
    deployment = make(
        template={"spec": {"priorityClassName": "low", "schedulerName": "own"}},
        prefill={"template": {"spec": {"priorityClassName": "high"}}},
    )
    assert pod(deployment, "prefill")["spec"]["priorityClassName"] == "high"
    assert pod(deployment, "prefill")["spec"]["schedulerName"] == "own"
    assert pod(deployment, "decode")["spec"]["priorityClassName"] == "low"


def test_unified_workers_listen_to_decode(make: Make, pod: Render) -> None:
    deployment = make(disaggregation="never", decode={"template": {"spec": {"priorityClassName": "high"}}})
    assert pod(deployment, "unified")["spec"]["priorityClassName"] == "high"


def test_a_sidecar_joins_and_the_worker_is_changed_in_place(make: Make, pod: Render) -> None:
    containers = [{"name": "worker", "image": "own"}, {"name": "proxy", "image": "proxy"}]
    rendered = pod(make(template={"spec": {"containers": containers}}))["spec"]["containers"]
    assert [one["name"] for one in rendered] == ["worker", "proxy"]
    assert rendered[0]["image"] == "own"
    assert rendered[0]["command"] == ["python3", "-m", "headrace_worker"]


def test_labels_are_added_and_ours_stay(make: Make, pod: Render) -> None:
    theirs = {"team": "search", LABEL_DEPLOYMENT: "other", LABEL_REVISION: "other", LABEL_NAME: "other"}
    rendered = pod(make(template={"metadata": {"labels": theirs}}))["metadata"]["labels"]
    assert rendered["team"] == "search"
    assert rendered == {**pod(make())["metadata"]["labels"], "team": "search", LABEL_REVISION: rendered[LABEL_REVISION]}
    assert "other" not in rendered.values()


def test_annotations_are_kept(make: Make, pod: Render) -> None:
    template = {"metadata": {"annotations": {"prometheus.io/scrape": "true"}}}
    assert pod(make(template=template))["metadata"]["annotations"] == {"prometheus.io/scrape": "true"}


@pytest.mark.parametrize("gates", [[], [{"conditionType": "example.com/own"}], None])
def test_no_template_takes_our_readiness_gate_away(make: Make, pod: Render, gates: Any) -> None:
    rendered = pod(make(template={"spec": {"readinessGates": gates}}))["spec"]["readinessGates"]
    assert rendered == [*(gates or []), {"conditionType": CONDITION_KV_TRANSFER}]


def test_what_is_no_pod_at_all_is_left_for_the_api_server_to_refuse(make: Make, pod: Render) -> None:
    spec = {"readinessGates": 5, "volumes": "none", "containers": [], "sepc": {}}
    rendered = pod(make(template={"spec": spec}))["spec"]
    assert rendered["readinessGates"] == 5
    assert rendered["volumes"] == "none"
    assert rendered["sepc"] == {}
    assert [one["name"] for one in rendered["containers"]] == ["worker"]
