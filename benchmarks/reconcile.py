"""What the operator costs, beside a client that only applies the same objects; nothing runs in the pods.

A control plane of plain processes with simulated nodes (`e2e.cluster`, level `api`), its rate limits raised as for a
big cluster; a server of ours answers in the name of all pods, so that hand-offs can be tried. In each round the same
100 deployments are offered at 5 a second, once as objects rendered beforehand to a bare client, once as resources to
the operator, a process of its own. Then 1,000 pods at once, a resync and one changed field. Figures are medians over
the rounds. `python -m benchmarks.reconcile --out benchmarks/results/latest.json`.
"""

import argparse
import asyncio
import dataclasses
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from e2e.cluster.api import ApiCluster
from e2e.cluster.home import user_home
from e2e.cluster.kubectl import Kubectl

from benchmarks import rows
from benchmarks.answering import answering
from benchmarks.running import Call, Operator, operator
from benchmarks.watching import Seen, watching
from headrace_api.names import API_VERSION, LABEL_MANAGED_BY, MANAGER
from headrace_api.resources import LLMDeployment
from headrace_operator.kubernetes import credentials
from headrace_operator.kubernetes.kinds import LLM_DEPLOYMENTS, PODS, kind_of
from headrace_operator.kubernetes.session import Session
from headrace_operator.objects.child import Child, Lane
from headrace_operator.objects.children import deployment_children
from headrace_operator.objects.revision import stamped
from headrace_operator.objects.site import Site
from headrace_operator.plan import pools_of

ROOT = Path(__file__).parent.parent
PEER = "bare client"
NAMESPACE = "models"
SITE = Site("headrace-worker:bench", "headrace-router:bench")
OFFERED_PER_S = 5.0
DEADLINE_S = 300.0
LATER_IN_FLIGHT = 4
GOALS_S = {0.5: 1.48, 0.99: 2.40}
GOAL_1000_S = 49.7
GOAL = "goal"
"""In place of a peer: an absolute bound, taken from what other operators publish for machines of their own."""


def resource(number: int, prefills: int, decodes: int) -> dict[str, Any]:
    """Return one LLMDeployment with all its children and one router pod; the file needs no fetching."""
    return {
        "apiVersion": API_VERSION,
        "kind": "LLMDeployment",
        "metadata": {"name": f"model-{number:03}", "namespace": NAMESPACE},
        "spec": {
            "model": {"uri": "file:///models/model.gguf"},
            "prefill": {"replicas": prefills},
            "decode": {"replicas": decodes},
        },
    }


def rendered(manifest: dict[str, Any]) -> tuple[Child, ...]:
    """Return the children that the operator would make of a resource."""
    deployment = LLMDeployment.model_validate(manifest)
    pools = [stamped(deployment, pool, SITE) for pool in pools_of(deployment)]
    return deployment_children(deployment, pools, SITE, secret="0" * 64)


def names(children: Sequence[Child]) -> frozenset[tuple[str, str]]:
    """Return kind and name of each child that the watches see; nobody but its pods reads a Secret."""
    return frozenset((child.kind, child.name) for child in children if child.kind != "Secret")


# --- the two who apply ---------------------------------------------------------------------------------------


async def apply_bare(session: Session, children: Sequence[Child]) -> None:
    """Apply one deployment's objects as fast as the order of their needs allows, and nothing else."""
    for child in (child for child in children if child.lane is Lane.FIRST):
        await _put(session, child)
    gate = asyncio.Semaphore(LATER_IN_FLIGHT)

    async def later(child: Child) -> None:
        async with gate:
            await _put(session, child)

    await asyncio.gather(*(later(child) for child in children if child.lane is Lane.LATER))


