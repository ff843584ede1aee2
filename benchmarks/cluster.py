"""How long users wait on a real cluster with real pods: to Ready, from zero to an answer, to one worker more.

One kind node of this machine (`e2e.cluster`), our images on the node, the weights in the claim's volume: neither a
registry nor a package index is asked, so a real cluster adds its pulls and its download. Pods of the small model in
float32, one prefill and one decode worker, the operator installed by the packed chart. The load step is put on twice:
the operator scales by itself, then KEDA does (built first, which takes ten minutes once; `--no-keda` leaves it out).
Figures are medians over the rounds. `python -m benchmarks.cluster --out benchmarks/results/latest.json`.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from e2e.cluster.home import user_home
from e2e.keda.install import install_keda, remove_keda
from e2e.scenarios.elastic import autoscaler
from e2e.scenarios.install import NAMESPACE, install_operator, remove_operator
from e2e.scenarios.space import PORTS, Object, Space
from e2e.scenarios.traffic import problems, start
from e2e.scenarios.world import World, manifest, opened, tell

from benchmarks import rows
from headrace_api.names import REQUESTS_RUNNING

NAME: Final = "measured"
POOL: Final = "llmpools.serving.headrace.dev"
DEADLINE_S: Final = 300.0
STEP: Final = 6
"""Requests at once after the load step."""
RUNNING: Final = 2
"""Of them, that one worker may have."""
OWN: Final = "without KEDA"
KEDA: Final = "by KEDA"
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


def grown(world: World, space: Space, who: str) -> Figures:
    """Put a load on one decode worker that asks for two; return the seconds until each link of the chain knows."""
    (worker,) = (pod["metadata"]["name"] for pod in space.pods(NAME, "decode"))
    operator = Space(world.kubectl, NAMESPACE)
    client = start(space, world.images.router, NAME, concurrency=STEP, tokens=96, seconds=600)
    began = time.time()
    ends = {
        "the worker's own count above its target": until(lambda: _running(space, worker) > RUNNING, "no load"),
        "the operator's wish": until(lambda: _wish(operator, space) == 2, "the operator wants no second worker"),
        "another decode worker asked for": until(
            lambda: _pool(space)["spec"]["replicas"] == 2, "a second decode worker was not asked for"
        ),
        "another decode worker Ready": until(
            lambda: _pool(space)["status"].get("readyReplicas") == 2, "the second decode worker was not ready"
        ),
    }
    client.stop()
    if wrong := problems(client.end(DEADLINE_S)):
        raise RuntimeError(f"requests failed while a worker was added: {wrong[:3]}")
    return {f"{STEP} requests at once to {what}, {who}": end - began for what, end in ends.items()}


def stepped(world: World, who: str) -> Figures:
    """Give a namespace to a deployment of one decode worker, and measure a load step there."""
    with world.namespace("bench-step") as space:
        scaling = {**QUICK, "prefill": {"maxReplicas": 1}, "decode": {"maxReplicas": 2}}
        serve(space, manifest(NAME, scaling={**scaling, "targets": {"runningRequests": RUNNING}}))
        says = {OWN: "the operator scales by itself", KEDA: "KEDA scales"}[who]
        space.wait_condition(NAME, "ScalingActive", "True", says=says, timeout_s=DEADLINE_S)
        if who == KEDA:
            until(lambda: autoscaler(space, f"{NAME}-decode") is not None, "the autoscaler has no metric")
        return grown(world, space, who)


def _round(world: World) -> Figures:
    image, figures = world.images.router, Figures()
    with world.namespace("bench-ready") as space:
        figures |= applied(space, manifest(NAME))
    figures |= stepped(world, OWN)
    with world.namespace("bench-zero") as space:
        pool = {"minReplicas": 0, "maxReplicas": 1}
        serve(space, manifest(NAME, scaling={**QUICK, "prefill": pool, "decode": pool, "idleAfter": "10s"}))
        figures |= woken(space, image)
    return figures


def _with_keda(world: World, rounds: Sequence[Figures]) -> None:
    """Add the load step with KEDA to each round."""
    remove_keda(world.cluster)  # of a run that was killed
    install_keda(user_home(os.environ, Path.home()), world.cluster, tell)
    try:
        for number, figures in enumerate(rounds, 1):
            figures.update(stepped(world, KEDA))
            tell(f"round {number} with KEDA: {figures}")
    finally:
        remove_keda(world.cluster)


def _worker_times(pod: Object) -> tuple[float, float]:
    """Return when a worker's container started, and when its pod became Ready, in seconds of the epoch."""
    (container,) = pod["status"]["containerStatuses"]
    (ready,) = (each for each in pod["status"]["conditions"] if each["type"] == "Ready")
    return _epoch_s(container["state"]["running"]["startedAt"]), _epoch_s(ready["lastTransitionTime"])


def _epoch_s(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _running(space: Space, pod: str) -> float:
    """Return how many requests a worker says that it runs."""
    path = f"/api/v1/namespaces/{space.name}/pods/{pod}:{PORTS['worker']}/proxy/metrics"
    return _sample(space.kubectl("get", "--raw", path), REQUESTS_RUNNING)


def _wish(operator: Space, space: Space) -> float:
    """Return how many decode workers the operator wants."""
    pods = operator.listed("pods", "app.kubernetes.io/name=headrace-operator")
    path = f"/api/v1/namespaces/{operator.name}/pods/{pods[0]['metadata']['name']}:8080/proxy/metrics"
    labels = f'{{namespace="{space.name}",pool="{NAME}-decode"}}'
    return _sample(space.kubectl("get", "--raw", path), f"headrace_operator_workers_wanted{labels}")


def _sample(page: str, name: str) -> float:
    """Return the first sample of a page of metrics that begins so; 0 where there is none."""
    lines = (line for line in page.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
    return float(next(lines, " 0").rpartition(" ")[2])


def _pool(space: Space) -> Object:
    return space.find(POOL, f"{NAME}-decode") or {"spec": {"replicas": 0}, "status": {}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and store where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="list of rows to add to (created when missing)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keda", action=argparse.BooleanOptionalAction, default=True, help="load steps by KEDA too")
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
            if given.keda:
                _with_keda(world, rounds)
        finally:
            remove_operator(world.helm, operator)
    made = [rows.Row(name, statistics.median(one[name] for one in rounds), "s") for name in rounds[0]]
    return rows.finish(made, given.out, "cluster")


if __name__ == "__main__":
    sys.exit(main())
