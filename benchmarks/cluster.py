"""How long users wait on a real cluster with real pods: to Ready, from zero to an answer, to one worker more.

One kind node of this machine (`e2e.cluster`), our images on the node, the weights in the claim's volume: neither a
registry nor a package index is asked, so a real cluster adds its pulls and its download. Pods of the small model in
float32, one prefill and one decode worker, the operator installed by the packed chart. Figures are medians over the
rounds. `python -m benchmarks.cluster --out benchmarks/results/latest.json`.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from e2e.scenarios.install import NAMESPACE, install_operator, remove_operator
from e2e.scenarios.space import Object, Space
from e2e.scenarios.traffic import problems, start
from e2e.scenarios.world import World, manifest, opened, tell

from benchmarks import rows

NAME: Final = "measured"
POOL: Final = "llmpools.serving.headrace.dev"
DEADLINE_S: Final = 300.0
STEP: Final = 6
"""Requests at once after the load step; one worker may have two."""
QUICK: Final = {"up": {"stabilization": "0s", "every": "5s"}, "down": {"stabilization": "10s", "change": "100%"}}
POLL_S: Final = 0.1

Figures = dict[str, float]


def until(holds: Callable[[], object], what: str) -> float:
    """Wait until something holds and return the time when it was seen.

    Raises:
        RuntimeError: It does not hold in time.
    """
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{what} within {DEADLINE_S:.0f} s")
        time.sleep(POLL_S)
    return time.time()


def serve(space: Space, resource: Object) -> tuple[float, float]:
    """Apply a deployment and wait until it is Ready; return when each of the two was."""
    began = time.time()
    space.apply(resource)
    condition = ("wait", f"llm/{NAME}", "--for=condition=Ready", f"--timeout={DEADLINE_S:.0f}s")
    space.run(*condition, timeout_s=DEADLINE_S + 10)
    return began, time.time()


def applied(space: Space, resource: Object) -> Figures:
    """Apply a deployment; return the seconds until it is Ready, and what of them its slowest worker took for what."""
    began, ready = serve(space, resource)
    started, passed = zip(*map(_worker_times, space.pods(NAME)), strict=True)
    return {
        "kubectl apply to Ready, images on the node and weights in the claim": ready - began,
        "of that: until the last worker's process starts (1 s grain)": max(started) - began,
        "of that: from there to its hand-off proved (1 s grain)": max(passed) - max(started),
    }


def woken(space: Space, image: str) -> Figures:
    """Wait until idle workers are gone, ask once, return the seconds to the first piece of text."""
    until(
        lambda: not space.listed("pods", f"serving.headrace.dev/deployment={NAME},serving.headrace.dev/role"), "no end"
    )
    client = start(space, image, NAME, count=1)
    (answer,) = client.end(DEADLINE_S)
    if answer.problem is not None or answer.first_s is None:
        raise RuntimeError(f"the first request after zero failed: {answer.problem}")
    return {"from zero to the first token of the request that woke it": answer.first_s - answer.start_s}


def grown(space: Space, image: str) -> Figures:
    """Put a load on one decode worker that asks for two; return the seconds until both are ready."""
    client = start(space, image, NAME, concurrency=STEP, tokens=96, seconds=600)
    began = time.time()
    asked = until(lambda: _pool(space)["spec"]["replicas"] == 2, "a second decode worker was not asked for")
    ready = until(lambda: _pool(space)["status"].get("readyReplicas") == 2, "the second decode worker was not ready")
    client.stop()
    if wrong := problems(client.end(DEADLINE_S)):
        raise RuntimeError(f"requests failed while a worker was added: {wrong[:3]}")
    return {
        f"{STEP} requests at once to another decode worker asked for": asked - began,
        f"{STEP} requests at once to another decode worker Ready": ready - began,
    }


def _round(world: World) -> Figures:
    image, figures = world.images.router, Figures()
    with world.namespace("bench-ready") as space:
        figures |= applied(space, manifest(NAME))
    with world.namespace("bench-step") as space:
        scaling = {**QUICK, "prefill": {"maxReplicas": 1}, "decode": {"maxReplicas": 2}}
        serve(space, manifest(NAME, scaling={**scaling, "targets": {"runningRequests": 2}}))
        figures |= grown(space, image)
    with world.namespace("bench-zero") as space:
        pool = {"minReplicas": 0, "maxReplicas": 1}
        serve(space, manifest(NAME, scaling={**QUICK, "prefill": pool, "decode": pool, "idleAfter": "10s"}))
        figures |= woken(space, image)
    return figures


def _worker_times(pod: Object) -> tuple[float, float]:
    """Return when a worker's container started, and when its pod became Ready, in seconds of the epoch."""
    (container,) = pod["status"]["containerStatuses"]
    (ready,) = (each for each in pod["status"]["conditions"] if each["type"] == "Ready")
    return _epoch_s(container["state"]["running"]["startedAt"]), _epoch_s(ready["lastTransitionTime"])


def _epoch_s(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _pool(space: Space) -> Object:
    return space.find(POOL, f"{NAME}-decode") or {"spec": {"replicas": 0}, "status": {}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and store where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="list of rows to add to (created when missing)")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    rounds: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as world:
        operator = Space(world.kubectl, NAMESPACE)
        remove_operator(world.helm, operator)
        install_operator(world.kubectl, world.helm, world.chart)
        try:
            for number in range(1, given.rounds + 1):
                rounds.append(_round(world))
                tell(f"round {number}: {rounds[-1]}")
        finally:
            remove_operator(world.helm, operator)
    made = [rows.Row(name, statistics.median(one[name] for one in rounds), "s") for name in rounds[0]]
    return rows.finish(made, given.out, "cluster")


if __name__ == "__main__":
    sys.exit(main())
