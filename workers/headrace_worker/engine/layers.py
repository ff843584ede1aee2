"""From computed layers to writes: which layers of a step's blocks are announced together."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from headrace_api.handoff import Layout
from headrace_worker.runner.work import Written
from headrace_worker.transfer.writing import Ready

_WRITE_BYTES = 512 * 1024
"""Layers are written together up to this size: each write takes time from compute, and small ones gain nothing."""


class Announce(Protocol):
    """Takes layers of blocks that are computed, or will be once the event has come."""

    def __call__(
        self, attempt: str, layers: range, first: int, blocks: Sequence[int], event: Ready | None = None
    ) -> None:
        """Costs microseconds."""


def announcing(
    written: Sequence[Written], layout: Layout, announce: Announce, mark: Callable[[], Ready] | None
) -> Callable[[int], None]:
    """Return what announces each group of layers as soon as the last of the group is computed.

    Args:
        written: what the step computes for other workers.
        layout: of this rank's KV memory.
        announce: told of each group.
        mark: makes an event that comes when the device has done what was asked of it so far; None where compute is
            done when the call returns.
    """
    total = layout.num_layers
    layer_bytes = sum(len(one.blocks) for one in written) * layout.block_bytes
    size = max(1, min(total, _WRITE_BYTES // max(1, layer_bytes)))

    def on_layer(layer: int) -> None:
        done = layer + 1
        if done % size and done < total:
            return
        event = None if mark is None else mark()
        layers = range(layer - layer % size, done)
        for one in written:
            announce(one.attempt, layers, one.first, one.blocks, event)

    return on_layer


def marker(device: torch.device) -> Callable[[], Ready] | None:
    """Return `mark` for a device."""
    return None if device.type == "cpu" else _recorded


def _recorded() -> torch.cuda.Event:
    """Return an event that comes when the current stream has done all work queued so far."""
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch leaves its arguments untyped
    event.record()
    return event
