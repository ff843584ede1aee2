"""The host memory of the tiers: slots of one block each, and copies between them and the KV tensor."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import torch

from headrace_worker.offload.tiers import Load, Save


class Arena:
    """Slots beside a KV tensor (layer, N, 2, K, B, D).

    A slot holds one block of all layers, (layer, 2, K, B, D) without gaps, so that it is one piece on disk.

    Args:
        kv: of this rank.
        slots: how many; beside a GPU their memory is locked, so that copies run at the link's speed.
    """

    def __init__(self, kv: torch.Tensor, slots: int) -> None:
        self._kv = kv
        shape = (slots, kv.shape[0], *kv.shape[2:])
        self._memory = torch.empty(shape, dtype=kv.dtype, pin_memory=kv.is_cuda)
        self.block_bytes = block_bytes(kv)
        self._bytes = memoryview(self._memory.view(-1).view(torch.uint8).numpy().data)

    @property
    def base(self) -> int:
        """Address of the first slot."""
        return self._memory.data_ptr()

    @property
    def size(self) -> int:
        """Bytes of all slots."""
        return self._memory.nbytes

    def address(self, slot: int) -> int:
        """Return where a slot lies."""
        return self.base + slot * self.block_bytes

    def view(self, slot: int) -> memoryview:
        """Return the bytes of a slot."""
        return self._bytes[slot * self.block_bytes : (slot + 1) * self.block_bytes]

    @torch.inference_mode()
    def copy(self, copies: Sequence[Save | Load]) -> None:
        """Do copies in their order; they have ended when this returns."""
        for kind, segment in groupby(copies, key=type):
            for block, slot, count in _runs(segment):
                device = self._kv[:, block : block + count]
                host = self._memory[slot : slot + count].transpose(0, 1)
                if kind is Save:
                    host.copy_(device)
                else:
                    device.copy_(host)
        if self._kv.is_cuda:
            torch.cuda.current_stream(self._kv.device).synchronize()


def block_bytes(kv: torch.Tensor) -> int:
    """Return the bytes of one block over all layers of a KV tensor."""
    return kv.nbytes // kv.shape[1]


def _runs(segment: Iterable[Save | Load]) -> Iterator[tuple[int, int, int]]:
    """Yield (block, slot, count) for copies of one kind, neighbours together; what is written twice counts once.

    Within one kind the order is free, since nothing that is read there is written there.
    """
    last = {(one.slot if isinstance(one, Save) else one.block): (one.block, one.slot) for one in segment}
    block = slot = count = 0
    for next_block, next_slot in sorted(last.values()):
        if count and (next_block, next_slot) == (block + count, slot + count):
            count += 1
            continue
        if count:
            yield block, slot, count
        block, slot, count = next_block, next_slot, 1
    if count:
        yield block, slot, count
