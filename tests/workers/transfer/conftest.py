"""Two real processes for every test of the protocol: a prefill worker (`peer.py`) and the test itself as decode."""

import ctypes
import importlib.util
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pytest

from headrace_api.handoff import Attempt, Grant, Layout
from headrace_api.sampling import Sampling
from headrace_worker.messages import PrefillPeer
from headrace_worker.transfer.courier import Courier
from headrace_worker.transfer.events import Admitted, Event, Started
from headrace_worker.transfer.pick import pick
from headrace_worker.transfer.transport import Transport

DEADLINE_S = 60.0
E = TypeVar("E", bound=Event)
HERE = Path(__file__).parent


@cache
def load_peer() -> ModuleType:
    """Import the script that the other process runs, for what its blocks hold."""
    spec = importlib.util.spec_from_file_location("transfer_peer", HERE / "peer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Shape:
    num_layers: int = 4
    num_blocks: int = 64
    block_bytes: int = 4096


class Prefill:
    """The other process, and what it said."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "peer.py"), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.said: list[dict[str, Any]] = []
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        self.address: str = self.wait(lambda line: "address" in line)["address"]

    @property
    def peer(self) -> PrefillPeer:
        return PrefillPeer("prefill-0", self.address, self.settings["incarnation"])

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def wait(self, wanted: Callable[[dict[str, Any]], bool], deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        """Return the first line, said now or before, that is wanted."""
        for line in self.said:
            if wanted(line):
                return line
        until = time.monotonic() + deadline_s
        while True:
            line = self.lines.get(timeout=max(0.0, until - time.monotonic()))
            self.said.append(line)
            if wanted(line):
                return line

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def stop(self) -> None:
        """Stop it; one thread takes the signal, and until it is scheduled the others go on."""
        self.signal(signal.SIGSTOP)
        until = time.monotonic() + DEADLINE_S
        while any(_state(task) not in "Tt" for task in Path(f"/proc/{self.process.pid}/task").glob("*")):
            assert time.monotonic() < until, "the process does not stop"
            time.sleep(0.001)

    def end(self) -> int:
        """Let it close its courier and exit."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(DEADLINE_S)
        self._release()
        return code

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)
        self._release()

    def _release(self) -> None:
        self.thread.join(DEADLINE_S)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None and not stream.closed:
                stream.close()


