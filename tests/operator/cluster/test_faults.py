"""The operator ends at any moment, and the API server fails in every way: the end is the same."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from e2e.cluster.api import ApiCluster
from e2e.cluster.kubectl import Kubectl
from tests.operator.cluster.loop import eventually, run
from tests.operator.cluster.rig import Calls, Rig, operating

from headrace_operator.kubernetes.errors import ConflictError, TooManyError, UnavailableError
from headrace_operator.kubernetes.session import Request

pytestmark = pytest.mark.processes

Start = Callable[..., Any]

KINDS = (
    "llm,llmpool,deployments,services,serviceaccounts,configmaps,poddisruptionbudgets,networkpolicies,roles,"
    "rolebindings,secrets"
)


@pytest.fixture
def start(api_cluster: ApiCluster, kubectl: Kubectl, namespace: str) -> Start:
    def begin(**options: Any) -> Any:
        return operating(str(api_cluster.kubeconfig), kubectl, namespace, **options)

    return begin


async def state(rig: Rig) -> dict[str, Any]:
    """What is there, without what differs from run to run."""
    listed = json.loads(await rig.kubectl("get", KINDS, "-o", "json"))["items"]
    return {f"{one['kind']} {one['metadata']['name']}": essence(one) for one in listed}


def essence(one: Any) -> Any:
    metadata = one["metadata"]
    rest = {name: value for name, value in one.items() if name not in {"metadata", "status", "data"}}
    if one["kind"] == "Service":
        rest["spec"] = {name: rest["spec"][name] for name in ("selector", "ports", "type")}
    status = {
        "conditions": [
            (told["type"], told["status"], told["reason"], told["message"])
            for told in one.get("status", {}).get("conditions", [])
        ]
        if one["kind"] == "LLMDeployment"
        else []
    }
    owners = [owner["kind"] for owner in metadata.get("ownerReferences", [])]
    notes = {name: text for name, text in metadata.get("annotations", {}).items() if "headrace" in name}
    return rest, metadata.get("labels"), owners, notes, status, sorted(one.get("data", {}))


async def rolled(rig: Rig, name: str = "chat") -> None:
    """Bring a deployment up, and then to another revision."""
    await rig.apply(name, prefill={"replicas": 2})
    await rig.until(name=name)
    await rig.apply(name, prefill={"replicas": 2}, engine={"maxRunning": 32})
    await rig.until(name=name)
    await rig.settle()


def test_the_end_is_the_same_when_the_operator_dies_after_any_call(start: Start) -> None:
    """One life after another, each a call longer than the one before, until one is not interrupted."""

    async def main() -> None:
        async with start() as rig:
            await rolled(rig)
            expected, calls = await state(rig), len(rig.calls.made)
            await rig.kubectl("delete", "llm", "chat", "--cascade=foreground")

        lives, survived = 0, False
        async with start(lease="first", calls=Calls(dies_after=1)) as rig:
            await rig.apply(prefill={"replicas": 2})
            await rig.calls.died.wait()
        for number in range(1, 3 * calls):
            lives = number
            async with start(lease=f"life-{number}", calls=Calls(dies_after=number)) as rig:
                if survived := await lives_on(rig):
                    break
        assert survived, f"not Ready after {lives} lives"

        for number in range(1, 3 * calls):
            async with start(lease=f"second-{number}", calls=Calls(dies_after=number)) as rig:
                if number == 1:
                    await rig.apply(prefill={"replicas": 2}, engine={"maxRunning": 32})
                if await lives_on(rig):
                    break
        async with start(lease="last") as rig:
            await rig.until()
            await rig.settle()
            assert await state(rig) == expected
        assert lives > 5

    run(main(), 400)


async def lives_on(rig: Rig) -> bool:
    """Wait until the operator has died, or has nothing left to do with everything Ready."""

    async def decided() -> bool:
        return rig.calls.died.is_set() or (
            rig.operator.queue.is_idle and (await rig.condition())["status"] == "True" and bool(rig.calls.made)
        )

    await eventually(decided, timeout_s=60)
    return not rig.calls.died.is_set()


def unavailable(_: Request) -> Exception:
    return UnavailableError("HTTP 500: told so")


def conflict(_: Request) -> Exception:
    return ConflictError("HTTP 409: somebody was faster")


def too_many(_: Request) -> Exception:
    return TooManyError("HTTP 429: slowly", 0.1)


@pytest.mark.parametrize("error", [unavailable, conflict, too_many])
def test_every_third_call_fails_and_the_end_is_the_same(start: Start, error: Callable[[Request], Exception]) -> None:
    async def main() -> None:
        async with start() as rig:
            await rolled(rig)
            expected = await state(rig)
            await rig.kubectl("delete", "llm", "chat", "--cascade=foreground")
        calls = Calls(fault=lambda number, request: error(request) if number % 3 == 0 else None)
        async with start(calls=calls) as rig:
            await rolled(rig)
            assert len(rig.calls.made) > 20
            assert await state(rig) == expected

    run(main(), 200)


def test_an_api_server_that_hangs_holds_one_turn_and_not_the_operator(start: Start) -> None:
    async def main() -> None:
        hung = asyncio.Event()

        class Hanging(Calls):
            """The first apply of a router never gets an answer in time."""

        calls = Hanging()

        def fault(_: int, request: Request) -> Exception | None:
            if "chat-router" in request.target and not hung.is_set():
                hung.set()
                return UnavailableError("no answer within 20 s")
            return None

        calls.fault = fault
        async with start(calls=calls) as rig:
            await rig.apply()
            await hung.wait()
            await rig.apply("other")
            await rig.until(name="other")
            await rig.until()

    run(main(), 120)
