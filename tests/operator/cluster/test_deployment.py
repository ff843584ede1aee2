"""An LLMDeployment on a real API server: made, kept, changed, scaled and removed."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from e2e.cluster.api import ApiCluster
from e2e.cluster.kubectl import Kubectl
from tests.operator.cluster.loop import eventually, run
from tests.operator.cluster.rig import Rig, operating

from headrace_api.names import CONDITION_KV_TRANSFER
from headrace_operator.kubernetes.agenda import Lane
from headrace_operator.kubernetes.cache import Key
from headrace_operator.kubernetes.kinds import (
    BUDGETS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    LLM_DEPLOYMENTS,
    LLM_ROUTERS,
    PODS,
    POOLS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
)

pytestmark = pytest.mark.processes

Start = Callable[..., Any]


@pytest.fixture
def start(api_cluster: ApiCluster, kubectl: Kubectl, namespace: str) -> Start:
    def begin(**options: Any) -> Any:
        return operating(str(api_cluster.kubeconfig), kubectl, namespace, **options)

    return begin


def test_ten_lines_become_workers_a_router_and_an_endpoint(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply()
            await rig.until()

            status = await rig.status()
            revision = status["revision"]
            assert status["mode"] == "disaggregated"
            assert status["prefill"] == status["decode"] == {"replicas": 1, "ready": 1, "summary": "1/1"}
            assert status["endpoint"] == f"http://chat.{rig.namespace}.svc"
            assert {one["type"]: one["status"] for one in status["conditions"]} == {
                **dict.fromkeys(
                    ("Planned", "WeightsReady", "PrefillReady", "DecodeReady", "KVTransferVerified", "Ready"), "True"
                ),
                "RouterReady": "True",
                "Degraded": "False",
            }
            workers = [f"chat-{role}-{revision[role]}" for role in ("decode", "prefill")]
            assert await rig.names(DEPLOYMENTS) == [*workers, "chat-router"]
            assert set(workers) <= set(await rig.names(CONFIG_MAPS))
            assert await rig.names(POOLS) == ["chat-decode", "chat-prefill"]
            assert await rig.names(SERVICES) == ["chat", "chat-workers"]
            assert await rig.names(BUDGETS) == ["chat-decode", "chat-prefill", "chat-router"]
            assert await rig.names(SECRETS) == ["chat-handoff"]
            assert {"chat-worker", "chat-router"} <= set(await rig.names(SERVICE_ACCOUNTS))
            assert len(rig.trials.tried) == 1
            assert await rig.events() == [("Ready", "everything is as asked")]
            table = await rig.kubectl("get", "llm", "chat", "--no-headers")
            assert table.split()[1:6] == ["file:///models/m", "disaggregated", "1/1", "1/1", "True"]

    run(main())


def test_pools_tell_scalers_what_they_need(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply(prefill={"replicas": 2})
            await rig.until()

            async def told() -> bool:
                pool = await rig.whole(POOLS, "chat-prefill")
                assert pool.get("status", {}).get("observedGeneration") in {None, pool["metadata"]["generation"]}
                return bool(pool["spec"].get("replicas") == 2 and pool.get("status", {}).get("readyReplicas") == 2)

            await eventually(told)
            scale = json.loads(await rig.kubectl("get", "--raw", pool_scale(rig, "chat-prefill")))
            assert scale["status"] == {
                "replicas": 2,
                "selector": "serving.headrace.dev/deployment=chat,serving.headrace.dev/role=prefill",
            }

    run(main())


def pool_scale(rig: Rig, name: str) -> str:
    return f"/apis/serving.headrace.dev/v1alpha1/namespaces/{rig.namespace}/llmpools/{name}/scale"


def test_what_scales_a_pool_wins_until_the_user_changes_the_number(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:

            async def holds(replicas: int) -> None:
                async def held() -> bool:
                    status = await rig.status()
                    name = f"chat-decode-{status['revision']['decode']}"
                    return bool((await rig.whole(DEPLOYMENTS, name))["spec"]["replicas"] == replicas)

                await eventually(held)
                await rig.settle()
                assert await held()

            await rig.apply(decode={"replicas": 2})
            await rig.until()
            await holds(2)
            await rig.kubectl("scale", "llmpool", "chat-decode", "--replicas=3")
            await holds(3)
            await rig.apply(decode={"replicas": 2}, router={"replicas": 2})
            await holds(3)
            await rig.apply(decode={"replicas": 1}, router={"replicas": 2})
            await holds(1)
            await rig.kubectl("scale", "llmpool", "chat-decode", "--replicas=2")
            await rig.apply(router={"replicas": 2})
            await holds(2)

    run(main(), 120)


def test_another_look_at_what_has_not_changed_makes_no_call(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply()
            await rig.until()
            await rig.settle()
            made = len(rig.calls.made)

            for lane in Lane:
                rig.operator.queue.add(Key("LLMDeployment", rig.namespace, "chat"), lane)
                await rig.settle()

            assert rig.calls.made[made:] == []

    run(main())


def test_a_new_operator_changes_nothing(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply()
            await rig.until()
            await rig.settle()
            before = await versions(rig)
        async with start() as rig:
            await eventually(lambda: len(rig.calls.made) > 5)
            await rig.settle()
            assert await versions(rig) == before
            assert rig.trials.tried == []

    run(main())


async def versions(rig: Rig) -> dict[str, str]:
    kinds = "llm,llmpool,deployments,services,configmaps,poddisruptionbudgets,networkpolicies,roles,pods,secrets"
    listed = json.loads(await rig.kubectl("get", kinds, "-o", "json"))["items"]
    return {f"{one['kind']} {one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in listed}


def test_a_changed_field_costs_the_calls_that_it_needs_and_no_more(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply()
            await rig.until()
            await rig.settle()
            made = len(rig.calls.made)

            await rig.apply(router={"replicas": 2})
            await rig.until()
            await rig.settle()

            assert rig.calls.made[made:] == ["apply deployments", "patch llmdeployments/status"]

    run(main())


def test_drift_is_corrected_and_what_others_add_stays(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply()
            await rig.until()
            await rig.settle()
            name = f"chat-decode-{(await rig.status())['revision']['decode']}"
            made = len(rig.calls.made)

            await rig.kubectl("annotate", "service", "chat", "team=search")
            await rig.kubectl("label", "deployment", name, "team=search")
            await rig.settle()
            assert rig.calls.made[made:] == []

            await rig.kubectl("scale", "deployment", name, "--replicas=3")
            await rig.kubectl("patch", "service", "chat", "-p", '{"spec":{"selector":{"app":"other"}}}')
            await rig.kubectl("delete", "pdb", "chat-router")
            await rig.kubectl("delete", "llmpool", "chat-decode")

            async def corrected() -> bool:
                deployment, service = await rig.whole(DEPLOYMENTS, name), await rig.whole(SERVICES, "chat")
                return bool(
                    deployment["spec"]["replicas"] == 1
                    and "app" not in service["spec"]["selector"]
                    and "chat-router" in await rig.names(BUDGETS)
                    and "chat-decode" in await rig.names(POOLS)
                )

            await eventually(corrected)
            assert (await rig.whole(SERVICES, "chat"))["metadata"]["annotations"] == {"team": "search"}
            assert (await rig.whole(DEPLOYMENTS, name))["metadata"]["labels"]["team"] == "search"

    run(main())


def test_a_rollout_moves_both_roles_to_the_new_revision_and_leaves_nothing_of_the_old(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply(prefill={"replicas": 2}, decode={"replicas": 2})
            await rig.until()
            old = (await rig.status())["revision"]

            await rig.apply(prefill={"replicas": 2}, decode={"replicas": 2}, engine={"maxRunning": 32})
            await rig.until()

            new = (await rig.status())["revision"]
            assert old["prefill"] != new["prefill"]
            workers = [f"chat-{role}-{new[role]}" for role in ("decode", "prefill")]
            await eventually(lambda: equals(rig.names(DEPLOYMENTS), [*workers, "chat-router"]))

            async def clean() -> bool:
                return not {f"chat-{role}-{old[role]}" for role in old} & set(await rig.names(CONFIG_MAPS))

            await eventually(clean)

    run(main(), 120)


async def equals(awaited: Any, value: Any) -> bool:
    return bool(await awaited == value)


def test_workers_whose_hand_off_does_not_work_get_no_traffic_and_the_old_ones_stay(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply()
            await rig.until()
            old = (await rig.status())["revision"]
            rig.trials.broken = lambda *sides: any(one.revision != old[one.role] for one in sides)

            await rig.apply(engine={"maxRunning": 32})
            await rig.until("KVTransferVerified", "False")
            await eventually(lambda: has(rig.condition("KVTransferVerified"), "message", "saw no KV of"))

            new = (await rig.status())["revision"]
            expected = {(old[role], "True") for role in old} | {(new[role], "False") for role in new}
            await eventually(lambda: equals(gates(rig), expected))
            assert (await rig.condition("Ready"))["status"] == "False"
            assert "TrialFailed" in [reason for reason, _ in await rig.events()]

            rig.trials.broken = lambda *_: False
            await rig.until()

    run(main(), 120)


async def gates(rig: Rig) -> set[tuple[str, str]]:
    """The revision of each worker pod and whether it may have traffic."""
    pods = json.loads(await rig.kubectl("get", "pods", "-l", "serving.headrace.dev/role", "-o", "json"))["items"]
    return {
        (
            pod["metadata"]["labels"]["serving.headrace.dev/revision"],
            next(
                (one["status"] for one in pod["status"]["conditions"] if one["type"] == CONDITION_KV_TRANSFER), "False"
            ),
        )
        for pod in pods
    }


async def has(awaited: Any, field: str, text: str) -> bool:
    return text in (await awaited)[field]


def test_a_deployment_without_prefill_workers_is_unified_and_its_gates_open_without_a_trial(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply(disaggregation="never", decode={"replicas": 2}, router={"enabled": False})
            await rig.until()

            assert (await rig.status())["mode"] == "unified"
            assert await rig.names(POOLS) == ["chat-unified"]
            assert await rig.names(SERVICES) == ["chat-workers"]
            assert rig.trials.tried == []

    run(main())


def test_changing_the_mode_removes_what_the_former_one_made(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply()
            await rig.until()

            await rig.apply(disaggregation="never", router={"enabled": False})
            await rig.until()

            await eventually(lambda: equals(rig.names(POOLS), ["chat-unified"]))
            unified = f"chat-unified-{(await rig.status())['revision']['decode']}"
            await eventually(lambda: equals(rig.names(DEPLOYMENTS), [unified]))
            await eventually(lambda: equals(rig.names(SERVICES), ["chat-workers"]))
            await eventually(lambda: equals(rig.names(BUDGETS), ["chat-unified"]))

    run(main(), 120)


def test_deleting_it_in_the_middle_of_a_rollout_removes_everything(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply(decode={"replicas": 3})
            await rig.until()
            await rig.apply(decode={"replicas": 3}, engine={"maxRunning": 32})
            await eventually(lambda: several(rig.names(DEPLOYMENTS)))

            await rig.kubectl("delete", "llm", "chat")

            for kind in (DEPLOYMENTS, POOLS, SERVICES, BUDGETS, SECRETS, PODS):
                await eventually(lambda kind=kind: equals(rig.names(kind), []))  # type: ignore[misc]
            made = len(rig.calls.made)
            await rig.settle()
            assert rig.calls.made[made:] == []

    run(main(), 120)


async def several(awaited: Any) -> bool:
    return len(await awaited) > 3


def test_a_namespace_that_is_deleted_goes_with_all_that_is_in_it(start: Start, kubectl: Kubectl) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply()
            await rig.until()

            await asyncio.to_thread(kubectl, "delete", "namespace", rig.namespace, "--timeout=60s")

            made = len(rig.calls.made)
            await rig.settle()
            assert rig.calls.made[made:] == []
        await asyncio.to_thread(kubectl, "create", "namespace", rig.namespace)

    run(main(), 120)


def test_two_resources_that_want_one_name_are_told_so_and_one_of_them_serves(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply()
            await rig.until()

            await rig.apply("chat", "LLMRouter", tiers=[{"name": "one", "deployment": "chat"}])
            told = await rig.until("Planned", "False", "chat", LLM_ROUTERS)

            assert "is there already and controlled by LLMDeployment chat" in told["message"]
            assert (await rig.condition("Ready"))["status"] == "True"

            await rig.kubectl("delete", "llm", "chat")
            await eventually(
                lambda: has(
                    rig.condition("Planned", "chat", LLM_ROUTERS), "message", "names LLMDeployment chat, which is"
                )
            )
            await eventually(lambda: owned(rig, "LLMRouter"))

    run(main(), 150)


async def owned(rig: Rig, kind: str) -> bool:
    """Whether the one Service is controlled by a resource of this kind."""
    services = json.loads(await rig.kubectl("get", "services", "-o", "json"))["items"]
    return [one["metadata"]["ownerReferences"][0]["kind"] for one in services] == [kind]


def test_pods_that_a_quota_forbids_are_told_with_the_reason(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.kubectl("create", "quota", "tight", "--hard=pods=1")
            await rig.apply(router={"enabled": False})

            await eventually(lambda: has(rig.condition("Ready"), "message", "exceeded quota: tight"), timeout_s=40)

            await rig.kubectl("delete", "quota", "tight")

    run(main(), 90)


def test_a_template_that_the_api_server_refuses_leaves_what_runs_alone(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply()
            await rig.until()
            old = (await rig.status())["revision"]

            await rig.apply(template={"spec": {"noSuchField": 1}})
            told = await rig.until("Planned", "False")

            assert "noSuchField" in told["message"]
            assert f"chat-decode-{old['decode']}" in await rig.names(DEPLOYMENTS)
            await rig.apply()
            await rig.until()
            assert (await rig.status())["revision"] == old
            assert (await rig.whole(LLM_DEPLOYMENTS, "chat"))["metadata"].get("finalizers") is None

    run(main(), 120)
