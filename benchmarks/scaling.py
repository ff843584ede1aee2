"""How fast the scaler answers KEDA, and what a round of questions takes, with a thousand workers that are fakes.

Every worker is an address of this machine's loopback network behind one server that sends a real worker's page. The
policy, the pages' reader and the external scaler are the operator's own, in one process, as they are in a cluster; the
client is grpcio's.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import uvloop
from aiohttp import web

from benchmarks import rows
from headrace_operator.kubernetes.scaling.pages import Pages
from headrace_operator.kubernetes.scaling.scaler import Scaler
from headrace_operator.kubernetes.scaling.visits import Visits
from headrace_operator.kubernetes.scaling.wants import Want, Wants
from headrace_operator.scaling.load import PoolLoad
from headrace_operator.scaling.policy import Policy, Seen
from headrace_operator.scaling.terms import Bounds, Pace, Terms
from headrace_operator.scaling.wire import SERVICE, MetricsQuestion, Reference
from headrace_worker.messages import Ready, Stats
from headrace_worker.server.metrics import Metrics

WORKERS = 1000
INTERVAL_S = 5.0
ROUNDS = 4
TARGET_S = 0.02
PLACE = ("team", "chat-decode")


def page() -> bytes:
    """Return what a busy worker says."""
    metrics = Metrics("chat", "chat-decode-0")
    metrics.ready(Ready("tcp://x", "hash", 4096, 16, 8192, 1 << 30))
    blocks = {"free": 1000, "cached": 2000, "active": 1090, "granted": 5, "quarantined": 1}
    counters = {"prompt_computed": 30_000, "prompt_cached": 12_000, "prompt_received": 5_000}
    metrics.take(Stats(running=20, waiting=3, waiting_prompt_tokens=900, blocks=blocks, counters=counters))
    return metrics.render()


def serve(told: Connection) -> None:
    """Answer for all workers until the process is ended; in a process of its own, as workers are."""

    async def answer_all() -> None:
        text = page()

        async def metrics(_: web.Request) -> web.Response:
            return web.Response(body=text)

        application = web.Application()
        application.router.add_get("/metrics", metrics)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "0.0.0.0", 0)
        await site.start()
        told.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(answer_all())


@contextlib.contextmanager
def workers() -> Iterator[list[str]]:
    """Yield the URLs of the fakes, each with an address of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    process.start()
    try:
        if not here.poll(60):
            raise TimeoutError("the fake workers did not start within a minute")
        port = here.recv()
        yield [f"http://127.1.{number // 250}.{number % 250 + 1}:{port}" for number in range(WORKERS)]
    finally:
        process.terminate()
        process.join(10)


def terms() -> Terms:
    """Return bounds that leave room."""
    slow, fast = Pace(300, "25%", 60), Pace(10, "100%", 30)
    return Terms(
        {"decode": Bounds(1, 2000, 1)}, waiting=4, tokens=16384, running=48, used=0.8, up=fast, down=slow, idle_s=600
    )


async def go_round(urls: list[str], wants: Wants, taken: list[float]) -> None:
    """Go round as the operator does: ask everybody, decide, tell."""
    pages, policy, made = Pages(Visits()), Policy(), terms()
    try:
        for _ in range(ROUNDS):
            began, used = time.monotonic(), time.process_time()
            await pages.look(urls)
            found = [pages.of(url) for url in urls]
            load = PoolLoad.of(one.page.load if one is not None else None for one in found)
            number = policy.decide(Seen({"decode": WORKERS}, {"decode": load}), made, began)["decode"]
            wants.put({PLACE: Want(number, load)})
            assert load.workers == WORKERS, f"{load.workers} of {WORKERS} workers answered"
            taken.append(time.process_time() - used)
            await asyncio.sleep(max(0.0, began + INTERVAL_S - time.monotonic()))
    finally:
        pages.close()


def keep_asking(port: int, told: Connection) -> None:
    """Ask for the number of workers until told to end, then say how long each answer took; KEDA is a process too."""
    question = MetricsQuestion(Reference(PLACE[1], PLACE[0]), "workers").encode()
    answers: list[float] = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(f"/{SERVICE}/GetMetrics")
        call(question, timeout=10)
        told.send("asking")
        while not told.poll(0.01):
            began = time.perf_counter()
            call(question, timeout=10)
            answers.append(time.perf_counter() - began)
    told.send(answers)


async def measure() -> tuple[list[float], list[float]]:
    """Return how long answers took while rounds went on beside them, and the processor time of each round."""
    wants = Wants()
    taken: list[float] = []
    wants.put({PLACE: Want(WORKERS, PoolLoad())})
    here, there = multiprocessing.Pipe()
    with workers() as urls:
        async with Scaler(wants).serving("127.0.0.1", 0) as port:
            client = multiprocessing.get_context("spawn").Process(target=keep_asking, args=(port, there), daemon=True)
            client.start()
            try:
                assert await asyncio.to_thread(here.recv) == "asking"
                await go_round(urls, wants, taken)
                here.send("enough")
                answers: list[float] = await asyncio.to_thread(here.recv)
            finally:
                client.terminate()
                client.join(10)
    return answers, taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="list of rows to add to (created when missing)")
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answers, taken = runner.run(measure())
    late_s = sorted(answers)[int(len(answers) * 0.99)]
    title = "scaler's answer to KEDA beside rounds over 1,000 workers"
    made = [
        rows.Row(f"{title}, p99", late_s * 1e3, "ms", "what was promised", TARGET_S * 1e3, ("<=", 1.0)),
        rows.Row(f"{title}, p50", statistics.median(answers) * 1e3, "ms"),
        rows.Row("processor time of a round over 1,000 workers", statistics.median(taken) * 1e3, "ms"),
    ]
    return rows.finish(made, given.out, "scaling")


if __name__ == "__main__":
    sys.exit(main())
