"""A prefill worker without a model, as a process of its own: it "computes" blocks whose bytes follow from the prompt.

Started by the tests with settings as JSON in its only argument. It says on stdout, one JSON line each: its address,
every attempt it was asked for, how each of them settled. It ends when its stdin ends.
"""

import ctypes
import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from headrace_api.frames import Token
from headrace_api.handoff import Attempt, Layout
from headrace_worker.transfer.courier import Courier
from headrace_worker.transfer.events import Asked, Event, Settled, Stopped
from headrace_worker.transfer.pick import pick


@dataclass(frozen=True)
class Settings:
    transport: str
    secret: str
    kv_hash: str
    incarnation: str
    port: int
    num_layers: int
    num_blocks: int
    block_bytes: int
    layer_s: float
    """Pause after each layer, as if it were computed."""
    hit_blocks: int
    """So many blocks of each sequence come from a prefix cache."""
    host: str = "127.0.0.1"
    advertise: str | None = None


def block_bytes(prompt: int, layer: int, block: int, size: int) -> bytes:
    """What a block of a sequence holds; never zeros, so that a missing write shows."""
    word = (prompt * 1_000_003 + layer * 1009 + block * 17) % 0xFFFF_FFFE + 1
    return (word.to_bytes(4, "little") * (size // 4 + 1))[:size]


class Core:
    """Computes one attempt after the other."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        size = settings.num_layers * settings.num_blocks * settings.block_bytes
        self.memory = bytearray(size)
        address = ctypes.addressof((ctypes.c_char * size).from_buffer(self.memory))
        self.layout = Layout(address, settings.num_layers, settings.num_blocks, settings.block_bytes)
        self.events: SimpleQueue[None] = SimpleQueue()
        self.stopped: set[str] = set()
        self.courier = Courier(
            worker="prefill-0",
            incarnation=settings.incarnation,
            kv_hash=settings.kv_hash,
            secret=settings.secret,
            host=settings.host,
            advertise=settings.advertise,
            port=settings.port,
            transport=pick(
                settings.transport,  # type: ignore[arg-type]  # the tests name a transport
                incarnation=settings.incarnation,
                host=settings.host,
                advertise=settings.advertise,
                secret=settings.secret,
            ),
            kv_address=address,
            layout=self.layout,
            silence_s=5.0,
            wake=lambda: self.events.put(None),
        )

    def serve(self, closed: threading.Event) -> None:
        while not closed.is_set():
            try:
                self.events.get(timeout=0.1)
            except Empty:
                continue
            self.take(self.courier.poll())
        self.courier.close()
        say(closed=True, threads=[thread.name for thread in threading.enumerate()])

    def take(self, events: list[Event]) -> None:
        asked: list[Attempt] = []
        for event in events:
            match event:
                case Asked(attempt=attempt):
                    say(asked=attempt.attempt)
                    asked.append(attempt)
                case Stopped(attempt=name, reason=reason):
                    self.stopped.add(name)
                    say(stopped=name, reason=reason)
                case Settled():
                    say(settled=event.attempt, outcome=event.outcome, sent=event.sent_bytes)
                case _:
                    say(event=type(event).__name__)
        for attempt in asked:
            self.compute(attempt)

    def compute(self, attempt: Attempt) -> None:
        settings, name = self.settings, attempt.attempt
        count = len(attempt.prompt_ids)
        offset = attempt.prompt_ids[0] % 3
        blocks = [(offset + 2 * number + number % 2) % settings.num_blocks for number in range(count)]
        self.courier.open(name)
        self.courier.starting(name)
        hit = min(settings.hit_blocks, count)
        for layer in range(settings.num_layers):
            self.fill(attempt, layer, range(hit), blocks)
        self.courier.ready_blocks(name, 0, blocks[:hit])
        for layer in range(settings.num_layers):
            if name in self.stopped:
                return
            self.fill(attempt, layer, range(hit, count), blocks)
            self.courier.layers_done(name, range(layer, layer + 1), hit, blocks[hit:])
            if settings.layer_s:
                time.sleep(settings.layer_s)
                self.take(self.courier.poll())
        self.courier.finish(name, Token(attempt.prompt_ids[0] + 1, -0.5, 0.25, ((7, -0.5),)), hit)

    def fill(self, attempt: Attempt, layer: int, numbers: range, blocks: list[int]) -> None:
        for number in numbers:
            at = self.layout.offset(layer, blocks[number])
            content = block_bytes(attempt.prompt_ids[0], layer, number, self.settings.block_bytes)
            self.memory[at : at + self.settings.block_bytes] = content


def say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    core = Core(Settings(**json.loads(sys.argv[1])))
    closed = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        closed.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    say(address=core.courier.address, pid=os.getpid())
    core.serve(closed)


if __name__ == "__main__":
    main()
