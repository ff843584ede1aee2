"""How much memory there is, and how much of it KV blocks get."""

from dataclasses import dataclass

import psutil
import torch

from headrace_worker.engine.limits import Limits
from headrace_worker.errors import MemoryNeededError

_FULL_CONTEXTS = 8
_SHARE_OF_FREE = 4


@dataclass(frozen=True, slots=True)
class Room:
    """Memory of a device, in bytes."""

    free: int
    """What this process can take now."""
    total: int
    """What it could ever take: what needs more will not fit at another try either."""

    def without(self, needed: int) -> "Room":
        """Return what is left beside so much."""
        return Room(self.free - needed, self.total - needed)

    def shared(self, users: int) -> "Room":
        """Return the share of one of so many processes that take the same."""
        return Room(self.free // users, self.total // users)


def room_on(device: torch.device, limits: Limits) -> Room:
    """Return the memory of `device`, the control group's limits included."""
    if device.type == "cuda":
        return Room(*map(int, torch.cuda.mem_get_info(device)))
    memory = psutil.virtual_memory()
    free, total = int(memory.available), int(memory.total)
    if limits.memory_bytes is not None and limits.memory_left_bytes is not None:
        free, total = min(free, limits.memory_left_bytes), min(total, limits.memory_bytes)
    return Room(free, total)


def choose_blocks(token_bytes: int, block_size: int, max_model_len: int, wanted_bytes: int | None, room: Room) -> int:
    """Return the number of KV blocks.

    Args:
        token_bytes: keys and values of one token over all layers.
        block_size: tokens per block.
        max_model_len: most tokens of one context.
        wanted_bytes: memory asked for by the settings; None takes a quarter of what is free, at most eight contexts.
        room: beside the weights.

    Raises:
        MemoryNeededError: the wanted memory is not free, or not even one block fits.
    """
    block_bytes = token_bytes * block_size
    if wanted_bytes is not None:
        if wanted_bytes > room.free:
            raise MemoryNeededError("the KV cache of the settings", wanted_bytes, room.free, room.total)
        size = wanted_bytes
    else:
        size = min(room.free // _SHARE_OF_FREE, _FULL_CONTEXTS * max_model_len * token_bytes)
    if size < block_bytes:
        total = room.total if wanted_bytes is None else wanted_bytes
        raise MemoryNeededError(f"one KV block of {block_size} tokens", block_bytes, size, total)
    return size // block_bytes


def check_offload(needed: int, room: Room) -> None:
    """Raise MemoryNeededError where the host has no room for so many bytes of offloaded blocks."""
    if needed > room.free:
        raise MemoryNeededError("the memory for offloaded KV blocks", needed, room.free, room.total)


def check_weights(needed: int, room: Room) -> None:
    """Raise MemoryNeededError where weights of so many bytes do not fit."""
    if needed > room.free:
        raise MemoryNeededError("the model", needed, room.free, room.total)
