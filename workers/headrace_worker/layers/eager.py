"""The eager backend: plain torch on any device; what the compiled kernels are compared with."""

from collections.abc import Sequence

import torch
from torch.nn import functional
from typing_extensions import override

from headrace_worker.kernels.cpu import Packed, Summary
from headrace_worker.layers.backend import Backend, Batch, Chunk, Tensor, Weight, chunk_attention
from headrace_worker.layers.unpack import unpack


class EagerBackend(Backend):
    """Dense weights and torch operations; correct everywhere, fast where torch is."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype

    @override
    def weight(self, parts: Sequence[Packed], bias: Tensor | None, *, dense: bool) -> Weight:
        matrix = torch.cat([unpack(part, self.dtype) for part in parts]).to(self.device)
        return Weight(matrix.shape[0], dense=matrix, bias=None if bias is None else bias.to(self.device))

    @override
    def embed(self, table: Weight, ids: Tensor) -> Tensor:
        assert table.dense is not None
        return table.dense[ids].float()

    @override
    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight).to(self.dtype)

    @override
    def product_input(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)

    @override
    def linear(self, x: Tensor, weight: Weight) -> Tensor:
        assert weight.dense is not None
        bias = None if weight.bias is None else weight.bias.to(self.dtype)
        return functional.linear(x.to(self.dtype), weight.dense, bias)

    @override
    def linear_add(self, x: Tensor, weight: Weight, residual: Tensor) -> None:
        residual += self.linear(x, weight)

    @override
    def silu_mul(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return functional.silu(gate) * up

    @override
    def attention(self, qkv: Tensor, cos_sin: Tensor, kv: Tensor, batch: Batch, window: int | None = None) -> Tensor:
        _, _, kv_heads, block_size, dim = kv.shape
        rotate(qkv, cos_sin, batch.positions, kv_heads, dim)
        heads = qkv.shape[1] // dim - 2 * kv_heads
        keys_values = qkv[:, heads * dim :].reshape(-1, 2, kv_heads, dim).to(kv.dtype)
        kv[batch.slots // block_size, :, :, batch.slots % block_size] = keys_values
        outs = [chunk_attention(qkv, kv, chunk, window) for chunk in (*self._singles(batch), *batch.chunks)]
        return torch.cat(outs)

    @staticmethod
    def _singles(batch: Batch) -> list[Chunk]:
        block_size = batch.tables.shape[1]
        chunks = []
        for row, context in enumerate(batch.contexts.tolist()):
            chunks.append(Chunk(row, 1, context - 1, batch.tables[row, :block_size].long()))
        return chunks

    @override
    def logits(self, x: Tensor, weight: Weight) -> Tensor:
        return self.linear(x, weight).float()

    @override
    def summarize(self, logits: Tensor) -> Summary:
        two = logits.topk(2, dim=-1)
        log_sum = logits.logsumexp(-1)
        return Summary(two.indices[:, 0].cpu(), two.values[:, 0].cpu(), two.values[:, 1].cpu(), log_sum.cpu())


def rotate(qkv: Tensor, cos_sin: Tensor, positions: Tensor, kv_heads: int, dim: int) -> None:
    """Rotate the queries and keys of qkv (T, (H + 2 K) D) in place; pairs are (i, i + D/2)."""
    turned = qkv[:, : qkv.shape[1] - kv_heads * dim].view(qkv.shape[0], -1, dim)
    cos, sin = cos_sin[positions.long()][:, None].chunk(2, dim=-1)
    first, second = turned.float().chunk(2, dim=-1)
    turned.copy_(torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1))
