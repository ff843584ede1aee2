"""The processor backend: C++ kernels for few rows, torch's matrix library for many.

Few rows are bound by reading weights, so those stay packed as the file has them and activations stay float32. Many
rows are bound by arithmetic, so they go to dense matrices in the compute type.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional
from typing_extensions import override

from headrace_worker.kernels.cpu import Kernels, Kind, Packed, Summary
from headrace_worker.layers.backend import Backend, Batch, Tensor, Weight, chunk_attention

FEW_ROWS = {torch.float32: 40, torch.bfloat16: 12}
"""Up to so many rows the packed kernels are faster than a dense product in that type (measured on SmolLM2 Q4_1)."""


class NativeBackend(Backend):
    """Compiled kernels for processors."""

    def __init__(self, kernels: Kernels, dtype: torch.dtype) -> None:
        self.device = torch.device("cpu")
        self.dtype = dtype
        self._kernels = kernels
        self._few_rows = FEW_ROWS[dtype]

    @override
    def weight(self, parts: Sequence[Packed], bias: Tensor | None, *, dense: bool) -> Weight:
        packed = self._fuse(parts)
        matrix = None
        if packed.kind is self._own_kind:
            matrix = packed.data.view(packed.outputs, packed.inputs)
        elif dense:
            matrix = self._kernels.expand(packed, self.dtype)
        return Weight(packed.outputs, packed, matrix, bias)

    def _fuse(self, parts: Sequence[Packed]) -> Packed:
        if len({part.kind for part in parts}) > 1:
            parts = [self._as_own_kind(part) for part in parts]
        if len(parts) == 1:
            return parts[0]
        data = torch.cat([part.data.view(part.outputs, -1) for part in parts])
        return Packed(data, parts[0].kind, parts[0].inputs, sum(part.outputs for part in parts))

    @property
    def _own_kind(self) -> Kind:
        return Kind.BF16 if self.dtype is torch.bfloat16 else Kind.F32

    def _as_own_kind(self, part: Packed) -> Packed:
        return Packed(self._kernels.expand(part, self.dtype), self._own_kind, part.inputs, part.outputs)

    @override
    def embed(self, table: Weight, ids: Tensor) -> Tensor:
        assert table.packed is not None
        return self._kernels.expand(table.packed, torch.float32, ids)

    def _product_type(self, num_rows: int) -> torch.dtype:
        return torch.float32 if num_rows <= self._few_rows else self.dtype

    @override
    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return self._kernels.rms_norm(x, weight, eps, self._product_type(x.shape[0]))

    @override
    def product_input(self, x: Tensor) -> Tensor:
        return x.to(self._product_type(x.shape[0]))

    @override
    def linear(self, x: Tensor, weight: Weight) -> Tensor:
        if x.shape[0] > self._few_rows:
            bias = None if weight.bias is None else weight.bias.to(self.dtype)
            return functional.linear(x, self._dense(weight), bias)
        assert weight.packed is not None
        out = torch.empty(x.shape[0], weight.outputs)
        if weight.bias is not None:
            out.copy_(weight.bias.expand_as(out))
        self._kernels.linear(x, weight.packed, out, add=weight.bias is not None)
        return out

    @override
    def linear_add(self, x: Tensor, weight: Weight, residual: Tensor) -> None:
        if x.shape[0] > self._few_rows:
            residual += functional.linear(x, self._dense(weight))
            return
        assert weight.packed is not None
        self._kernels.linear(x, weight.packed, residual, add=True)

    def _dense(self, weight: Weight) -> Tensor:
        if weight.dense is not None:
            return weight.dense
        assert weight.packed is not None
        return self._kernels.expand(weight.packed, self.dtype)

    @override
    def silu_mul(self, gate_up: Tensor) -> Tensor:
        return self._kernels.silu_mul(gate_up)

    @override
    def attention(self, qkv: Tensor, cos_sin: Tensor, kv: Tensor, batch: Batch, window: int | None = None) -> Tensor:
        self._kernels.rotate_store(qkv, cos_sin, batch.positions, batch.slots, kv)
        outs = []
        if batch.num_single:
            rows = qkv[: batch.num_single].float()
            singles = self._kernels.attend(rows, kv, batch.tables, batch.contexts, window)
            outs.append(singles.to(qkv.dtype))
        outs.extend(chunk_attention(qkv, kv, chunk, window) for chunk in batch.chunks)
        return outs[0] if len(outs) == 1 else torch.cat(outs)

    @override
    def logits(self, x: Tensor, weight: Weight) -> Tensor:
        assert weight.packed is not None
        out = torch.empty(x.shape[0], weight.outputs)
        self._kernels.linear(x.float(), weight.packed, out)
        return out

    @override
    def summarize(self, logits: Tensor) -> Summary:
        return self._kernels.summarize(logits)
