"""A decode worker dies in mid-stream: its answers go on where they stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from e2e.scenarios.conftest import manifest, tell
from e2e.scenarios.space import wait_for
from e2e.scenarios.traffic import ask, problems, start

if TYPE_CHECKING:
    from e2e.scenarios.conftest import World
    from e2e.scenarios.space import Space

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
    kill(world, space, pod)
    tell(f"killed {pod}")
    answers = client.end(timeout_s=240)

    assert problems(answers) == []
    assert [answer.text for answer in answers] == [answer.text for answer in wanted]
    wait_for(lambda: restarts(space, pod) == 1, 60, f"{pod} was not started again")
    space.wait_ready(NAME, timeout_s=200)


def kill(world: World, space: Space, pod: str) -> None:
    """Kill the first process of a pod's container from outside: inside, nobody can kill process 1."""
    found = space.find("pod", pod)
    assert found is not None
    container = found["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    command = ("ctr", "--namespace=k8s.io", "tasks", "kill", "--signal=SIGKILL", "--all", container)
    world.cluster.node(*command)


def restarts(space: Space, pod: str) -> int:
    """Return how often a pod's container was started again."""
    found = space.find("pod", pod)
    return 0 if found is None else int(found["status"]["containerStatuses"][0]["restartCount"])
