"""The number of workers follows the load: by hand, by KEDA and its autoscaler, to zero and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from e2e.cluster.home import user_home
from e2e.keda.install import install_keda, remove_keda
from e2e.keda.objects import NAMESPACE as KEDA
from e2e.scenarios import verdict
from e2e.scenarios.space import Space, wait_for
from e2e.scenarios.traffic import ask, problems, start
from e2e.scenarios.world import manifest, tell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.scenarios.space import Object
    from e2e.scenarios.world import World

pytestmark = pytest.mark.usefixtures("operator")

NAME: Final = "elastic"
POOL: Final = "llmpools.serving.headrace.dev"
QUICK: Final = {
    "up": {"stabilization": "2s", "every": "5s"},
    "down": {"stabilization": "20s", "change": "100%", "every": "5s"},
}
"""Paces for a test; a user's are minutes."""


@pytest.fixture(scope="module")
def keda_installed(world: World, operator: Space) -> Iterator[None]:  # noqa: ARG001 - the operator sees KEDA come
    remove_keda(world.cluster)  # of a run that was killed
    install_keda(user_home(os.environ, Path.home()), world.cluster, tell)
    yield
    remove_keda(world.cluster)


@pytest.fixture
def keda(
    keda_installed: None,  # noqa: ARG001 - once for all
    world: World,
    space: Space,
    request: pytest.FixtureRequest,
) -> Iterator[None]:
    """KEDA; what it said is told when the scenario fails."""
    yield
    if verdict.has_failed(request.node):
        tell(f"what KEDA said:\n{Space(world.kubectl, KEDA).report('keda')}")
        tell(space.run("get", "scaledobjects,hpa", "-o", "yaml")[-20_000:])


def test_a_pool_scaled_by_hand_gets_and_loses_a_worker_under_load(world: World, space: Space) -> None:
    space.apply(manifest(NAME))
    space.wait_ready(NAME, timeout_s=300)
    client = start(space, world.images.router, NAME, concurrency=3, tokens=32, seconds=600)
    client.wait_answers(1, timeout_s=120)

    space.run("scale", POOL, f"{NAME}-decode", "--replicas=2")
    wait_for(lambda: ready(space) == 2, 200, "There are not two decode workers that are ready")
    served = len(client.answers())
    client.wait_answers(served + 8, timeout_s=120)
    space.run("scale", POOL, f"{NAME}-decode", "--replicas=1")
    wait_for(lambda: len(space.pods(NAME, "decode")) == 1, 120, "There is not one decode worker")
    client.wait_answers(len(client.answers()) + 2, timeout_s=120)
    client.stop()
    answers = client.end(timeout_s=200)

    assert problems(answers) == []
    assert len({answer.decode for answer in answers}) == 2, "the second decode worker was given nothing"
    space.wait_ready(NAME, timeout_s=120)


def test_silence_ends_all_workers_and_the_first_request_wakes_them_by_the_operator(world: World, space: Space) -> None:
    sleeps_and_wakes(world, space, "the operator scales by itself")


@pytest.mark.usefixtures("keda")
def test_load_raises_the_number_of_decode_workers_through_keda_and_silence_lowers_it(
    world: World, space: Space
) -> None:
    scaling = {**QUICK, "prefill": {"maxReplicas": 1}, "decode": {"maxReplicas": 2}, "targets": {"runningRequests": 2}}
    space.apply(manifest(NAME, scaling=scaling))
    space.wait_ready(NAME, timeout_s=300)
    space.wait_condition(NAME, "ScalingActive", "True", says="KEDA scales", timeout_s=90)
    wait_for(lambda: autoscaler(space) is not None, 90, "No HorizontalPodAutoscaler of the decode pool has a metric")
    assert wanted(space) == 1

    client = start(space, world.images.router, NAME, concurrency=6, tokens=96, seconds=600)
    wait_for(lambda: wanted(space) == 2, 120, "Load did not raise the number of decode workers")
    tell("the autoscaler wants two")
    assert (autoscaler(space) or {})["status"]["desiredReplicas"] == 2
    wait_for(lambda: ready(space) == 2, 200, "The second decode worker is not ready")
    client.wait_answers(len(client.answers()) + 6, timeout_s=200)
    client.stop()
    answers = client.end(timeout_s=300)
    wait_for(lambda: wanted(space) == 1, 180, "Silence did not lower the number of decode workers")
    wait_for(lambda: len(space.pods(NAME, "decode")) == 1, 120, "There is not one decode worker")

    assert problems(answers) == []
    assert len({answer.decode for answer in answers}) == 2, "the second decode worker was given nothing"


@pytest.mark.usefixtures("keda")
def test_silence_ends_all_workers_and_the_first_request_wakes_them_by_keda(world: World, space: Space) -> None:
    sleeps_and_wakes(world, space, "KEDA scales")


def sleeps_and_wakes(world: World, space: Space, scaler: str) -> None:
    pool = {"minReplicas": 0, "maxReplicas": 1}
    space.apply(manifest(NAME, scaling={**QUICK, "prefill": pool, "decode": pool, "idleAfter": "20s"}))
    space.wait_ready(NAME, timeout_s=300)
    space.wait_condition(NAME, "ScalingActive", "True", says=scaler, timeout_s=90)
    expected = ask(space, world.images.router, NAME, timeout_s=120, count=1)
    assert problems(expected) == []
    wait_for(lambda: not space.pods(NAME), 180, "Workers without work did not end")
    tell("no workers are left")

    (answer,) = ask(space, world.images.router, NAME, timeout_s=200, count=1)
    tell(f"the first request was answered after {answer.end_s - answer.start_s:.1f} s")

    assert answer.problem is None, answer.problem
    assert answer.text == expected[0].text
    wait_for(lambda: not space.pods(NAME), 180, "Workers without work did not end again")


def wanted(space: Space) -> int:
    """Return the number of decode workers that the pool asks for."""
    pool = space.find(POOL, f"{NAME}-decode")
    assert pool is not None, "the pool is gone"
    return int(pool["spec"]["replicas"])


def ready(space: Space) -> int:
    """Return the number of decode workers that have traffic."""
    pool = space.find(POOL, f"{NAME}-decode")
    return 0 if pool is None else int(pool.get("status", {}).get("readyReplicas", 0))


def autoscaler(space: Space) -> Object | None:
    """Return the HorizontalPodAutoscaler that KEDA made for the decode pool, once it has looked at its metric."""
    for one in space.listed("horizontalpodautoscalers.autoscaling"):
        mine = one["spec"]["scaleTargetRef"]["name"] == f"{NAME}-decode"
        active = {each["type"]: each["status"] for each in one.get("status", {}).get("conditions", [])}
        if mine and active.get("ScalingActive") == "True":
            return one
    return None
