"""Scaling on a real API server: the operator in this process, pods that run nothing, and workers whose load we say."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc.aio
import pytest
from e2e.cluster.api import ApiCluster
from e2e.cluster.kubectl import Kubectl
from tests.operator.cluster.loop import eventually, run
from tests.operator.cluster.rig import Calls, Rig, operating
from tests.operator.scaling.test_scaler import Client

from headrace_api.names import KV_BLOCKS, PROMPT_TOKENS, REQUESTS_RUNNING, REQUESTS_WAITING
from headrace_operator.kubernetes.errors import NotFoundError
from headrace_operator.kubernetes.kinds import PODS, POOLS, SCALED_OBJECTS, SLICES
from headrace_operator.kubernetes.pods import worker_of
from headrace_operator.kubernetes.scaling.endpoint import Offer
from headrace_operator.kubernetes.scaling.lowering import COST
from headrace_operator.kubernetes.scaling.visits import Visits
from headrace_operator.scaling.wire import MetricsQuestion, Reference, metric_value

pytestmark = pytest.mark.processes

FAST = {
    "up": {"stabilization": "0s", "change": 8, "every": "1s"},
    "down": {"stabilization": "1s", "change": 8, "every": "1s"},
    "idleAfter": "2s",
}


class World:
    """What workers and routers say; every worker of a role says the same, but for what its prefixes are worth."""

    def __init__(self) -> None:
        self.waiting: dict[str, int] = {}
        self.silent: set[str] = set()
        self.held: dict[str, int] | None = {"chat": 0}
        self.active: dict[str, int] = {}
        self.rig: Rig | None = None
        self.pages = 0

    def visits(self) -> Visits:
        world = self

        class Told(Visits):
            async def get(self, server: str, target: str, deadline_s: float) -> bytes | None:
                return world.page(server) if target == "/metrics" else await world.answer(deadline_s)

        return Told()

    def page(self, server: str) -> bytes | None:
        assert self.rig is not None
        self.pages += 1
        pods = {pod.status.pod_ip: pod for pod in self.rig.operator.cache.all(PODS)}
        worker = worker_of(pods[urlsplit(server).hostname or ""])
        if worker is None or worker.role in self.silent:
            return None
        ready = self.numbers(worker.role)
        lines = [
            f"{REQUESTS_RUNNING}{{}} 0.0",
            f"{REQUESTS_WAITING}{{}} {self.waiting.get(worker.role, 0) / ready}",
            f'{KV_BLOCKS}{{state="active"}} {self.active.get(worker.name, 0)}',
            f'{KV_BLOCKS}{{state="free"}} 100',
            f'{PROMPT_TOKENS}_total{{source="computed"}} 10',
        ]
        return "\n".join(lines).encode()

    def numbers(self, role: str) -> int:
        """Return how many workers there are that answer."""
        assert self.rig is not None
        workers = [worker_of(pod) for pod in self.rig.operator.cache.all(PODS) if pod.status.pod_ip]
        return sum(worker is not None and worker.role == role for worker in workers)

    async def answer(self, deadline_s: float) -> bytes | None:
        """Answer a router's long poll as soon as something waits."""
        with suppress(TimeoutError):
            seconds = min(deadline_s - 10, 0.5)
            await eventually(lambda: self.held is None or any(self.held.values()), max(0.0, seconds))
        return None if self.held is None else json.dumps({"waiting": self.held}).encode()


Start = Callable[..., Any]


@pytest.fixture
def start(api_cluster: ApiCluster, kubectl: Kubectl, namespace: str) -> Start:
    @asynccontextmanager
    async def begin(world: World, calls: Calls | None = None, **offer: Any) -> AsyncIterator[Rig]:
        made = Offer(namespace=namespace, interval_s=0.2, visits=world.visits, **offer)
        async with operating(str(api_cluster.kubeconfig), kubectl, namespace, calls=calls, offer=made) as rig:
            world.rig = rig
            yield rig

    return begin


async def replicas(rig: Rig, role: str) -> int | None:
    try:
        number: int | None = (await rig.whole(POOLS, f"chat-{role}"))["spec"].get("replicas")
    except NotFoundError:
        return None
    return number


async def until_replicas(rig: Rig, role: str, number: int) -> None:
    async def there() -> bool:
        return await replicas(rig, role) == number

    try:
        await eventually(there, 30)
    except TimeoutError:
        raise AssertionError(f"chat-{role} has {await replicas(rig, role)}, not {number}") from None


