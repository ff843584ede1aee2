"""Typed calls of the C++ kernels: shapes and types are checked here, once, by assertions.

Letters of shapes: T tokens (rows), I inputs, O outputs, H query heads, K key/value heads, D head size, N blocks,
B tokens per block, V vocabulary.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import torch

from headrace_worker.kernels import build

Tensor = torch.Tensor
_POINTER, _INT, _LONG, _FLOAT = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_float
_SIGNATURES: dict[str, Sequence[type]] = {
    "hr_linear": (_POINTER, _POINTER, _INT, _POINTER, _LONG, _LONG, _LONG, _LONG, _INT),
    "hr_expand": (_POINTER, _INT, _POINTER, _POINTER, _INT, _LONG, _LONG),
    "hr_rms_norm": (_POINTER, _POINTER, _POINTER, _INT, _LONG, _LONG, _FLOAT),
    "hr_silu_mul": (_POINTER, _POINTER, _INT, _LONG, _LONG),
    "hr_rotate_store": (
        *(_POINTER, _INT, _POINTER, _POINTER, _POINTER, _POINTER, _INT),
        *(_LONG, _INT, _INT, _INT, _INT),
    ),
    "hr_attend": (
        *(_POINTER, _LONG, _POINTER, _INT, _POINTER, _LONG, _POINTER, _POINTER),
        *(_LONG, _INT, _INT, _INT, _INT, _INT, _FLOAT),
    ),
    "hr_summarize": (_POINTER, _LONG, _LONG, _POINTER, _POINTER, _POINTER, _POINTER),
}
GROUP = 32
"""Inputs of a product come in groups of this many."""


class Kind(IntEnum):
    """How packed weights are stored; the numbers are the kernels' own. Groups are of 32 inputs."""

    F32 = 0
    BF16 = 1
    F16 = 2
    Q8 = 3
    """Scale (float32), 32 signed bytes: 36 bytes a group."""
    Q4 = 4
    """Scale and offset (float32), 16 bytes of nibbles, the low ones first: 24 bytes a group."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A weight matrix (O, I) in its stored form: `data` holds O rows of bytes or of values."""

    data: Tensor
    kind: Kind
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Per row of logits, each (T,): best token, its logit, the runner-up's logit, log of the sum of exponentials."""

    best: Tensor
    most: Tensor
    second: Tensor
    log_sum: Tensor


