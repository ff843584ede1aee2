"""The base class of a backend, and the values that travel through it.

Letters of shapes: T tokens (rows) of a step, I inputs, O outputs, H query heads, K key/value heads, D head size,
N blocks, B tokens per block, V vocabulary.
"""

import contextlib
import math
import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from headrace_worker.kernels.cpu import Packed, Summary

Tensor = torch.Tensor


@dataclass(slots=True)
class Weight:
    """One (possibly fused) matrix (O, I); at least one of the two forms is present."""

    outputs: int
    packed: Packed | None = None
    """Stored form, for few rows."""
    dense: Tensor | None = None
    """(O, I) in the compute type, for many rows."""
    bias: Tensor | None = None
    """(O,) float32."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of one sequence's prompt chunk within a batch."""

    first_row: int
    num_tokens: int
    start: int
    """Position of its first token: that many tokens of context lie before it."""
    blocks: Tensor
    """(blocks of context and chunk,) int64."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's input: `num_single` rows of one token each come first, then the chunks' rows."""

    ids: Tensor
    """(T,) int64."""
    positions: Tensor
    """(T,) int32."""
    slots: Tensor
    """(T,) int64: block * B + offset, where the token's KV goes."""
    num_single: int
    tables: Tensor
    """(num_single, most blocks) int32."""
    contexts: Tensor
    """(num_single,) int32: tokens of context of each single row, itself included."""
    chunks: Sequence[Chunk]
    logit_rows: Tensor
    """(R,) int64: rows whose logits are wanted."""
    on_layer: Callable[[int], None] | None = field(default=None)
    """Called with the layer's number when its KV has been written."""


class Backend(ABC):
    """Operations of a decoder; the residual stream is (T, hidden) float32 on `device`."""

    device: torch.device
    dtype: torch.dtype
    """Type of KV and of matrix products over many rows."""

    @abstractmethod
    def weight(self, parts: Sequence[Packed], bias: Tensor | None, *, dense: bool) -> Weight:
        """Fuse matrices with equal inputs row-wise; `dense` keeps a copy for products over many rows."""

    @abstractmethod
    def embed(self, table: Weight, ids: Tensor) -> Tensor:
        """Return rows `ids` of the table as (T, hidden) float32."""

    @abstractmethod
    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Return the RMS norm of x (T, hidden), in the type that `linear` wants for so many rows."""

    @abstractmethod
    def linear(self, x: Tensor, weight: Weight) -> Tensor:
        """Return x @ weight.T + bias as (T, O)."""

    @abstractmethod
    def linear_add(self, x: Tensor, weight: Weight, residual: Tensor) -> None:
        """Add x @ weight.T to `residual` (T, O) float32 in place."""

    @abstractmethod
    def product_input(self, x: Tensor) -> Tensor:
        """Return x (T, I) float32 in the type that `linear` wants for so many rows."""

    @abstractmethod
    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """Return silu(gate) * up of (T, 2 I)."""

    @abstractmethod
    def attention(self, qkv: Tensor, cos_sin: Tensor, kv: Tensor, batch: Batch, window: int | None = None) -> Tensor:
        """Rotate, write K and V of every row to `kv` (N, 2, K, B, D), attend; return (T, H D).

        With a `window` each row sees so many of its last tokens, itself included.
        """

    @abstractmethod
    def logits(self, x: Tensor, weight: Weight) -> Tensor:
        """Return x @ weight.T as (R, V) float32, for a few rows."""

    @abstractmethod
    def summarize(self, logits: Tensor) -> Summary:
        """Return the best token, its logit, the runner-up's and the log-sum-exp of each row."""

    def kv_cache(self, num_layers: int, num_blocks: int, kv_heads: int, block_size: int, dim: int) -> Tensor:
        """Return the zeroed KV tensor (layer, block, K/V, head, token, dim)."""
        shape = (num_layers, num_blocks, 2, kv_heads, block_size, dim)
        if self.device.type != "cpu":
            return torch.zeros(shape, dtype=self.dtype, device=self.device)
        # An anonymous mapping is zero without being touched: blocks cost memory from their first use on.
        memory = mmap.mmap(-1, math.prod(shape) * self.dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel without huge pages
                memory.madvise(mmap.MADV_HUGEPAGE)
        return torch.frombuffer(memory, dtype=self.dtype).view(shape)


def chunk_attention(qkv: Tensor, kv: Tensor, chunk: Chunk, window: int | None = None) -> Tensor:
    """Attend one chunk's rows over its context and itself, causally; return (chunk tokens, H D).

    Args:
        qkv: (T, (H + 2 K) D) of the whole batch, rotated; K and V of the chunk are in `kv` already.
        kv: (N, 2, K, B, D).
        chunk: which rows, and the blocks of context and chunk.
        window: how many of its last tokens each row sees, itself included; all by default.
    """
    _, _, kv_heads, block_size, dim = kv.shape
    heads = qkv.shape[1] // dim - 2 * kv_heads
    rows = qkv[chunk.first_row : chunk.first_row + chunk.num_tokens]
    unseen = 0 if window is None else max(0, chunk.start + 1 - window) // block_size
    start, blocks = chunk.start - unseen * block_size, chunk.blocks[unseen:]
    total = start + chunk.num_tokens
    query = rows[:, : heads * dim].reshape(chunk.num_tokens, heads, dim).transpose(0, 1)
    mask = None
    if chunk.start == 0:
        key = rows[:, heads * dim : (heads + kv_heads) * dim].reshape(total, kv_heads, dim).transpose(0, 1)
        value = rows[:, (heads + kv_heads) * dim :].reshape(total, kv_heads, dim).transpose(0, 1)
    else:
        context = kv[blocks].permute(1, 2, 0, 3, 4).reshape(2, kv_heads, -1, dim)[:, :, :total]
        key, value = context.to(query.dtype).unbind()
    if chunk.start > 0 or (window is not None and chunk.num_tokens > window):
        mask = torch.ones(chunk.num_tokens, total, dtype=torch.bool, device=qkv.device).tril(start)
        if window is not None:
            mask = mask.triu(start + 1 - window)
    out = torch.nn.functional.scaled_dot_product_attention(
        *(query[None], key[None], value[None]),
        attn_mask=mask,
        is_causal=mask is None,
        enable_gqa=heads != kv_heads,
    )
    return out[0].transpose(0, 1).reshape(chunk.num_tokens, heads * dim)