def test_without_keda_the_operator_raises_and_lowers_a_pool_by_its_load(start: Start) -> None:
    async def main() -> None:
        world = World()
        async with start(world) as rig:
            await rig.apply(scaling={**FAST, "decode": {"maxReplicas": 5}})
            await rig.until()
            told = await rig.until("ScalingActive")
            assert told["reason"] == "Operator"
            assert "KEDA is not in this cluster" in told["message"]
            assert await replicas(rig, "decode") == 1

            world.waiting = {"decode": 12}
            await until_replicas(rig, "decode", 3)
            world.waiting = {"decode": 100}
            await until_replicas(rig, "decode", 5)
            assert await replicas(rig, "prefill") == 1

            world.silent = {"decode"}
            world.waiting = {}
            quiet = await rig.until("ScalingActive", "False")
            assert quiet["reason"] == "MetricsMissing"
            assert await replicas(rig, "decode") == 5

            world.silent = set()
            await until_replicas(rig, "decode", 1)
            await rig.until("ScalingActive")

    run(main(), 120)


def test_it_sleeps_when_nobody_asks_and_the_first_request_wakes_it(start: Start) -> None:
    async def main() -> None:
        world = World()
        async with start(world) as rig:
            none = {"minReplicas": 0}
            await rig.apply(scaling={**FAST, "prefill": none, "decode": none})
            await until_replicas(rig, "decode", 0)
            await until_replicas(rig, "prefill", 0)

            async def sleeps() -> bool:
                return bool((await rig.status()).get("decode", {}).get("summary") == "0/0")

            await eventually(sleeps)
            await rig.until()

            world.held = {"chat": 1, "other": 4}
            await until_replicas(rig, "decode", 1)
            await until_replicas(rig, "prefill", 1)
            await rig.until()

    run(main(), 120)


def test_routers_that_say_nothing_keep_it_awake(start: Start) -> None:
    async def main() -> None:
        world = World()
        world.held = None
        async with start(world) as rig:
            await rig.apply(scaling={**FAST, "decode": {"minReplicas": 0}})
            await rig.until()
            before = world.pages
            await eventually(lambda: world.pages > before + 40, 40)
            assert await replicas(rig, "decode") == 1

    run(main(), 120)


def test_paused_leaves_the_number_to_whoever_sets_it(start: Start) -> None:
    async def main() -> None:
        world = World()
        world.waiting = {"decode": 100}
        async with start(world) as rig:
            await rig.apply(scaling={**FAST, "paused": True})
            await eventually(lambda: _reason_is(rig, "Paused"))
            await rig.kubectl("scale", "llmpool", "chat-decode", "--replicas=2")
            before = world.pages
            await eventually(lambda: world.pages > before + 20, 40)
            assert await replicas(rig, "decode") == 2
            await rig.apply()
            await eventually(lambda: _without(rig, "ScalingActive"))

    run(main(), 120)


async def _reason_is(rig: Rig, reason: str) -> bool:
    return bool((await rig.condition("ScalingActive"))["reason"] == reason)


async def _without(rig: Rig, condition: str) -> bool:
    told = (await rig.status()).get("conditions", [])
    return bool(told) and condition not in {one["type"] for one in told}


def test_fewer_workers_means_those_whose_prefixes_are_worth_least_go(start: Start) -> None:
    async def main() -> None:
        world = World()
        async with start(world) as rig:
            await rig.apply(decode={"replicas": 4})
            await rig.until()
            workers = sorted(
                pod.metadata.name
                for pod in rig.operator.cache.all(PODS)
                if (worker := worker_of(pod)) is not None and worker.role == "decode"
            )
            world.active = dict(zip(workers, (50, 3, 40, 7), strict=True))
            await rig.kubectl("scale", "llmpool", "chat-decode", "--replicas=2")

            async def left() -> bool:
                listed = json.loads(await rig.kubectl("get", "pods", "-o", "json"))["items"]
                alive = {one["metadata"]["name"] for one in listed if "deletionTimestamp" not in one["metadata"]}
                return alive & set(workers) == {workers[0], workers[2]}

            await eventually(left, 30)
            for name in (workers[0], workers[2]):
                assert COST not in (await rig.whole(PODS, name))["metadata"].get("annotations", {})

    run(main(), 120)


