"""What ranks do together: the collective operations of a step, behind one class that does nothing for one rank.

Every rank of a group calls the same operations in the same order; sums are the same bits on all of them.
"""

import logging
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, and missing in torch's list
from typing_extensions import override

from headrace_worker.errors import RankError
from headrace_worker.parallel.address import interface_towards
from headrace_worker.parallel.shape import Shape

Tensor = torch.Tensor
logger = logging.getLogger(__name__)
JOIN_S: Final = 120.0
"""How long ranks wait for each other at the start."""
STEP_S: Final = 600.0
"""How long one operation may wait for the others: longer than any step, so that only a rank that hangs meets it."""


class Group:
    """One rank alone."""

    rank = 0
    size = 1

    def add_up(self, x: Tensor) -> Tensor:
        """Return the sum of all ranks' x; it may be x itself, changed in place."""
        return x

    def join_columns(self, x: Tensor) -> Tensor | None:
        """Return all ranks' columns (R, sum of C) side by side at rank 0, None elsewhere; x is (R, C), C is equal."""
        return x

    def join_rows(self, x: Tensor, counts: Sequence[int]) -> Tensor:  # noqa: ARG002
        """Return all ranks' rows one below the other, on every rank; rank r has counts[r] of them."""
        return x

    def exchange_counts(self, counts: Tensor) -> Tensor:
        """Send counts[r] to rank r; return what each rank sent us, (ranks,) int64."""
        return counts

    def exchange(self, x: Tensor, sizes: Sequence[int], their_sizes: Sequence[int]) -> Tensor:  # noqa: ARG002
        """Send the rows of x to the ranks, sizes[r] rows to rank r in order; return the rows that came, by rank."""
        return x

    def pass_on(self, x: Tensor, to: int) -> None:
        """Send x to another rank of the worker."""
        dist.send(x.contiguous(), to)

    def take_over(self, like: Tensor, source: int) -> Tensor:
        """Return what that rank of the worker passed on, in the shape and type of `like`, which is overwritten."""
        dist.recv(like, source)
        return like


ALONE: Final = Group()


class Stage(Group):
    """The ranks that compute the same layers together.

    Args:
        process_group: torch's.
        rank: ours within the stage.
        size: ranks of the stage.
    """

    def __init__(self, process_group: dist.ProcessGroup, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        self._group = process_group

    @override
    def add_up(self, x: Tensor) -> Tensor:
        if self.size > 1:
            x = x.contiguous()
            dist.all_reduce(x, group=self._group)
        return x

    @override
    def join_columns(self, x: Tensor) -> Tensor | None:
        if self.size == 1:
            return x
        parts = [torch.empty_like(x) for _ in range(self.size)] if self.rank == 0 else None
        dist.gather(x.contiguous(), parts, group=self._group, group_dst=0)
        return None if parts is None else torch.cat(parts, dim=1)

    @override
    def join_rows(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        widest = max(counts)
        padded = torch.nn.functional.pad(x, (0, 0, 0, widest - x.shape[0]))
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded.contiguous(), group=self._group)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @override
    def exchange_counts(self, counts: Tensor) -> Tensor:
        theirs = torch.empty_like(counts)
        dist.all_to_all_single(theirs, counts.contiguous(), group=self._group)
        return theirs

    @override
    def exchange(self, x: Tensor, sizes: Sequence[int], their_sizes: Sequence[int]) -> Tensor:
        arrived = x.new_empty((sum(their_sizes), *x.shape[1:]))
        dist.all_to_all_single(arrived, x.contiguous(), list(their_sizes), list(sizes), group=self._group)
        return arrived


def open_store(host: str) -> tuple[TCPStore, int]:
    """Return the place where ranks find each other, and its free port at `host`: rank 0 opens it."""
    store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=JOIN_S))
    return store, store.port


def reach_store(host: str, port: int) -> TCPStore:
    """Return rank 0's store."""
    return TCPStore(host, port, is_master=False, timeout=timedelta(seconds=JOIN_S))


def join(shape: Shape, rank: int, device: torch.device, store: TCPStore, host: str) -> Group:
    """Meet the other ranks, and return the group of this rank's stage.

    Args:
        shape: of the worker.
        rank: ours.
        device: NCCL carries what lies on GPUs, gloo what lies in host memory.
        store: where the ranks find each other.
        host: where rank 0 is; gloo and NCCL keep to the interface that leads there.

    Raises:
        RankError: not all of them came in time.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if (interface := interface_towards(host)) is not None:
        os.environ.setdefault("NCCL_SOCKET_IFNAME" if device.type == "cuda" else "GLOO_SOCKET_IFNAME", interface)
    backend = "nccl" if device.type == "cuda" else "gloo"
    options: dict[str, Any] = {"device_id": device} if device.type == "cuda" else {}
    try:
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=shape.size, timeout=timedelta(seconds=JOIN_S), **options
        )
        stages = [
            dist.new_group(list(range(first, first + shape.width)), timeout=timedelta(seconds=STEP_S))
            for first in range(0, shape.size, shape.width)
        ]
        dist.barrier()
    except (RuntimeError, ValueError) as error:
        raise RankError(f"rank {rank} of {shape.size} could not meet the others over {backend}: {error}") from error
    stage = stages[shape.stage_of(rank)]
    assert isinstance(stage, dist.ProcessGroup), "a rank is a member of its own stage"
    return Stage(stage, shape.column_of(rank), shape.width)


def leave() -> None:
    """End the groups of this process."""
    if dist.is_initialized():
        dist.destroy_process_group()
