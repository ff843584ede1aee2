"""From resources to pools."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from headrace_api.resources import load_manifests, parse_manifests
from headrace_api.resources.rollout import RolloutSpec
from headrace_operator.desired import Desired, Pace
from headrace_operator.errors import PlanError
from headrace_operator.plan import pace, plan, with_models
from headrace_worker.settings import WorkerSettings

EXAMPLES = Path(__file__).parents[2] / "examples"


def deployment(name: str = "chat", spec: str = "") -> str:
    return (
        f"apiVersion: serving.headrace.dev/v1alpha1\nkind: LLMDeployment\nmetadata: {{name: {name}}}\n"
        f"spec: {{model: {{uri: 'hf://a/b'}}{spec}}}\n"
    )


def router(name: str, *deployments: str) -> str:
    tiers = ", ".join(f"{{name: t{number}, deployment: {one}}}" for number, one in enumerate(deployments))
    return (
        f"apiVersion: serving.headrace.dev/v1alpha1\nkind: LLMRouter\nmetadata: {{name: {name}}}\n"
        f"spec: {{tiers: [{tiers}]}}\n"
    )


def planned(*documents: str, processors: int = 2, threads: int | None = None) -> Desired:
    return plan(parse_manifests("---\n".join(documents), "x.yaml"), processors=processors, threads=threads)


def shape(desired: Desired) -> Sequence[tuple[str, int, int]]:
    return [(pool.role, pool.replicas, pool.template.threads) for pool in desired.pools]


@pytest.mark.parametrize(
    ("spec", "processors", "expected"),
    [
        ("", 2, [("prefill", 1, 1), ("decode", 1, 1)]),
        ("", 16, [("prefill", 1, 8), ("decode", 1, 8)]),
        ("", 1, [("prefill", 1, 1), ("decode", 1, 1)]),
        (", disaggregation: always", 4, [("prefill", 1, 2), ("decode", 1, 2)]),
        (", disaggregation: never", 4, [("unified", 1, 4)]),
        (", disaggregation: never, decode: {replicas: 3}", 4, [("unified", 3, 1)]),
        (", prefill: {replicas: 0}", 4, [("decode", 1, 4)]),
        (", prefill: {replicas: 2, threads: 3}, decode: {replicas: 2}", 8, [("prefill", 2, 3), ("decode", 2, 2)]),
    ],
)
def test_what_is_left_open_is_filled_in(spec: str, processors: int, expected: Sequence[tuple[str, int, int]]) -> None:
    assert shape(planned(deployment(spec=spec), processors=processors)) == expected


@pytest.mark.parametrize(
    ("spec", "replicas", "expected"),
    [
        ({}, 4, Pace(1, 0)),
        ({"maxSurge": "25%", "maxUnavailable": "25%"}, 5, Pace(2, 1)),
        ({"maxSurge": 0, "maxUnavailable": "25%"}, 2, Pace(0, 1)),
        ({"paused": True}, 2, Pace(1, 0, paused=True)),
    ],
)
def test_shares_of_a_rollout_are_rounded_so_that_it_moves(spec: dict[str, Any], replicas: int, expected: Pace) -> None:
    assert pace(RolloutSpec.model_validate(spec), replicas) == expected


def test_the_command_line_has_the_last_word_on_threads() -> None:
    desired = planned(deployment(spec=", prefill: {threads: 3}"), threads=5)
    assert shape(desired) == [("prefill", 1, 5), ("decode", 1, 5)]


def test_two_deployments_share_the_processors() -> None:
    desired = planned(deployment("a"), deployment("b", ", disaggregation: never"), processors=9)
    assert [pool.template.threads for pool in desired.pools] == [3, 3, 3]
    assert desired.deployments == ("a", "b")


def test_every_field_reaches_the_worker_under_a_name_it_knows() -> None:
    spec = ", disaggregation: always, kv: {memory: 2Mi, blockSize: 8, transfer: sockets}, engine: {maxRunning: 3}"
    template = planned(deployment(spec=spec)).pools[0].template
    settings = WorkerSettings.model_validate(
        {field: getattr(template, field) for field in template.__slots__} | {"name": "chat"}
    )
    assert (settings.disaggregation, settings.kv_memory_bytes, settings.block_size) == ("always", 2 << 20, 8)
    assert (settings.transport, settings.max_running, settings.chunk_tokens) == ("sockets", 3, 512)


def test_one_router_serves_all_or_those_that_its_resource_names() -> None:
    every = planned(deployment("a"), deployment("b"))
    assert every.router is not None
    assert every.router.serves == {"a", "b"}
    limited = planned(deployment("a"), deployment("b"), router("front", "b"))
    assert limited.router is not None
    assert limited.router.serves == {"b"}


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ((router("front", "a"),), "hold no LLMDeployment"),
        ((deployment("a"), router("one", "a"), router("two", "a")), "LLMRouters one and two"),
        ((deployment("a"), router("front", "b")), "names deployment b, which is in none of the files; there are a"),
    ],
)
def test_resources_that_do_not_fit_together_are_refused(documents: tuple[str, ...], expected: str) -> None:
    with pytest.raises(PlanError, match=expected):
        planned(*documents)


def test_two_files_with_one_name_are_refused() -> None:
    resources = parse_manifests(deployment("a"), "x.yaml") + parse_manifests(deployment("a"), "y.yaml")
    with pytest.raises(PlanError, match="LLMDeployment a occurs twice"):
        plan(resources, processors=1)


def test_the_examples_make_plans() -> None:
    assert shape(plan(load_manifests(EXAMPLES / "smollm2.yaml"), processors=2)) == [("prefill", 1, 1), ("decode", 1, 1)]
    assert len(plan(load_manifests(EXAMPLES / "router-two-models.yaml"), processors=2).pools) == 3


def test_all_workers_load_the_files_that_were_downloaded() -> None:
    desired = with_models(planned(deployment()), {"hf://a/b": "file:///cache/b"})
    assert {pool.template.model for pool in desired.pools} == {"file:///cache/b"}


MONEY = "currency: EUR, auth: {keysFile: keys.yaml}, ledger: {file: ledger.db}"


def test_prices_keys_and_ledger_reach_the_local_router() -> None:
    front = router("front", "a").replace("spec: {", f"spec: {{{MONEY}, ")
    made = planned(deployment("a"), front).router
    assert made is not None
    assert made.books is not None
    assert '"currency":"EUR"' in made.books
    assert (made.keys_file, made.ledger_file) == ("keys.yaml", "ledger.db")
    plain = planned(deployment("a")).router
    assert plain is not None
    assert plain.books is None


FAR = "{name: far, endpoint: {url: 'https://api.example.com/v1', model: m, keyFile: far.key}}"


def test_tiers_of_others_need_no_deployment_and_their_keys_are_the_users_files() -> None:
    alone = router("front", "a").replace("tiers: [", f"tiers: [{FAR}, ")
    made = planned(deployment("a"), alone).router
    assert made is not None
    assert made.serves == {"a"}
    assert made.books is not None
    assert '"keyFile":"far.key"' in made.books
    nothing = planned(router("front").replace("tiers: [", f"tiers: [{FAR}"))
    assert nothing.pools == ()
    assert nothing.router is not None
    assert nothing.router.serves == frozenset()
    secret = alone.replace("keyFile: far.key", "keySecret: {name: far}")
    with pytest.raises(PlanError, match=r"tier far of LLMRouter front has its key in a Secret"):
        planned(deployment("a"), secret)


def test_the_files_of_the_cascade_reach_the_local_router() -> None:
    cascade = "cascade: {policy: predict-then-check, gate: {file: g.json}, predictor: {file: p.json}}"
    made = planned(deployment("a"), router("front", "a").replace("spec: {", f"spec: {{{cascade}, ")).router
    assert made is not None
    assert (made.gate_file, made.predictor_file) == ("g.json", "p.json")


def test_an_encoder_is_served_beside_the_tiers_and_must_be_there() -> None:
    cascade = "cascade: {policy: predict, predictor: {file: p.json}, encoder: minilm}"
    front = router("front", "a").replace("spec: {", f"spec: {{{cascade}, ")
    made = planned(deployment("a"), deployment("minilm"), front).router
    assert made is not None
    assert made.serves == {"a", "minilm"}
    with pytest.raises(PlanError, match=r"cascade.encoder of LLMRouter front names deployment minilm"):
        planned(deployment("a"), front)


@pytest.mark.parametrize(
    ("money", "said"),
    [
        ("auth: {keysSecret: k}", "needs auth.keysFile"),
        ("ledger: {claim: c}", "needs ledger.file"),
        ("cascade: {gate: {configMap: {name: g}}}", "needs cascade.gate.file"),
    ],
)
def test_what_lies_in_a_cluster_is_refused_locally(money: str, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        planned(deployment("a"), router("front", "a").replace("spec: {", f"spec: {{{money}, "))


def test_a_chat_template_reaches_the_workers_which_are_replaced_but_fit_the_old_ones() -> None:
    plain = planned(deployment()).pools[0]
    given = planned(deployment().replace("model: {", "model: {chatTemplate: 'x', ")).pools[0]
    assert (plain.template.chat_template, given.template.chat_template) == (None, "x")
    assert (plain.revision != given.revision, plain.pairing == given.pairing) == (True, True)


def test_offload_reaches_the_workers_and_leaves_all_others_as_they_were() -> None:
    text = ", kv: {offload: {memory: 1Gi, disk: 2Gi, path: /kv}}"
    plain, tiered = (planned(deployment(spec=spec)).pools[0] for spec in ("", text))
    template = tiered.template
    assert (template.offload_memory_bytes, template.offload_disk_bytes) == (1 << 30, 2 << 30)
    assert template.offload_path == "/kv"
    assert plain.template.offload_memory_bytes is None
    assert (plain.revision != tiered.revision, plain.pairing == tiered.pairing) == (True, True)
