"""A deployment whose decode workers follow the load through KEDA, and what is seen of its pools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from e2e.scenarios.space import wait_for
from e2e.scenarios.traffic import problems, start
from e2e.scenarios.world import manifest, tell

if TYPE_CHECKING:
    from e2e.scenarios.space import Object, Space
    from e2e.scenarios.world import World

NAME: Final = "elastic"
POOL: Final = "llmpools.serving.headrace.dev"
QUICK: Final = {
    "up": {"stabilization": "2s", "every": "5s"},
    "down": {"stabilization": "20s", "change": "100%", "every": "5s"},
}
"""Paces for a test; a user's are minutes."""


def follows_the_load(world: World, space: Space, trigger: Object, *, says: str) -> None:
    """Put a load on one decode worker, and see KEDA's autoscaler ask for a second, and for one when it is over.

    Args:
        world: The cluster, with KEDA in it.
        space: An empty namespace.
        trigger: Fields of `spec.scaling` that choose the trigger.
        says: What the condition ScalingActive must say of it.
    """
    pools = {"prefill": {"maxReplicas": 1}, "decode": {"maxReplicas": 2}, "targets": {"runningRequests": 2}}
    space.apply(manifest(NAME, scaling={**QUICK, **pools, **trigger}))
    space.wait_ready(NAME, timeout_s=300)
    space.wait_condition(NAME, "ScalingActive", "True", says=says, timeout_s=90)
    wait_for(lambda: autoscaler(space) is not None, 90, "No HorizontalPodAutoscaler of the decode pool has a metric")
    assert wanted(space) == 1

    client = start(space, world.images.router, NAME, concurrency=6, tokens=48, seconds=600)
    tell("the load has begun")
    wait_for(lambda: wanted(space) == 2, 120, "Load did not raise the number of decode workers")
    tell("the autoscaler wants two")
    assert (autoscaler(space) or {})["status"]["desiredReplicas"] == 2
    wait_for(lambda: ready(space) == 2, 200, "The second decode worker is not ready")
    client.wait_answers(len(client.answers()) + 6, timeout_s=200)
    client.stop()
    answers = client.end(timeout_s=600)
    tell("the load has ended")
    wait_for(lambda: wanted(space) == 1, 180, "Silence did not lower the number of decode workers")
    tell("the autoscaler wants one")
    wait_for(lambda: len(space.pods(NAME, "decode")) == 1, 120, "There is not one decode worker")

    assert problems(answers) == []
    assert len({answer.decode for answer in answers}) == 2, "the second decode worker was given nothing"


def wanted(space: Space) -> int:
    """Return the number of decode workers that the pool asks for."""
    pool = space.find(POOL, f"{NAME}-decode")
    assert pool is not None, "the pool is gone"
    return int(pool["spec"]["replicas"])


def ready(space: Space) -> int:
    """Return the number of decode workers that have traffic."""
    pool = space.find(POOL, f"{NAME}-decode")
    return 0 if pool is None else int(pool.get("status", {}).get("readyReplicas", 0))


def autoscaler(space: Space, pool: str = f"{NAME}-decode") -> Object | None:
    """Return the HorizontalPodAutoscaler that KEDA made for a pool, once it has looked at its metric."""
    for one in space.listed("horizontalpodautoscalers.autoscaling"):
        mine = one["spec"]["scaleTargetRef"]["name"] == pool
        active = {each["type"]: each["status"] for each in one.get("status", {}).get("conditions", [])}
        if mine and active.get("ScalingActive") == "True":
            return one
    return None
