"""Revisions and pairings."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from headrace_api.resources import LLMDeployment
from headrace_operator.desired import Pool
from headrace_operator.objects import Site, stamped
from headrace_operator.objects.pod import pod_template
from headrace_operator.objects.settings import settings
from headrace_operator.plan import pools_of

Make = Callable[..., LLMDeployment]
SITE = Site(worker_image="worker:1", router_image="router:1")
anyhow = run_with(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEMPLATE = {"spec": {"priorityClassName": "high"}}
WORKERS: list[dict[str, Any]] = [
    {},
    {"threads": 2},
    {"nodeSelector": {"zone": "a"}},
    {"resources": {"limits": {"memory": "8Gi"}}},
    {"template": TEMPLATE},
]

specs = st.fixed_dictionaries(
    {
        "model": st.sampled_from([{}, {"dtype": "float32"}, {"cache": {"accessMode": "ReadWriteMany"}}]),
        "kv": st.sampled_from([{}, {"blockSize": 32}, {"rdma": {"resource": "rdma/hca"}}, {"transfer": "auto"}]),
        "engine": st.sampled_from([{}, {"maxRunning": 8}]),
        "prefill": st.sampled_from([*WORKERS, {"replicas": 2}]),
        "decode": st.sampled_from([*WORKERS, {"replicas": 3}]),
        "rollout": st.sampled_from([{}, {"maxSurge": 2}, {"paused": True}, {"drainTimeout": "5m"}]),
        "router": st.sampled_from([{}, {"enabled": False}]),
        "template": st.sampled_from([{}, TEMPLATE]),
    }
)


def built(spec: dict[str, Any], site: Site = SITE) -> list[Pool]:
    deployment = made(spec)
    return [stamped(deployment, pool, site) for pool in pools_of(deployment)]


def made(spec: dict[str, Any]) -> LLMDeployment:
    model = {"uri": "hf://a/b", **spec.get("model", {})}
    return LLMDeployment.model_validate({"metadata": {"name": "chat"}, "spec": {**spec, "model": model}})


def seen(spec: dict[str, Any], role: str) -> object:
    """What a worker of this spec would run with, leaving the names of its revision aside."""
    deployment = made(spec)
    pool = next(pool for pool in pools_of(deployment) if pool.role == role)
    return pod_template(deployment, pool, SITE), settings(deployment, pool, SITE)


@anyhow
@given(specs, specs, st.sampled_from(["prefill", "decode"]))
def test_the_revision_changes_when_and_only_when_the_pod_would(
    first: dict[str, Any], second: dict[str, Any], role: str
) -> None:
    revisions = [next(pool.revision for pool in built(spec) if pool.role == role) for spec in (first, second)]
    assert (revisions[0] == revisions[1]) == (seen(first, role) == seen(second, role))


@pytest.mark.parametrize(
    "spec",
    [
        {"prefill": {"replicas": 2}, "decode": {"replicas": 3}},
        {"rollout": {"maxSurge": "50%", "paused": True}},
        {"router": {"replicas": 2}},
        {"template": {"metadata": {"labels": {}}}},
    ],
)
def test_what_no_pod_sees_changes_no_revision(spec: dict[str, Any]) -> None:
    assert [pool.revision for pool in built(spec)] == [pool.revision for pool in built({})]


@pytest.mark.parametrize(
    ("spec", "roles"),
    [
        ({"model": {"dtype": "float32"}}, {"prefill", "decode"}),
        ({"template": TEMPLATE}, {"prefill", "decode"}),
        ({"rollout": {"drainTimeout": "5m"}}, {"prefill", "decode"}),
        ({"prefill": {"threads": 2}}, {"prefill"}),
        ({"decode": {"nodeSelector": {"zone": "a"}}}, {"decode"}),
    ],
)
def test_only_the_roles_that_differ_get_a_new_revision(spec: dict[str, Any], roles: set[str]) -> None:
    before, after = built({}), built(spec)
    changed = {now.role for then, now in zip(before, after, strict=True) if then.revision != now.revision}
    assert changed == roles


def test_a_new_image_of_the_operator_is_a_new_revision_that_pairs_with_its_own() -> None:
    upgraded = replace(SITE, worker_image="worker:2")
    before, after = built({}), built({}, upgraded)
    assert all(a.revision != b.revision for a, b in zip(before, after, strict=True))
    assert {pool.pairing for pool in before}.isdisjoint(pool.pairing for pool in after)
    assert [pool.revision for pool in built({}, replace(SITE, router_image="router:2"))] == [
        pool.revision for pool in built({})
    ]


@anyhow
@given(specs)
def test_both_roles_of_one_spec_have_one_pairing(spec: dict[str, Any]) -> None:
    assert len({pool.pairing for pool in built(spec)}) == 1


@pytest.mark.parametrize(
    ("spec", "pairs"),
    [
        ({"engine": {"maxRunning": 8}}, True),
        ({"decode": {"threads": 2}}, True),
        ({"model": {"dtype": "float32"}}, False),
        ({"model": {"uri": "hf://a/c"}}, False),
        ({"kv": {"blockSize": 32}}, False),
        ({"accelerator": "nvidia"}, False),
    ],
)
def test_workers_pair_with_those_that_lay_out_kv_alike(spec: dict[str, Any], *, pairs: bool) -> None:
    assert (built({})[0].pairing == built(spec)[0].pairing) == pairs


def test_a_stamp_does_not_depend_on_an_earlier_one(make: Make) -> None:
    deployment = make()
    for pool in pools_of(deployment):
        once = stamped(deployment, pool, SITE)
        assert stamped(deployment, replace(once, replicas=7), SITE) == replace(once, replicas=7)


def test_a_revision_is_the_same_in_every_run() -> None:
    """Changes here roll every deployment at the operator's next start; they must be meant."""
    assert len({pool.revision for pool in built({})}) == 2
    assert all(len(pool.revision) == 8 and int(pool.revision, 16) >= 0 for pool in built({}))
