import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headrace_worker.offload.arena import Arena
from headrace_worker.offload.tiers import Load, Save

SHAPE = (3, 6, 2, 2, 4, 8)
COPIES = st.builds(Save, st.integers(0, 5), st.integers(0, 3)) | st.builds(Load, st.integers(0, 3), st.integers(0, 5))


def test_a_slot_has_a_block_of_all_layers_without_gaps() -> None:
    kv = torch.randn(SHAPE)
    arena = Arena(kv, 4)
    arena.copy([Save(5, 2)])
    assert bytes(arena.view(2)) == kv[:, 5].contiguous().numpy().tobytes()
    assert arena.address(2) == arena.base + 2 * arena.block_bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(copies=st.lists(COPIES, max_size=24))
def test_copies_have_the_effect_of_their_order(dtype: torch.dtype, copies: list[Save | Load]) -> None:
    kv = torch.randn(SHAPE).to(dtype)
    arena = Arena(kv, 4)
    arena.copy([Save(slot, slot) for slot in range(4)])
    device = [kv[:, block].clone() for block in range(6)]
    host = device[:4]
    batch: list[Save | Load] = []
    for copy in copies:
        if isinstance(copy, Save):
            host[copy.slot] = device[copy.block]
        else:
            device[copy.block] = host[copy.slot]
        batch.append(copy)
    arena.copy(batch)
    assert all(torch.equal(kv[:, block], device[block]) for block in range(6))
    for slot in range(4):
        assert bytes(arena.view(slot)) == host[slot].contiguous().view(torch.uint8).numpy().tobytes()
