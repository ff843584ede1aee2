"""Hand-off bandwidth of 64 MiB of KV beside raw NIXL: two processes, both ways in turns over memory of the same size.

Ours is what a decode worker waits for: from the grant of its blocks, over the control socket, the post, the copy and
the admitting notification, to the event that the core takes. Raw NIXL is the same bytes and descriptors from the post
to the target's sight of a notification that follows them, with a target that does nothing but look for it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import numpy as np

from benchmarks import rows
from headrace_api.frames import Token
from headrace_api.handoff import Attempt, Grant, Layout
from headrace_api.sampling import Sampling
from headrace_worker.messages import PrefillPeer
from headrace_worker.transfer.courier import Courier
from headrace_worker.transfer.events import Admitted, Asked, Event, Settled, Started
from headrace_worker.transfer.nixl import NixlTransport
from headrace_worker.transfer.runs import merge, spans
from headrace_worker.transfer.sockets import SocketTransport
from headrace_worker.transfer.transport import Span, Transport

LAYERS, BLOCKS, BLOCK_BYTES = 32, 128, 16 * 1024
SIZE = LAYERS * BLOCKS * BLOCK_BYTES
HOST, SECRET, DEADLINE_S = "127.0.0.1", "benchmark", 60.0
BLOCK_ORDERS = {"neighbouring blocks": list(range(BLOCKS)), "scattered blocks": Random(0).sample(range(BLOCKS), BLOCKS)}
LOOK_S = 0.0001
"""How often raw NIXL's target looks: without any pause it takes a core from the copy."""
E = TypeVar("E", bound=Event)


class Side:
    """One process's memory, with a courier of its own and a bare transport to compare with."""

    def __init__(self, name: str) -> None:
        self.memory = np.full((2, SIZE), 1, dtype=np.uint8)
        """Touched once, so that no page is first mapped while it is timed; a row for each way."""
        base = int(self.memory.ctypes.data)
        self.layout = Layout(base, LAYERS, BLOCKS, BLOCK_BYTES)
        self.raw_layout = Layout(base + SIZE, LAYERS, BLOCKS, BLOCK_BYTES)
        self.woken = threading.Event()
        self.couriers = {
            "nixl": self._courier(name, NixlTransport(incarnation=name, host=HOST)),
            "sockets": self._courier(name, SocketTransport(incarnation=name, host=HOST, secret=SECRET)),
        }
        self.raw = NixlTransport(incarnation=f"raw-{name}", host=HOST)
        self.raw.register(self.raw_layout.base, SIZE, None)

    def _courier(self, name: str, transport: Transport) -> Courier:
        return Courier(
            worker=name,
            incarnation=name,
            kv_hash="benchmark",
            secret=SECRET,
            host=HOST,
            port=0,
            transport=transport,
            kv_address=self.layout.base,
            layout=self.layout,
            silence_s=DEADLINE_S,
            wake=self.woken.set,
        )

    def wait(self, courier: Courier, kind: type[E]) -> E:
        """Return the next event of this kind; others are dropped."""
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until:
            self.woken.clear()
            for event in courier.poll():
                if isinstance(event, kind):
                    return event
            self.woken.wait(1.0)
        raise TimeoutError(f"no {kind.__name__} within {DEADLINE_S} s")

    def close(self) -> None:
        """End all threads."""
        self.raw.close()
        for courier in self.couriers.values():
            courier.close()


def serve() -> None:
    """Be the prefill worker: do what each line on stdin asks for."""
    side = Side("source")
    say(addresses={name: courier.address for name, courier in side.couriers.items()})
    hello = json.loads(sys.stdin.readline())
    peer = Layout(*hello["layout"])
    side.raw.connect("raw-target", bytes.fromhex(hello["metadata"]), peer)
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "raw":
            runs = tuple(merge(zip(range(BLOCKS), command["blocks"], strict=True)))
            wanted = [span for layer in range(LAYERS) for span in spans(runs, layer, layer, side.raw_layout, peer)]
            say(began=write_raw(side.raw, wanted))
        else:
            hand_over(side, side.couriers[command["do"]])
    side.close()