@pytest.mark.usefixtures("keda")
def test_with_keda_each_pool_has_a_scaled_object_and_the_operator_writes_no_number(
    start: Start, kubectl: Kubectl, namespace: str
) -> None:
    kubectl("-n", namespace, "run", "operator-0", "--image=operator")
    uid = json.loads(kubectl("-n", namespace, "get", "pod", "operator-0", "-o", "json"))["metadata"]["uid"]

    async def main() -> None:
        world, calls = World(), Calls()
        world.waiting = {"decode": 12}
        async with start(world, calls, pod="operator-0", pod_uid=uid, pod_ip="10.0.0.7", http_port=8080) as rig:
            await rig.apply(scaling=FAST)
            await rig.until()
            told = await rig.until("ScalingActive")
            assert (told["reason"], told["message"]) == ("Keda", "KEDA scales by the numbers that the operator wants")
            await eventually(lambda: _listed(rig, ["chat-decode", "chat-prefill"]))
            whole = await rig.whole(SCALED_OBJECTS, "chat-decode")
            assert whole["metadata"]["ownerReferences"][0]["name"] == "chat"

            port = rig.operator.scaling.scaler_port
            assert port is not None
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                client, question = Client(channel), MetricsQuestion(Reference("chat-decode", rig.namespace), "workers")

                async def wanted() -> bool:
                    return await client.ask("GetMetrics", question) == metric_value("workers", 3)

                await eventually(wanted)
            assert await replicas(rig, "decode") == 1
            assert calls.made.count("scale llmpools") == 2
            assert rig.operator.scaling.signals(rig.namespace, "chat-decode") is not None

            slices = await rig.whole(SLICES, "headrace-operator-scaler")
            assert [one["addresses"] for one in slices["endpoints"]] == [["10.0.0.7"]]
            assert {one["name"]: one["port"] for one in slices["ports"]} == {"grpc": port, "http": 8080}

            await rig.kubectl(
                "patch", "scaledobject", "chat-decode", "--type=merge", "-p", '{"spec":{"maxReplicaCount":99}}'
            )

            async def taken_back() -> bool:
                whole = await rig.whole(SCALED_OBJECTS, "chat-decode")
                return bool(whole["spec"]["maxReplicaCount"] == 8)

            await eventually(taken_back)
            await rig.apply()
            await eventually(lambda: _listed(rig, []))

    run(main(), 120)


@pytest.mark.usefixtures("keda")
def test_an_operator_that_leads_no_more_answers_nobody_until_it_leads_again(start: Start) -> None:
    async def main() -> None:
        world = World()
        async with start(world) as rig:
            await rig.apply(scaling=FAST)
            await rig.until("ScalingActive")
            scaling = rig.operator.scaling
            first = await eventually(lambda: scaling.scaler_port)
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{first}")
            stream = Client(channel).stream(Reference("chat-decode", rig.namespace))
            assert await stream.read() == b"\x08\x01"

            await rig.kubectl("patch", "lease", "operator", "--type=merge", "-p", '{"spec":{"holderIdentity":"other"}}')
            await eventually(lambda: scaling.scaler_port is None, 30)
            with pytest.raises(grpc.aio.AioRpcError):
                await stream.read()
            await channel.close()
            assert scaling.signals(rig.namespace, "chat-decode") is None

            await eventually(lambda: scaling.scaler_port, 60)
            await eventually(lambda: scaling.signals(rig.namespace, "chat-decode"))

    run(main(), 150)


def test_keda_may_come_later_and_go_again(start: Start, kubectl: Kubectl, keda_module: Path) -> None:
    async def main() -> None:
        world = World()
        async with start(world) as rig:
            await rig.apply(scaling=FAST)
            assert (await rig.until("ScalingActive"))["reason"] == "Operator"
            looks = rig.operator.scaling._keda.look
            kubectl.define([keda_module / "keda.sh_scaledobjects.yaml"], timeout_s=30)
            try:
                await looks()
                await eventually(lambda: _says(rig, "Keda"))
                await eventually(lambda: _listed(rig, ["chat-decode", "chat-prefill"]))
                await eventually(lambda: rig.operator.scaling.scaler_port)
            finally:
                await rig.kubectl("delete", "crd", "scaledobjects.keda.sh", "--timeout=30s")
            await eventually(lambda: _looked(rig, looks))
            await eventually(lambda: _says(rig, "Operator"))
            await eventually(lambda: rig.operator.scaling.scaler_port is None)
            world.waiting = {"decode": 12}
            await until_replicas(rig, "decode", 3)

    run(main(), 120)


async def _looked(rig: Rig, look: Callable[[], Any]) -> bool:
    await look()
    return not rig.operator._site.keda


async def _says(rig: Rig, reason: str) -> bool:
    return bool((await rig.condition("ScalingActive"))["reason"] == reason)


async def _listed(rig: Rig, names: list[str]) -> bool:
    return await rig.names(SCALED_OBJECTS) == names
