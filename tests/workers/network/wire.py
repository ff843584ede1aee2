"""Carries packets between spaces as a bad network would: what `tc netem` does, for kernels without it."""

import contextlib
import heapq
import itertools
import os
import random
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from tests.workers.network.lane import Fault, Lane
from tests.workers.network.space import Space

_LONGEST_PACKET = 1 << 16
_IPV4_TARGET = slice(16, 20)
_BURST = 64


@dataclass(order=True, slots=True)
class _Packet:
    due_s: float
    number: int
    to: int = field(compare=False)
    data: bytes = field(compare=False)


class Wire:
    """Spaces that reach each other, and one lane for each direction between two of them.

    Args:
        seed: of what gets lost.
    """

    def __init__(self, seed: int = 0) -> None:
        self._dice = random.Random(seed)
        self._spaces: dict[bytes, Space] = {}
        self._lanes: dict[tuple[bytes, bytes], Lane] = {}
        self._flying: list[_Packet] = []
        self._numbers = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)

    def space(self) -> Space:
        """Return a new space; before `start`."""
        space = Space(f"10.77.0.{len(self._spaces) + 1}")
        name = socket.inet_aton(space.address)
        for other in self._spaces:
            self._lanes[name, other] = Lane(self._dice)
            self._lanes[other, name] = Lane(self._dice)
        self._spaces[name] = space
        self._selector.register(space.packets, selectors.EVENT_READ, partial(self._take, name, space.packets))
        return space

    def lane(self, source: Space, target: Space) -> Lane:
        """Return the direction from one space to another."""
        return self._lanes[socket.inet_aton(source.address), socket.inet_aton(target.address)]

    @property
    def lanes(self) -> list[Lane]:
        """All directions between all spaces."""
        return list(self._lanes.values())

    def between(self, one: Space, other: Space) -> tuple[Lane, Lane]:
        """Return both directions between two spaces."""
        return self.lane(one, other), self.lane(other, one)

    def start(self) -> None:
        """Begin to carry."""
        self._thread.start()

    def close(self) -> None:
        """Carry nothing any more, and close all spaces."""
        self._closing.set()
        self._thread.join()
        self._selector.close()
        for space in self._spaces.values():
            space.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            now_s = time.monotonic()
            while self._flying and self._flying[0].due_s <= now_s:
                packet = heapq.heappop(self._flying)
                with contextlib.suppress(OSError):  # an interface that takes no more loses it, as real ones do
                    os.write(packet.to, packet.data)
            pause_s = min(0.1, self._flying[0].due_s - now_s) if self._flying else 0.1
            for key, _ in self._selector.select(max(0.0, pause_s)):
                key.data()

    def _take(self, name: bytes, packets: int) -> None:
        """Take what the kernel has for other spaces; IPv6 looks for neighbours that are not there."""
        for _ in range(_BURST):
            try:
                data = os.read(packets, _LONGEST_PACKET)
            except BlockingIOError:
                return
            if data[0] >> 4 != 4 or (target := self._spaces.get(data[_IPV4_TARGET])) is None:
                continue
            lane = self._lanes[name, data[_IPV4_TARGET]]
            if (due_s := lane.arrival_s(len(data), time.monotonic())) is not None:
                heapq.heappush(self._flying, _Packet(due_s, next(self._numbers), target.packets, data))


@contextlib.contextmanager
def during(fault: Fault, *lanes: Lane) -> Iterator[None]:
    """Have these lanes bad until the end of the block."""
    before = [lane.fault for lane in lanes]
    for lane in lanes:
        lane.fault = fault
    try:
        yield
    finally:
        for lane, one in zip(lanes, before, strict=True):
            lane.fault = one
