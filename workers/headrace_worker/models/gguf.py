"""Reads GGUF files: Llama-family decoders in every quantization that the `gguf` package can dequantize."""

from math import prod
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from typing_extensions import override

from headrace_worker.errors import ModelError
from headrace_worker.kernels.cpu import GROUP, Kind, Packed
from headrace_worker.models.checkpoint import DENSE_KINDS, WHOLE, Checkpoint, Cut, check_groups, refuse_biases
from headrace_worker.models.config import Gemma, ModelConfig
from headrace_worker.models.header import StoredTensor, read_header

Tensor = torch.Tensor
_ARCHITECTURES = ("llama", "qwen2", "gemma3")
_ROTATES_NEIGHBOURS = ("llama",)
"""Architectures whose files interleave the rotary pairs of q and k (2i, 2i + 1); undone at load."""
_KINDS = {
    gguf.GGMLQuantizationType.F32: Kind.F32,
    gguf.GGMLQuantizationType.F16: Kind.F16,
    gguf.GGMLQuantizationType.BF16: Kind.BF16,
    gguf.GGMLQuantizationType.Q8_0: Kind.Q8,
    gguf.GGMLQuantizationType.Q4_0: Kind.Q4,
    gguf.GGMLQuantizationType.Q4_1: Kind.Q4,
}
_STORED_GROUPS = {
    gguf.GGMLQuantizationType.Q8_0: np.dtype([("scale", "<f2"), ("values", "V32")]),
    gguf.GGMLQuantizationType.Q4_0: np.dtype([("scale", "<f2"), ("values", "V16")]),
    gguf.GGMLQuantizationType.Q4_1: np.dtype([("scale", "<f2"), ("offset", "<f2"), ("values", "V16")]),
}
_NIBBLES = np.dtype([("scale", "<f4"), ("offset", "<f4"), ("values", "V16")])
_PACKED_GROUPS = {
    gguf.GGMLQuantizationType.Q8_0: np.dtype([("scale", "<f4"), ("values", "V32")]),
    gguf.GGMLQuantizationType.Q4_0: _NIBBLES,
    gguf.GGMLQuantizationType.Q4_1: _NIBBLES,
}
_NAMES = {
    "attn_norm": "attn_norm",
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "ffn_norm": "ffn_norm",
    "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm",
    "attn_post_norm": "post_attention_norm",
    "ffn_post_norm": "post_ffw_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


class GgufCheckpoint(Checkpoint):
    """One .gguf file, mapped into memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        header = read_header(path, lambda key: not key.startswith("tokenizer."))
        self._values = header.values
        self._tensors = {tensor.name: tensor for tensor in header.tensors}
        end = max((tensor.offset + _size_bytes(tensor) for tensor in header.tensors), default=0)
        size = path.stat().st_size
        if end > size:
            raise ModelError(f"{path} has {size} bytes but its tensors end at {end}: it is truncated; fetch it again")
        refuse_biases(path, self._tensors, ("attn_q", "attn_k", "attn_v"))
        self._bytes = np.memmap(path, mode="r")
        try:
            self.config = self._read_config()
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise ModelError(f"{path} has metadata that describes no decoder of this family: {error}") from error

    def _field(self, key: str, default: Any = None) -> Any:
        return self._values.get(key, default)

    def _required(self, key: str) -> Any:
        value = self._field(key)
        if value is None:
            raise ModelError(f"{self._path} lacks the metadata field {key!r}")
        return value

    def _read_config(self) -> ModelConfig:
        arch = str(self._required("general.architecture"))
        if arch not in _ARCHITECTURES or f"{arch}.expert_count" in self._values:
            known = ", ".join(_ARCHITECTURES)
            raise ModelError(f"{self._path} holds a {arch!r} model; this worker runs dense models of: {known}")
        heads = int(self._required(f"{arch}.attention.head_count"))
        hidden = int(self._required(f"{arch}.embedding_length"))
        scaling = self._field(f"{arch}.rope.scaling.type")
        if scaling not in {None, "none"}:
            raise ModelError(f"{self._path} scales rotary positions by {scaling!r}, which this worker does not know")
        return ModelConfig(
            architecture=arch,
            num_layers=int(self._required(f"{arch}.block_count")),
            hidden=hidden,
            intermediate=int(self._required(f"{arch}.feed_forward_length")),
            heads=heads,
            kv_heads=int(self._field(f"{arch}.attention.head_count_kv", heads)),
            head_dim=int(self._field(f"{arch}.attention.key_length", hidden // heads)),
            vocabulary=int(self._tensors["token_embd.weight"].shape[1]) if "token_embd.weight" in self._tensors else 0,
            max_context=self._max_context(arch),
            window=int(self._required("gemma3.attention.sliding_window")) if arch == "gemma3" else None,
            rope_theta=float(self._field(f"{arch}.rope.freq_base", 10000.0)),
            norm_eps=float(self._field(f"{arch}.attention.layer_norm_rms_epsilon", 1e-5)),
            tied_embedding="output.weight" not in self._tensors,
            qkv_bias="blk.0.attn_q.bias" in self._tensors,
            gemma=self._gemma() if arch == "gemma3" else None,
        )

    def _gemma(self) -> Gemma:
        if self._field("gemma3.attn_logit_softcapping") or self._field("gemma3.final_logit_softcapping"):
            raise ModelError(f"{self._path} caps its logits, as Gemma 2 does; this worker knows Gemma 3")
        return Gemma(local_rope_theta=float(self._field("gemma3.rope.freq_base_swa", 10000.0)))

    def _max_context(self, arch: str) -> int:
        """Return the context up to which attention over all tokens is what the model was trained with."""
        context = int(self._required(f"{arch}.context_length"))
        if arch == "gemma3":
            return context
        return min(context, int(self._field(f"{arch}.attention.sliding_window") or context))

    @override
    def size_bytes(self) -> int:
        return sum(map(_size_bytes, self._tensors.values()))

    @override
    def rope_factors(self) -> Tensor | None:
        return self._vector("rope_freqs.weight")

    @override
    def matrix_shape(self, name: str) -> tuple[int, ...]:
        return tuple(reversed(self._stored(name).shape))

    def _stored(self, name: str) -> StoredTensor:
        stored = self._tensors.get(_stored_name(name) + ".weight")
        if stored is None:
            raise ModelError(f"{self._path} has no tensor {_stored_name(name)}.weight")
        return stored

    @override
    def matrix(self, name: str, dtype: torch.dtype, cut: Cut = WHOLE) -> Packed:
        stored = self._stored(name)
        inputs, outputs = int(stored.shape[0]), int(stored.shape[1])
        rows, columns = cut.rows or range(outputs), cut.columns or range(inputs)
        kind, raw = _KINDS.get(_type_of(stored)), self._raw(stored)[rows.start : rows.stop]
        if kind is None or (inputs % GROUP and kind not in DENSE_KINDS.values()):
            data = self._dequantized(stored, dtype, raw)[:, columns.start : columns.stop].contiguous()
            kind = DENSE_KINDS[dtype]
        else:
            if kind not in DENSE_KINDS.values():
                check_groups(stored.name, columns, _type_of(stored).name)
            size = raw.shape[1]
            data = _repacked(raw[:, columns.start * size // inputs : columns.stop * size // inputs], _type_of(stored))
        return Packed(self._in_order(name, data.view(len(rows), -1)), kind, len(columns), len(rows))

    def _raw(self, stored: StoredTensor) -> Any:
        """Return the stored bytes, (rows, bytes of a row) uint8; not copied."""
        size = _size_bytes(stored)
        return self._bytes[stored.offset : stored.offset + size].reshape(-1, size // max(1, prod(stored.shape[1:])))

    def _dequantized(self, stored: StoredTensor, dtype: torch.dtype, raw: Any) -> Tensor:
        kind = _type_of(stored)
        try:
            values = gguf.quants.dequantize(np.array(raw), kind)
        except NotImplementedError as error:
            sentence = f"{self._path}: {stored.name} is {kind.name}, which cannot be dequantized here"
            raise ModelError(sentence) from error
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(dtype)

    def _in_order(self, name: str, rows: Tensor) -> Tensor:
        """Undo the interleaving of rotary pairs: rows of a head come as (pair, half), wanted are (half, pair)."""
        part = name.rpartition(".")[2]
        if part not in {"q", "k"} or self.config.architecture not in _ROTATES_NEIGHBOURS:
            return rows.clone()
        half = self.config.head_dim // 2
        return rows.view(-1, half, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape).contiguous()

    @override
    def vector(self, name: str) -> Tensor | None:
        bias = name.endswith("_bias")
        found = self._vector(_stored_name(name.removesuffix("_bias")) + (".bias" if bias else ".weight"))
        return (
            self._in_order(name.removesuffix("_bias"), found[:, None]).flatten()
            if found is not None and bias
            else found
        )

    def _vector(self, stored_name: str) -> Tensor | None:
        stored = self._tensors.get(stored_name)
        if stored is None:
            return None
        return self._dequantized(stored, torch.float32, self._raw(stored)).flatten()


def _stored_name(name: str) -> str:
    top = {"embed": "token_embd", "head": "output", "norm": "output_norm"}
    if name in top:
        return top[name]
    layer, _, part = name.partition(".")
    return f"blk.{layer}.{_NAMES[part]}"


def _type_of(stored: StoredTensor) -> gguf.GGMLQuantizationType:
    try:
        return gguf.GGMLQuantizationType(stored.kind)
    except ValueError as error:
        raise ModelError(
            f"{stored.name} has the unknown GGML type {stored.kind}; is the file from the future?"
        ) from error


def _size_bytes(stored: StoredTensor) -> int:
    group, group_bytes = gguf.GGML_QUANT_SIZES[_type_of(stored)]
    return int(prod(stored.shape) // group * group_bytes)


def _repacked(raw: Any, kind: gguf.GGMLQuantizationType) -> Tensor:
    """Return rows of stored bytes in the kernels' form: quantized groups get their float16 scales as float32.

    Groups in the file (GGUF specification): Q8_0 is a scale and 32 signed bytes, Q4_0 a scale and 16 bytes of nibbles
    around 8, Q4_1 has a scale and an offset before its nibbles.
    """
    types = gguf.GGMLQuantizationType
    dense = {types.F32: torch.float32, types.F16: torch.float16, types.BF16: torch.bfloat16}
    if kind in dense:
        return torch.from_numpy(np.array(raw)).view(dense[kind])
    stored = raw.view(_STORED_GROUPS[kind])
    packed = np.empty(stored.shape, _PACKED_GROUPS[kind])
    packed["scale"] = stored["scale"]
    packed["values"] = stored["values"]
    if kind == types.Q4_0:
        packed["offset"] = packed["scale"] * -8
    elif kind == types.Q4_1:
        packed["offset"] = stored["offset"]
    return torch.from_numpy(packed.view(np.uint8))
