"""A process dies while it serves: what it was doing goes on elsewhere, and nobody's answer is another one for it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from e2e.scenarios.space import wait_for
from e2e.scenarios.traffic import ask, problems, start
from e2e.scenarios.world import manifest

from headrace_api.names import ROUTER_INFLIGHT

if TYPE_CHECKING:
    from e2e.scenarios.space import Space
    from e2e.scenarios.world import World

NAME = "crashing"
STREAMS = 4
TOKENS = 160


pytestmark = pytest.mark.usefixtures("operator")


def test_answers_are_complete_when_the_decode_worker_is_killed_in_mid_stream(world: World, space: Space) -> None:
    space.apply(manifest(NAME))
    space.wait_ready(NAME, timeout_s=300)
    wanted = ask(space, world.images.router, NAME, timeout_s=240, count=STREAMS, concurrency=STREAMS, tokens=TOKENS)
    assert problems(wanted) == []
    (pod,) = (pod["metadata"]["name"] for pod in space.pods(NAME, "decode"))

    client = start(space, world.images.router, NAME, count=STREAMS, concurrency=STREAMS, tokens=TOKENS)
    client.wait_streams(STREAMS, timeout_s=120)
    assert not client.answers(), "an answer was complete before the worker could be killed; ask for more tokens"
    world.kill(space, pod)
    answers = client.end(timeout_s=240)

    assert problems(answers) == []
    assert [answer.text for answer in answers] == [answer.text for answer in wanted]
    wait_for(lambda: restarts(space, pod) == 1, 60, f"{pod} was not started again")
    space.wait_ready(NAME, timeout_s=200)


def test_answers_are_complete_when_the_prefill_worker_is_killed_at_work(world: World, space: Space) -> None:
    asked = partial(start, count=STREAMS + 2, concurrency=STREAMS, tokens=24, words=240)
    space.apply(manifest(NAME))
    space.wait_ready(NAME, timeout_s=300)
    (pod,) = (pod["metadata"]["name"] for pod in space.pods(NAME, "prefill"))

    client = asked(space, world.images.router, NAME)
    client.wait_streams(1, timeout_s=120)
    world.kill(space, pod)
    answers = client.end(timeout_s=300)

    assert problems(answers) == []
    assert pod in {answer.prefill for answer in answers}
    wait_for(lambda: restarts(space, pod) == 1, 60, f"{pod} was not started again")
    space.wait_ready(NAME, timeout_s=200)
    wanted = asked(space, world.images.router, NAME).end(timeout_s=300)
    assert [answer.text for answer in answers] == [answer.text for answer in wanted]


def test_requests_sent_again_get_the_same_answer_when_one_of_two_routers_is_killed(world: World, space: Space) -> None:
    asked = partial(start, count=2 * STREAMS, concurrency=STREAMS, tokens=64, repeats=20)
    space.apply(manifest(NAME, router={"replicas": 2}))
    space.wait_ready(NAME, timeout_s=300)
    wanted = asked(space, world.images.router, NAME).end(timeout_s=300)
    assert problems(wanted) == []
    routers = [pod["metadata"]["name"] for pod in space.listed("pods", "app.kubernetes.io/name=headrace-router")]
    assert len(routers) == 2

    client = asked(space, world.images.router, NAME)
    client.wait_streams(STREAMS, timeout_s=120)
    world.kill(space, max(routers, key=lambda pod: space.metric(pod, ROUTER_INFLIGHT, container="router")))
    answers = client.end(timeout_s=300)

    assert problems(answers) == []
    assert sum(len(answer.ids) for answer in answers) > len(answers), "no request had to be sent again"
    assert [set(answer.ids) for answer in answers] == [set(answer.ids) for answer in wanted]
    assert [answer.text for answer in answers] == [answer.text for answer in wanted]


def restarts(space: Space, pod: str) -> int:
    """Return how often a pod's container was started again."""
    found = space.find("pod", pod)
    return 0 if found is None else int(found["status"]["containerStatuses"][0]["restartCount"])