def write_raw(transport: NixlTransport, wanted: Sequence[Span]) -> float:
    """Write and notify; return when it began. The clock is one for all processes of a Linux machine."""
    began = time.perf_counter()
    write = transport.write("raw-target", wanted)
    while not transport.done(write):
        pass
    transport.notify("raw-target", b"done")
    return began


def hand_over(side: Side, courier: Courier) -> None:
    """Serve one attempt whose blocks are all computed before they are granted."""
    name = side.wait(courier, Asked).attempt.attempt
    courier.ready_blocks(name, 0, range(BLOCKS))
    courier.finish(name, Token(1, 0.0, 0.0), BLOCKS)
    courier.starting(name)
    settled = side.wait(courier, Settled)
    say(outcome=settled.outcome, seconds=settled.transfer_s)


def say(**line: Any) -> None:
    """Answer the process that started this one."""
    print(json.dumps(line), flush=True)


class Source:
    """The other process."""

    def __init__(self, side: Side) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.handoff_raw", "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addresses = self.hear()["addresses"]
        layout = [side.raw_layout.base, LAYERS, BLOCKS, BLOCK_BYTES]
        self.say(layout=layout, metadata=side.raw.metadata().hex())

    def say(self, **line: Any) -> None:
        """Send a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Return its next line."""
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(DEADLINE_S)


def fetch_raw(side: Side, source: Source, blocks: Sequence[int]) -> float:
    """Return the seconds from the post to the target's sight of the notification."""
    source.say(do="raw", blocks=blocks)
    until = time.perf_counter() + DEADLINE_S
    while not side.raw.notifications():
        if time.perf_counter() > until:
            raise TimeoutError(f"raw NIXL brought nothing within {DEADLINE_S} s")
        time.sleep(LOOK_S)
    ended = time.perf_counter()
    return ended - float(source.hear()["began"])


def fetch(side: Side, source: Source, transport: str, name: str, blocks: Sequence[int]) -> float:
    """Return the seconds from the grant to the admission."""
    courier = side.couriers[transport]
    source.say(do=transport)
    attempt = Attempt(name, (1,), (), 0, Sampling(max_tokens=1), 0, DEADLINE_S)
    courier.ask(PrefillPeer("source", source.addresses[transport], "source"), attempt)
    incarnation = side.wait(courier, Started).incarnation
    began = time.perf_counter()
    courier.grant(incarnation, Grant(name, 0, tuple(blocks), DEADLINE_S))
    side.wait(courier, Admitted)
    took = time.perf_counter() - began
    source.hear()
    return took


def measure(rounds: int) -> list[rows.Row]:
    """Run each way in turns and return medians."""
    side = Side("target")
    source = Source(side)
    made = []
    for order, blocks in BLOCK_ORDERS.items():
        took: dict[str, list[float]] = {"raw": [], "nixl": [], "sockets": []}
        for turn in range(rounds + 2):
            seconds = {"raw": fetch_raw(side, source, blocks)}
            for transport in side.couriers:
                seconds[transport] = fetch(side, source, transport, f"{order} {transport} {turn}", blocks)
            if turn >= 2:  # the first rounds connect and warm up
                for way, value in seconds.items():
                    took[way].append(value)
        raw, ours, plain = (SIZE / statistics.median(took[way]) / 1e9 for way in ("raw", "nixl", "sockets"))
        target = (">=", 0.9)
        made += [
            rows.Row(f"hand-off of 64 MiB, {order}", ours, "GB/s", "raw NIXL, the same descriptors", raw, target),
            rows.Row(f"hand-off of 64 MiB, {order}, sockets", plain, "GB/s", "raw NIXL, the same descriptors", raw),
        ]
    source.close()
    side.close()
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and store where asked; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="list of rows to add to (created when missing)")
    parser.add_argument("--rounds", type=int, default=31, help="rounds that count")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        serve()
        return 0
    made = measure(given.rounds)
    return rows.finish(made, given.out, "handoff_raw")


if __name__ == "__main__":
    sys.exit(main())
