"""Tiers over a real disk and a small tensor, driven as the engine drives them."""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from headrace_worker.offload.arena import Arena
from headrace_worker.offload.clerk import Clerk
from headrace_worker.offload.folder import Folder
from headrace_worker.offload.offload import TieredOffload
from headrace_worker.offload.rates import Rates
from headrace_worker.offload.storage import NixlStorage, Storage
from headrace_worker.offload.tiers import Tiers

DEADLINE_S = 60.0
MODEL = bytes(range(16))

MakeStorage = Callable[[int, int], Storage]


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition of another thread."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.001)


def make_offload(
    kv: torch.Tensor,
    wake: Callable[[], None] = lambda: None,
    *,
    slots: int,
    folder: Path | None = None,
    files: int = 0,
    make_storage: MakeStorage = NixlStorage,
    worker: str = "worker",
) -> TieredOffload:
    """Return tiers that load whatever they have; with a folder, a disk too."""
    arena, rates = Arena(kv, slots), Rates(always=True)
    clerk = None
    if folder is not None:
        clerk = Clerk(
            Folder(folder, worker, MODEL),
            make_storage=lambda: make_storage(arena.base, arena.size),
            view=arena.view,
            address=arena.address,
            block_bytes=arena.block_bytes,
            wake=wake,
        )
    return TieredOffload(Tiers(slots, files, rates.pays), arena, rates, clerk)


class Desk:
    """One worker's tiers beside a KV tensor whose blocks hold their own numbers."""

    def __init__(
        self, folder: Path, *, slots: int = 8, files: int = 64, make_storage: MakeStorage = NixlStorage
    ) -> None:
        self.kv = torch.zeros(3, 16, 2, 2, 4, 8)
        self.offload = make_offload(self.kv, slots=slots, folder=folder, files=files, make_storage=make_storage)
        self.folder = folder
        self.closed = False

    @property
    def tiers(self) -> Tiers:
        return self.offload.cold

    def evict(self, *numbers: int) -> None:
        """Have blocks leave the device, each with a content that follows from its number."""
        for place, number in enumerate(numbers):
            self.kv[:, place] = content(number)
        self.tiers.put([(place, key(number)) for place, number in enumerate(numbers)])
        self.offload.flush()

    def fetch(self, *numbers: int) -> list[torch.Tensor]:
        """Look for blocks until the disk has brought them; return what was loaded."""
        keys = [key(number) for number in numbers]
        found = self.tiers.look(1, keys)
        self.offload.flush()
        if found is None:
            until(lambda: self.offload.poll(0.0) == [1])
            found = self.tiers.look(1, keys)
        assert found is not None, "nobody waits twice"
        self.tiers.load(1, keys, range(found))
        self.offload.flush()
        return [self.kv[:, block].clone() for block in range(found)]

    def settled(self) -> None:
        """Wait until the disk has done all that was asked of it."""

        def quiet() -> bool:
            self.offload.poll(0.0)
            self.offload.flush()
            return not self.tiers.disk.in_flight

        until(quiet)

    def known(self, *numbers: int) -> int:
        """Wait for an earlier process's files; return how many of these blocks there are."""
        self.settled()
        return self.tiers.known([key(number) for number in numbers])

    def files(self) -> list[Path]:
        return sorted(self.folder.rglob("*.kv"))

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.offload.close()


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def content(number: int) -> torch.Tensor:
    return torch.randn(3, 2, 2, 4, 8, generator=torch.Generator().manual_seed(number))