async def _put(session: Session, child: Child) -> None:
    kind = kind_of(child.api_version, child.kind)
    await session.apply(kind, NAMESPACE, child.name, json.dumps(child.manifest).encode(), force=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Bench:
    """What all rounds share."""

    kubectl: Kubectl
    session: Session
    seen: Seen
    deployments: int


# --- rounds --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds from a deployment's offer, in order of size: to its pods, and to all of its children."""

    pods_s: tuple[float, ...]
    children_s: tuple[float, ...]


async def offered(
    seen: Seen,
    manifests: Sequence[dict[str, Any]],
    pods: int,
    begin: Callable[[dict[str, Any]], Coroutine[Any, Any, None]],
) -> Latencies:
    """Begin a deployment every fifth of a second and note when its objects come to be."""
    expected = {manifest["metadata"]["name"]: names(rendered(manifest)) for manifest in manifests}
    start, offers = time.monotonic(), {}
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        for number, manifest in enumerate(manifests):
            await asyncio.sleep(max(0.0, start + number / OFFERED_PER_S - time.monotonic()))
            offers[manifest["metadata"]["name"]] = time.monotonic()
            tasks.create_task(begin(manifest))
        for name, children in expected.items():
            await seen.all_of(name, children, pods)
    ends = {name: (seen.pods_at(name, pods), seen.children_at(children)) for name, children in expected.items()}
    return Latencies(
        tuple(sorted(ends[name][0] - offer for name, offer in offers.items())),
        tuple(sorted(ends[name][1] - offer for name, offer in offers.items())),
    )


async def empty(bench: Bench) -> None:
    """Take everything away and wait until it has gone."""
    kinds = ",".join(kind.plural for kind in bench.seen.kinds if kind is not PODS)
    for chosen in (("llmdeployments", "--all"), (kinds, "--selector", f"{LABEL_MANAGED_BY}={MANAGER}")):
        await asyncio.to_thread(bench.kubectl, "delete", "--namespace", NAMESPACE, "--wait=false", *chosen)
    async with asyncio.timeout(DEADLINE_S):
        await bench.seen.nothing_left()
    bench.seen.reset()


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of the values, in order of size, that so large a share of them does not exceed."""
    return values[max(0, math.ceil(len(values) * share) - 1)]


@dataclasses.dataclass(slots=True)
class Round:
    """What one round found."""

    bare: Latencies
    ours: Latencies
    cpu_s: float
    """Per deployment."""
    calls: dict[str, float]
    """Per deployment, by what they are for."""
    children: int
    memory_mb: float
    all_ready_s: float
    """From the first apply of 1,000 pods' deployments until the last of them and of their children is there."""
    resync: Counter[Call]
    """Writes."""
    change: Counter[Call]


async def measure(cluster: ApiCluster, bench: Bench) -> Round:
    """Run one round, both sides on an empty namespace each time."""
    session, seen = bench.session, bench.seen
    small = [resource(number, 2, 3) for number in range(bench.deployments)]
    big = [resource(number, 4, 5) for number in range(bench.deployments)]
    children = {one["metadata"]["name"]: rendered(one) for one in small}

    async def bare(manifest: dict[str, Any]) -> None:
        await apply_bare(session, children[manifest["metadata"]["name"]])

    async def ours(manifest: dict[str, Any]) -> None:
        await session.create(LLM_DEPLOYMENTS, NAMESPACE, json.dumps(manifest).encode())

    by_client = await offered(seen, small, 6, bare)
    await empty(bench)
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder, operator(cluster, Path(folder), SITE) as process:
        spent, calls = process.spent_s(), process.calls()
        by_operator = await offered(seen, small, 6, ours)
        await process.idle()
        spent, calls = process.spent_s() - spent, process.calls() - calls
        resync = await writes_of(process, lambda: touch_all(session, small))
        change = await writes_of(process, lambda: scale_one(session, small[0]))
        memory_mb = process.memory_mb()
        await empty(bench)
        all_ready_s = await at_once(session, seen, big, 10)
        memory_mb = max(memory_mb, process.memory_mb())
        await empty(bench)
    return Round(
        by_client,
        by_operator,
        spent / len(small),
        {purpose: count / len(small) for purpose, count in calls.items()},
        len(children[small[0]["metadata"]["name"]]),
        memory_mb,
        all_ready_s,
        resync,
        change,
    )


async def at_once(session: Session, seen: Seen, manifests: Sequence[dict[str, Any]], pods: int) -> float:
    """Create all resources at once; return the seconds until all pods were ready and all children there."""
    start = time.monotonic()
    await asyncio.gather(
        *(session.create(LLM_DEPLOYMENTS, NAMESPACE, json.dumps(manifest).encode()) for manifest in manifests)
    )
    expected = {manifest["metadata"]["name"]: names(rendered(manifest)) for manifest in manifests}
    async with asyncio.timeout(DEADLINE_S):
        for name, children in expected.items():
            await seen.all_of(name, children, pods)
        await seen.ready(len(manifests) * pods)
    last = max(seen.children_at(children) for children in expected.values())
    return max(last, seen.ready_at(len(manifests) * pods)) - start


async def writes_of(process: Operator, act: Callable[[], Awaitable[None]]) -> Counter[Call]:
    """Return the writes that the operator answers a change with."""
    await process.idle()
    before = process.writes()
    await act()
    await process.idle()
    return process.writes() - before


async def touch_all(session: Session, manifests: Sequence[dict[str, Any]]) -> None:
    """Change an annotation of every resource: each is looked at again, and nothing is to do."""
    for manifest in manifests:
        note = {"metadata": {"annotations": {"touched": str(time.time_ns())}}}
        await session.merge(LLM_DEPLOYMENTS, NAMESPACE, manifest["metadata"]["name"], note)


async def scale_one(session: Session, manifest: dict[str, Any]) -> None:
    """Ask for one decode worker more."""
    spec = {"spec": {"decode": {"replicas": manifest["spec"]["decode"]["replicas"] + 1}}}
    await session.merge(LLM_DEPLOYMENTS, NAMESPACE, manifest["metadata"]["name"], spec)


# --- the run -------------------------------------------------------------------------------------------------


PARTS: dict[str, Callable[[Latencies], tuple[float, ...]]] = {
    "6 pods exist": lambda one: one.pods_s,
    "all children applied": lambda one: one.children_s,
}


def table(rounds: Sequence[Round]) -> list[rows.Row]:
    """Return the rows: medians over the rounds."""

    def median(pick: Callable[[Round], float]) -> float:
        return statistics.median(pick(one) for one in rounds)

    made = []
    for label, pick in PARTS.items():
        for share, goal_s in GOALS_S.items():
            ours = median(lambda one, pick=pick, share=share: percentile(pick(one.ours), share))  # type: ignore[misc]
            bare = median(lambda one, pick=pick, share=share: percentile(pick(one.bare), share))  # type: ignore[misc]
            name = f"operator, 100 deployments at 5/s: created to {label}, P{share * 100:g}"
            made.append(rows.Row(name, ours, "s", PEER, bare, ("<=", 1.15)))
            made.append(rows.Row(f"{name}, beside the goal", ours, "s", GOAL, goal_s, ("<=", 1.0)))
    first = rounds[0]
    return [
        *made,
        rows.Row(
            "operator: processor time per deployment", 1000 * median(lambda one: one.cpu_s), "ms", GOAL, 20, ("<=", 1.0)
        ),
        rows.Row(
            "operator: calls per deployment",
            median(lambda one: sum(one.calls.values())),
            "",
            "children + 2",
            first.children + 2,
            ("<=", 1.0),
        ),
        *(
            rows.Row(f"operator: of these for {purpose}", median(lambda one, purpose=purpose: one.calls[purpose]), "")  # type: ignore[misc]
            for purpose in sorted(first.calls)
        ),
        rows.Row(
            "operator: memory with 100 deployments", max(one.memory_mb for one in rounds), "MB", GOAL, 150, ("<=", 1.0)
        ),
        rows.Row(
            "operator, 1,000 pods at once: all ready",
            median(lambda one: one.all_ready_s),
            "s",
            GOAL,
            GOAL_1000_S,
            ("<=", 1.0),
        ),
        rows.Row(
            "operator: writes of a resync of 100 unchanged deployments", max(one.resync.total() for one in rounds), ""
        ),
        rows.Row("operator: writes after one changed number of workers", median(lambda one: one.change.total()), ""),
    ]


def main() -> int:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--deployments", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        home = dataclasses.replace(user_home(os.environ, Path.home()), run=Path(folder) / "run")
        cluster = ApiCluster(home, print, nodes=8)
        cluster.up()
        try:
            rounds = asyncio.run(run(cluster, options.rounds, options.deployments))
        finally:
            cluster.down()
    return rows.finish(table(rounds), options.out, "reconcile")


def _listed(writes: Counter[Call]) -> str:
    return ", ".join(f"{verb} {kind} x{count}" for (verb, kind), count in sorted(writes.items())) or "without a write"


async def run(cluster: ApiCluster, count: int, deployments: int) -> list[Round]:
    """Return the rounds' findings, told as they come."""
    kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig)
    kubectl.define((ROOT / "crds").glob("*.yaml"), timeout_s=30)
    kubectl("create", "namespace", NAMESPACE)
    rounds = []
    async with (
        Session(await credentials.load(str(cluster.kubeconfig))) as session,
        watching(session, NAMESPACE) as seen,
        answering(seen.name_of),
    ):
        for number in range(1, count + 1):
            found = await measure(cluster, Bench(kubectl, session, seen, deployments))
            print(
                f"round {number}: children P50 {percentile(found.ours.children_s, 0.5):.2f} s "
                f"(bare {percentile(found.bare.children_s, 0.5):.2f}), 1,000 pods {found.all_ready_s:.1f} s, "
                f"{1000 * found.cpu_s:.1f} ms and {sum(found.calls.values()):.1f} calls a deployment, "
                f"{found.memory_mb:.0f} MB, resync {_listed(found.resync)}, change {_listed(found.change)}",
                flush=True,
            )
            rounds.append(found)
    return rounds


if __name__ == "__main__":
    sys.exit(main())
