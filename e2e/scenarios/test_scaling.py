"""The number of workers follows the load: by hand, by KEDA and its autoscaler, to zero and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from e2e.scenarios.elastic import NAME, POOL, QUICK, follows_the_load, ready
from e2e.scenarios.space import wait_for
from e2e.scenarios.traffic import ask, problems, start
from e2e.scenarios.world import manifest, tell

if TYPE_CHECKING:
    from e2e.scenarios.space import Space
    from e2e.scenarios.world import World

pytestmark = pytest.mark.usefixtures("operator")


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
    follows_the_load(world, space, {}, says="KEDA scales by the numbers that the operator wants")


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
