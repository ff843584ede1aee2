import pytest
import torch
from torch.nn import functional

from headrace_worker.kernels.cpu import Kernels
from headrace_worker.layers.eager import rotate

Tensor = torch.Tensor
TYPES = (torch.float32, torch.bfloat16)


def filled(contexts: list[int], kv_heads: int, block_size: int, dim: int) -> tuple[Tensor, Tensor]:
    """Return blocks with random keys and values up to each context's end, NaN elsewhere, and the block tables."""
    width = -(-max(contexts) // block_size)
    order = torch.randperm(len(contexts) * width + 3)
    tables = order[: len(contexts) * width].view(len(contexts), width).to(torch.int32)
    kv = torch.full((order.shape[0], 2, kv_heads, block_size, dim), torch.nan)
    for row, context in enumerate(contexts):
        for position in range(context):
            block = int(tables[row, position // block_size])
            kv[block, :, :, position % block_size] = torch.randn(2, kv_heads, dim)
    return kv, tables


def attended(qkv: Tensor, kv: Tensor, tables: Tensor, contexts: list[int]) -> Tensor:
    """Return what torch's attention makes of the same rows."""
    _, _, kv_heads, _, dim = kv.shape
    heads = qkv.shape[1] // dim - 2 * kv_heads
    rows = []
    for row, context in enumerate(contexts):
        key, value = kv[tables[row].long()].permute(1, 2, 0, 3, 4).reshape(2, kv_heads, -1, dim)[:, :, :context].float()
        query = qkv[row, : heads * dim].view(heads, 1, dim)
        out = functional.scaled_dot_product_attention(query[None], key[None], value[None], enable_gqa=True)
        rows.append(out.reshape(-1))
    return torch.stack(rows)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("group", [1, 2, 3, 4, 5, 8])
def test_attention_equals_torch_for_any_number_of_query_heads_per_kv_head(
    kernels: Kernels, dtype: torch.dtype, group: int
) -> None:
    contexts, kv_heads, dim = [1, 15, 16, 17, 48, 50], 2, 32
    kv, tables = filled(contexts, kv_heads, 16, dim)
    kv = kv.to(dtype)
    qkv = torch.randn(len(contexts), (group + 2) * kv_heads * dim)
    found = kernels.attend(qkv, kv, tables, torch.tensor(contexts, dtype=torch.int32))
    torch.testing.assert_close(found, attended(qkv, kv, tables, contexts), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block_size", [1, 3, 16])
@pytest.mark.parametrize("dim", [16, 64])
def test_a_context_may_end_anywhere_in_a_block(kernels: Kernels, block_size: int, dim: int) -> None:
    contexts = list(range(1, 2 * block_size + 3))
    kv, tables = filled(contexts, 2, block_size, dim)
    qkv = torch.randn(len(contexts), 6 * dim)
    found = kernels.attend(qkv, kv, tables, torch.tensor(contexts, dtype=torch.int32))
    torch.testing.assert_close(found, attended(qkv, kv, tables, contexts), rtol=1e-5, atol=1e-5)


def test_attention_reads_rows_that_are_columns_of_a_wider_tensor(kernels: Kernels) -> None:
    contexts = [5, 20]
    kv, tables = filled(contexts, 1, 16, 16)
    wide = torch.randn(2, 100)
    found = kernels.attend(wide[:, :64], kv, tables, torch.tensor(contexts, dtype=torch.int32))
    torch.testing.assert_close(found, attended(wide[:, :64], kv, tables, contexts), rtol=1e-5, atol=1e-5)


def test_scores_far_apart_do_not_overflow(kernels: Kernels) -> None:
    kv = torch.zeros(1, 2, 1, 16, 16)
    kv[0, 0, 0, 3], kv[0, 1, 0, 3] = 1e4, 7.0
    qkv = torch.full((1, 48), 1e4)
    found = kernels.attend(qkv, kv, torch.zeros(1, 1, dtype=torch.int32), torch.tensor([10], dtype=torch.int32))
    torch.testing.assert_close(found, torch.full((1, 16), 7.0))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kv_dtype", TYPES)
def test_rotated_queries_and_keys_and_stored_kv_equal_torch(
    kernels: Kernels, dtype: torch.dtype, kv_dtype: torch.dtype
) -> None:
    kv_heads, dim, block_size, tokens = 2, 16, 4, 7
    qkv = torch.randn(tokens, (3 + 2 * kv_heads) * dim).to(dtype)
    positions = torch.tensor([0, 1, 2, 9, 30, 31, 5], dtype=torch.int32)
    angles = torch.rand(32, dim // 2) * 6
    cos_sin = torch.cat((angles.cos(), angles.sin()), dim=-1)
    slots = torch.tensor([23, 0, 5, 6, 7, 8, 12])
    kv = torch.full((6, 2, kv_heads, block_size, dim), 99.0, dtype=kv_dtype)
    wanted_qkv, wanted_kv = qkv.clone(), kv.clone()
    rotate(wanted_qkv, cos_sin, positions, kv_heads, dim)
    stored = wanted_qkv[:, 3 * dim :].view(tokens, 2, kv_heads, dim).to(kv_dtype)
    for token, slot in enumerate(slots.tolist()):
        wanted_kv[slot // block_size, :, :, slot % block_size] = stored[token]

    kernels.rotate_store(qkv, cos_sin, positions, slots, kv)

    tolerance = 1e-5 if dtype is kv_dtype is torch.float32 else 1e-2
    torch.testing.assert_close(qkv, wanted_qkv, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(kv, wanted_kv, rtol=tolerance, atol=tolerance)
    untouched = set(range(24)) - set(slots.tolist())
    for slot in untouched:
        assert kv[slot // block_size, :, :, slot % block_size].eq(99).all()