class Decode:
    """The test's own side: memory, a courier, and all events so far."""

    def __init__(self, shape: Shape, transport: Transport, **options: Any) -> None:
        size = shape.num_layers * shape.num_blocks * shape.block_bytes
        self.memory = bytearray(size)
        self.address = ctypes.addressof((ctypes.c_char * size).from_buffer(self.memory))
        self.layout = Layout(self.address, shape.num_layers, shape.num_blocks, shape.block_bytes)
        self.woken = threading.Event()
        self.events: list[Event] = []
        settings = {
            "worker": "decode-0",
            "incarnation": "d" * 16,
            "kv_hash": "hash-a",
            "secret": "a secret",
            "silence_s": 5.0,
            "host": "127.0.0.1",
            **options,
        }
        self.courier = Courier(
            **settings,
            port=0,
            transport=transport,
            kv_address=self.address,
            layout=self.layout,
            wake=self.woken.set,
        )

    def wait(self, wanted: Callable[[Event], bool], deadline_s: float = DEADLINE_S) -> Event:
        """Return the first event, now or before, that is wanted; it is taken off the list."""
        until = time.monotonic() + deadline_s
        while True:
            self.woken.clear()
            self.events += self.courier.poll()
            for event in self.events:
                if wanted(event):
                    self.events.remove(event)
                    return event
            left = until - time.monotonic()
            if left <= 0 or not self.woken.wait(left):
                self.events += self.courier.poll()
                if not any(wanted(event) for event in self.events):
                    raise AssertionError(f"the event did not come within {deadline_s} s; came: {self.events}")

    def missing(self, unwanted: Callable[[Event], bool], patience_s: float) -> bool:
        """Return True when no such event came within this time; raise with the event when it did."""
        try:
            event = self.wait(unwanted, patience_s)
        except AssertionError:
            return True
        raise AssertionError(f"too early: {event}; also came: {self.events}")

    def expect(self, kind: type[E], attempt: str | None = None, deadline_s: float = DEADLINE_S) -> E:
        event = self.wait(
            lambda event: isinstance(event, kind) and (attempt is None or _attempt_of(event) == attempt), deadline_s
        )
        assert isinstance(event, kind)
        return event

    def ask(self, prefill: Prefill, name: str, prompt: int, num_blocks: int) -> None:
        """Ask for a sequence of so many blocks; `peer.py` takes one prompt token for a block."""
        ids = (prompt,) * num_blocks
        self.courier.ask(prefill.peer, Attempt(name, ids, (), 0, Sampling(max_tokens=1), 0, 10.0))

    def start(self, prefill: Prefill, name: str, prompt: int, num_blocks: int) -> str:
        """Ask and wait for the start; return the incarnation to grant to."""
        self.ask(prefill, name, prompt, num_blocks)
        return self.expect(Started, name).incarnation

    def grant(self, incarnation: str, name: str, blocks: Sequence[int], first: int = 0, lease_s: float = 20.0) -> None:
        self.courier.grant(incarnation, Grant(name, first, tuple(blocks), lease_s))

    def fetch(self, prefill: Prefill, name: str, prompt: int, blocks: Sequence[int]) -> Admitted:
        """Run a whole attempt."""
        self.grant(self.start(prefill, name, prompt, len(blocks)), name, blocks)
        return self.expect(Admitted, name)

    def expected(self, prompt: int, blocks: Sequence[int], first: int = 0, base: bytes | None = None) -> bytes:
        """Return what all of the memory must be after this attempt and no other change to `base`."""
        memory = bytearray(base if base is not None else len(self.memory))
        for layer in range(self.layout.num_layers):
            for number, block in enumerate(blocks):
                at, size = self.layout.offset(layer, block), self.layout.block_bytes
                memory[at : at + size] = load_peer().block_bytes(prompt, layer, first + number, size)
        return bytes(memory)

    def fill(self, block: int, byte: int) -> None:
        """Use a block for something else, in all layers."""
        for layer in range(self.layout.num_layers):
            at = self.layout.offset(layer, block)
            self.memory[at : at + self.layout.block_bytes] = bytes([byte]) * self.layout.block_bytes

    def has(self, layer: int, block: int) -> bool:
        """Whether anything was written there."""
        at = self.layout.offset(layer, block)
        return any(self.memory[at : at + self.layout.block_bytes])


def _state(task: Path) -> str:
    """Return the letter that stands behind the name of a thread."""
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


def _attempt_of(event: Event) -> str | None:
    if hasattr(event, "admit"):
        return str(event.admit.attempt)
    return getattr(event, "attempt", None)


@pytest.fixture(params=["nixl", "sockets"])
def transport_name(request: pytest.FixtureRequest) -> str:
    if request.param == "nixl" and not sys.platform.startswith("linux"):
        pytest.skip("NIXL is built for Linux only")
    return str(request.param)


@pytest.fixture
def shape() -> Shape:
    return Shape()


@pytest.fixture
def prefill(transport_name: str, shape: Shape) -> Iterator[Callable[..., Prefill]]:
    """Start prefill workers; what a test leaves running is killed."""
    started: list[Prefill] = []

    def start(**options: Any) -> Prefill:
        settings = {
            "transport": transport_name,
            "secret": "a secret",
            "kv_hash": "hash-a",
            "incarnation": os.urandom(8).hex(),
            "port": 0,
            "num_layers": shape.num_layers,
            "num_blocks": shape.num_blocks,
            "block_bytes": shape.block_bytes,
            "layer_s": 0.0,
            "hit_blocks": 0,
            **options,
        }
        started.append(Prefill(settings))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.kill()
        else:
            each._release()


@pytest.fixture
def decode(transport_name: str, shape: Shape) -> Iterator[Callable[..., Decode]]:
    """Make decode sides, closed at the end."""
    made: list[Decode] = []

    def make(**options: Any) -> Decode:
        incarnation = options.setdefault("incarnation", os.urandom(8).hex())
        transport = pick(
            transport_name,  # type: ignore[arg-type]  # one of the literals, by the fixture's parameters
            incarnation=incarnation,
            host=options.get("host", "127.0.0.1"),
            advertise=options.get("advertise"),
            secret=options.get("secret", "a secret"),
        )
        made.append(Decode(shape, transport, **options))
        return made[-1]

    yield make
    for each in made:
        each.courier.close()
