"""Workers that span pods, on a real API server: made, scaled, rolled and removed as StatefulSets."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from e2e.cluster.api import ApiCluster
from e2e.cluster.kubectl import Kubectl
from tests.operator.cluster.loop import eventually, run
from tests.operator.cluster.rig import Rig, operating

from headrace_api.names import CONDITION_KV_TRANSFER, LABEL_ROLE
from headrace_operator.kubernetes.kinds import DEPLOYMENTS, PODS, STATEFUL_SETS

pytestmark = pytest.mark.processes

Start = Callable[..., Any]
SPANNING = {"tensor": 2, "nodes": 2}


@pytest.fixture
def start(api_cluster: ApiCluster, kubectl: Kubectl, namespace: str) -> Start:
    def begin(**options: Any) -> Any:
        return operating(str(api_cluster.kubeconfig), kubectl, namespace, **options)

    return begin


async def workers(rig: Rig) -> dict[str, dict[str, Any]]:
    """Return all pods of workers by name, those that end left out."""
    listed = json.loads(
        await rig.kubectl("get", PODS.plural, "-l", "app.kubernetes.io/name=headrace-worker", "-o", "json")
    )
    return {one["metadata"]["name"]: one for one in listed["items"] if "deletionTimestamp" not in one["metadata"]}


async def becomes(rig: Rig, names: set[str]) -> None:
    async def held() -> bool:
        return bool(set(await workers(rig)) == names)

    try:
        await eventually(held, 60)
    except TimeoutError:
        raise AssertionError(f"expected {sorted(names)}, there are {sorted(await workers(rig))}") from None


def pods_of(name: str, heads: int) -> set[str]:
    return {f"{name}-{number}" for number in range(heads)} | {f"{name}-members-{number}" for number in range(heads)}


def test_a_worker_of_two_nodes_is_a_head_and_a_member_of_which_the_head_alone_has_traffic(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply(parallelism=SPANNING, decode={"replicas": 2})
            await rig.until()
            revision = (await rig.status())["revision"]
            prefill, decode = (f"chat-{role}-{revision[role]}" for role in ("prefill", "decode"))
            await becomes(rig, pods_of(prefill, 1) | pods_of(decode, 2))
            assert await rig.names(DEPLOYMENTS) == ["chat-router"]
            assert (await rig.status())["decode"] == {"replicas": 2, "ready": 2, "summary": "2/2"}
            for name, pod in (await workers(rig)).items():
                gate = [one for one in pod["status"]["conditions"] if one["type"] == CONDITION_KV_TRANSFER]
                assert (LABEL_ROLE in pod["metadata"]["labels"]) == ("-members-" not in name)
                assert [one["status"] for one in gate] == ([] if "-members-" in name else ["True"])
            tried = {name for pair in rig.trials.tried for name in pair}
            assert tried == {f"{prefill}-0", f"{decode}-0", f"{decode}-1"}

    run(main(), 120)


def test_members_come_and_go_with_their_workers(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply(parallelism=SPANNING, disaggregation="never")
            await rig.until()
            name = f"chat-unified-{(await rig.status())['revision']['decode']}"
            await rig.kubectl("scale", "llmpool", "chat-unified", "--replicas=3")
            await becomes(rig, pods_of(name, 3))
            await rig.kubectl("scale", "llmpool", "chat-unified", "--replicas=1")
            await becomes(rig, pods_of(name, 1))
            await rig.settle()
            before = len(rig.calls.made)
            await rig.settle()
            assert rig.calls.made[before:] == []

    run(main(), 120)


def test_a_rollout_takes_members_along_and_leaves_none_of_the_old_ones(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply(parallelism=SPANNING, disaggregation="never", decode={"replicas": 2})
            await rig.until()
            old = f"chat-unified-{(await rig.status())['revision']['decode']}"
            await becomes(rig, pods_of(old, 2))
            changed = {"parallelism": SPANNING, "disaggregation": "never", "decode": {"replicas": 2}}
            await rig.apply(**changed, engine={"maxRunning": 8})
            await rig.until()
            new = f"chat-unified-{(await rig.status())['revision']['decode']}"
            assert new != old
            await becomes(rig, pods_of(new, 2))

            async def gone() -> bool:
                return bool(await rig.names(STATEFUL_SETS) == sorted([new, f"{new}-members"]))

            await eventually(gone, 60)

    run(main(), 180)


def test_workers_of_one_pod_and_of_several_take_each_others_place(start: Start) -> None:
    async def main() -> None:
        async with start() as rig:
            await rig.apply(disaggregation="never")
            await rig.until()
            await rig.apply(disaggregation="never", parallelism=SPANNING)
            await rig.until()
            name = f"chat-unified-{(await rig.status())['revision']['decode']}"
            await becomes(rig, pods_of(name, 1))

            async def only_the_router() -> bool:
                return bool(await rig.names(DEPLOYMENTS) == ["chat-router"])

            await eventually(only_the_router, 60)
            await rig.apply(disaggregation="never")
            await rig.until()

            async def no_set() -> bool:
                return bool(await rig.names(STATEFUL_SETS) == [])

            await eventually(no_set, 60)

    run(main(), 180)
