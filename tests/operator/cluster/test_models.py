"""A cascade's model files in ConfigMaps: told where they are missing, looked at again, never in the way of requests."""

import asyncio
from typing import Any

import pytest
from e2e.cluster.api import ApiCluster
from e2e.cluster.kubectl import Kubectl
from tests.operator.cluster.loop import eventually, run
from tests.operator.cluster.rig import operating

from headrace_api.resources.cascade import ModelMap
from headrace_operator.kubernetes import front
from headrace_operator.kubernetes.kinds import LLM_ROUTERS
from headrace_operator.kubernetes.models import problem

PLACE = ModelMap(name="mine", key="gate.json")


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        ({"data": {"gate.json": '{"format": "headrace-cascade"}'}}, None),
        (None, "the gate's ConfigMap mine is not there; kubectl create configmap mine --from-file=gate.json=FILE"),
        ({}, "has no key gate.json"),
        ({"data": {"other.json": "{}"}}, "has no key gate.json"),
        ({"data": {"gate.json": "{"}}, "is no model file"),
        ({"data": {"gate.json": "[]"}}, "is no model file"),
        ({"data": {"gate.json": "{}"}}, "is no model file"),
    ],
)
def test_a_config_map_without_a_model_file_is_a_sentence(whole: dict[str, Any] | None, expected: str | None) -> None:
    found = problem("gate", PLACE, whole)
    assert (found is None) if expected is None else (found is not None and expected in found)


@pytest.mark.processes
def test_a_routers_condition_follows_its_config_map(
    api_cluster: ApiCluster, kubectl: Kubectl, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "EVERY_S", 0.5)
    tiers = [{"name": "small", "deployment": "chat"}, {"name": "large", "deployment": "chat"}]

    async def main() -> None:
        async with operating(str(api_cluster.kubeconfig), kubectl, namespace) as rig:
            await rig.apply(router={"enabled": False})
            cascade = {"gate": {"configMap": {"name": "mine"}}}
            await rig.apply("front", "LLMRouter", tiers=tiers, cascade=cascade)
            await rig.until("Ready", "True", "front", LLM_ROUTERS)
            told = await rig.until("CascadeReady", "False", "front", LLM_ROUTERS)
            assert "--from-file=gate.json=FILE" in told["message"]

            literal = '--from-literal=gate.json={"format": "headrace-cascade"}'
            await asyncio.to_thread(kubectl, "-n", namespace, "create", "configmap", "mine", literal)
            told = await rig.until("CascadeReady", "True", "front", LLM_ROUTERS)
            assert told["message"] == ""

            far = {"name": "far", "endpoint": {"url": "https://api.example.com/v1", "model": "m"}}
            await rig.apply("front", "LLMRouter", tiers=[far, *tiers], cascade=cascade)

            async def blind() -> bool:
                return "far tells no log-prob" in (await rig.condition("CascadeReady", "front", LLM_ROUTERS))["message"]

            await eventually(blind)

            await asyncio.to_thread(kubectl, "-n", namespace, "delete", "configmap", "mine")
            await rig.until("CascadeReady", "False", "front", LLM_ROUTERS)
            assert (await rig.condition("Ready", "front", LLM_ROUTERS))["status"] == "True"

            await rig.apply("front", "LLMRouter", tiers=tiers)

            async def forgotten() -> bool:
                return (await rig.condition("CascadeReady", "front", LLM_ROUTERS))["status"] is None

            await eventually(forgotten)

    run(main(), 120)
