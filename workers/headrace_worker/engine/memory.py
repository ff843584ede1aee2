"""How much memory there is, and how much of it KV blocks get."""

from pathlib import Path

import psutil
import torch

from headrace_worker.errors import MemoryNeededError

_FULL_CONTEXTS = 8
_SHARE_OF_FREE = 4
_CGROUP_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def free_bytes(device: torch.device) -> int:
    """Return the memory that this process can still take on `device`, container limits included."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    for limit, used in _CGROUP_LIMITS:
        try:
            free = min(free, int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):
            continue  # no such controller, or "max"
    return max(free, 0)


def choose_blocks(token_bytes: int, block_size: int, max_model_len: int, wanted_bytes: int | None, free: int) -> int:
    """Return the number of KV blocks.

    Args:
        token_bytes: keys and values of one token over all layers.
        block_size: tokens per block.
        max_model_len: most tokens of one context.
        wanted_bytes: memory asked for by the settings; None takes a quarter of what is free, at most eight contexts.
        free: bytes that are free now.

    Raises:
        MemoryNeededError: the wanted memory is not free, or not even one block fits.
    """
    block_bytes = token_bytes * block_size
    if wanted_bytes is not None:
        if wanted_bytes > free:
            raise MemoryNeededError("the KV cache of the settings", wanted_bytes, free)
        size = wanted_bytes
    else:
        size = min(free // _SHARE_OF_FREE, _FULL_CONTEXTS * max_model_len * token_bytes)
    if size < block_bytes:
        raise MemoryNeededError(f"one KV block of {block_size} tokens", block_bytes, size)
    return size // block_bytes


def check_weights(needed: int, free: int) -> None:
    """Raise MemoryNeededError where weights of so many bytes do not fit."""
    if needed > free:
        raise MemoryNeededError("the model", needed, free)