class Kernels:
    """The compiled library; every method runs on the calling thread and torch's OpenMP pool, without the GIL."""

    def __init__(self, cache: Path) -> None:
        self._library = build.library(cache)
        for name, arguments in _SIGNATURES.items():
            getattr(self._library, name).argtypes = arguments
        self.lanes = int(self._library.hr_lanes())
        self._linear = self._library.hr_linear
        self._rms_norm = self._library.hr_rms_norm
        self._silu_mul = self._library.hr_silu_mul
        self._rotate_store = self._library.hr_rotate_store
        self._attend = self._library.hr_attend

    def linear(self, x: Tensor, weight: Packed, out: Tensor, *, add: bool = False) -> None:
        """Write x @ weight.T into `out`, or add it there.

        Args:
            x: (T, I) float32, contiguous.
            weight: (O, I); I is a multiple of 32.
            out: (T, O) float32, rows contiguous; may be columns of a wider tensor.
            add: keep what is in `out` and add to it (the residual).
        """
        assert x.dtype == out.dtype == torch.float32
        assert x.is_contiguous()
        assert out.stride(1) == 1
        assert x.shape[1] == weight.inputs
        self._linear(
            *(x.data_ptr(), weight.data.data_ptr(), weight.kind, out.data_ptr()),
            *(x.shape[0], weight.inputs, weight.outputs, out.stride(0), add),
        )

    def expand(self, weight: Packed, dtype: torch.dtype, ids: Tensor | None = None) -> Tensor:
        """Return rows `ids` ((T,) int64; None is every row) of the matrix as (T, I) in float32 or bfloat16."""
        assert dtype in {torch.float32, torch.bfloat16}
        count = weight.outputs if ids is None else ids.shape[0]
        out = torch.empty(count, weight.inputs, dtype=dtype)
        self._library.hr_expand(
            *(weight.data.data_ptr(), weight.kind, None if ids is None else ids.data_ptr(), out.data_ptr()),
            *(dtype == torch.bfloat16, count, weight.inputs),
        )
        return out

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        """Return x / rms(x) * weight in `dtype`: x is (T, I) float32, weight (I,) float32."""
        out = torch.empty(x.shape, dtype=dtype)
        self._rms_norm(
            *(x.data_ptr(), weight.data_ptr(), out.data_ptr(), dtype == torch.bfloat16),
            *(x.shape[0], x.shape[1], eps),
        )
        return out

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """Return silu(gate) * up for gate_up (T, 2 I), float32 or bfloat16, as (T, I) of the same type."""
        count, double = gate_up.shape
        out = torch.empty(count, double // 2, dtype=gate_up.dtype)
        self._silu_mul(gate_up.data_ptr(), out.data_ptr(), gate_up.dtype == torch.bfloat16, count, double // 2)
        return out

    def rotate_store(self, qkv: Tensor, cos_sin: Tensor, positions: Tensor, slots: Tensor, kv: Tensor) -> None:
        """Rotate queries and keys in place and write keys and values to their slots of one layer's blocks.

        Args:
            qkv: (T, (H + 2 K) D) float32 or bfloat16.
            cos_sin: (positions, D) float32, D/2 cosines then D/2 sines; pairs are (i, i + D/2).
            positions: (T,) int32.
            slots: (T,) int64, block * B + offset.
            kv: (N, 2, K, B, D) float32 or bfloat16.
        """
        _, _, kv_heads, block_size, dim = kv.shape
        heads = qkv.shape[1] // dim - 2 * kv_heads
        self._rotate_store(
            *(qkv.data_ptr(), qkv.dtype == torch.bfloat16, cos_sin.data_ptr(), positions.data_ptr()),
            *(slots.data_ptr(), kv.data_ptr(), kv.dtype == torch.bfloat16),
            *(qkv.shape[0], heads, kv_heads, dim, block_size),
        )

    def attend(self, qkv: Tensor, kv: Tensor, tables: Tensor, contexts: Tensor, window: int | None = None) -> Tensor:
        """Return the attention of single-token rows over their paged context, (T, H D) float32.

        Args:
            qkv: (T, (H + 2 K) D) float32, rotated.
            kv: (N, 2, K, B, D) float32 or bfloat16, one layer.
            tables: (T, most blocks) int32.
            contexts: (T,) int32, tokens of context of each row, itself included.
            window: how many of the last of these each row sees; all by default.
        """
        _, _, kv_heads, block_size, dim = kv.shape
        heads = qkv.shape[1] // dim - 2 * kv_heads
        out = torch.empty(qkv.shape[0], heads * dim, dtype=torch.float32)
        status = self._attend(
            *(qkv.data_ptr(), qkv.stride(0), kv.data_ptr(), kv.dtype == torch.bfloat16),
            *(tables.data_ptr(), tables.stride(0), contexts.data_ptr(), out.data_ptr()),
            *(qkv.shape[0], heads, kv_heads, dim, block_size, window or 0, dim**-0.5),
        )
        assert status == 0
        return out

    def summarize(self, logits: Tensor) -> Summary:
        """Return what sampling and the gate need of each row of logits (T, V) float32, contiguous."""
        count = logits.shape[0]
        best = torch.empty(count, dtype=torch.int64)
        most, second, log_sum = torch.empty(3, count).unbind()
        self._library.hr_summarize(
            *(logits.data_ptr(), count, logits.shape[1]),
            *(best.data_ptr(), most.data_ptr(), second.data_ptr(), log_sum.data_ptr()),
        )
        return Summary(best, most, second, log_sum)
