"""Reads GGUF files: Llama-family decoders in every quantization that the `gguf` package can dequantize."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from typing_extensions import override

from headrace_worker.errors import ModelError
from headrace_worker.kernels.cpu import GROUP, Kind, Packed
from headrace_worker.models.checkpoint import DENSE_KINDS, Checkpoint, refuse_biases
from headrace_worker.models.config import ModelConfig

Tensor = torch.Tensor
_ARCHITECTURES = ("llama", "qwen2")
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
_GROUP_BYTES = {
    gguf.GGMLQuantizationType.Q8_0: 34,
    gguf.GGMLQuantizationType.Q4_0: 18,
    gguf.GGMLQuantizationType.Q4_1: 20,
}
_NAMES = {
    "attn_norm": "attn_norm",
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "ffn_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


class GgufCheckpoint(Checkpoint):
    """One .gguf file, mapped into memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._reader = gguf.GGUFReader(path)
        except (ValueError, OSError, IndexError, KeyError) as error:
            raise ModelError(f"{path} is no readable GGUF file (truncated, or another format): {error}") from error
        self._tensors: dict[str, Any] = {tensor.name: tensor for tensor in self._reader.tensors}
        end = max((t.data_offset + t.n_bytes for t in self._reader.tensors), default=0)
        if end > path.stat().st_size:
            raise ModelError(f"{path} has {path.stat().st_size} bytes but its tensors end at {end}: it is truncated")
        refuse_biases(path, self._tensors, ("attn_q", "attn_k", "attn_v"))
        try:
            self.config = self._read_config()
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise ModelError(f"{path} has metadata that describes no decoder of this family: {error}") from error

    def _field(self, key: str, default: Any = None) -> Any:
        field = self._reader.fields.get(key)
        if field is None:
            return default
        return field.contents()

    def _required(self, key: str) -> Any:
        value = self._field(key)
        if value is None:
            raise ModelError(f"{self._path} lacks the metadata field {key!r}")
        return value

    def _read_config(self) -> ModelConfig:
        arch = str(self._required("general.architecture"))
        if arch not in _ARCHITECTURES or f"{arch}.expert_count" in self._reader.fields:
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
            rope_theta=float(self._field(f"{arch}.rope.freq_base", 10000.0)),
            norm_eps=float(self._field(f"{arch}.attention.layer_norm_rms_epsilon", 1e-5)),
            tied_embedding="output.weight" not in self._tensors,
            qkv_bias="blk.0.attn_q.bias" in self._tensors,
        )

    def _max_context(self, arch: str) -> int:
        """Return the context up to which attention over all tokens is what the model was trained with."""
        context = int(self._required(f"{arch}.context_length"))
        return min(context, int(self._field(f"{arch}.attention.sliding_window") or context))

    @override
    def size_bytes(self) -> int:
        return sum(int(tensor.n_bytes) for tensor in self._tensors.values())

    @override
    def rope_factors(self) -> Tensor | None:
        return self._vector("rope_freqs.weight")

    @override
    def matrix(self, name: str, dtype: torch.dtype) -> Packed:
        stored = self._tensors.get(_stored_name(name) + ".weight")
        if stored is None:
            raise ModelError(f"{self._path} has no tensor {_stored_name(name)}.weight")
        inputs, outputs = int(stored.shape[0]), int(stored.shape[1])
        kind = _KINDS.get(stored.tensor_type)
        if kind is None or (inputs % GROUP and kind not in DENSE_KINDS.values()):
            data, kind = self._dequantized(stored, dtype), DENSE_KINDS[dtype]
        else:
            data = _repacked(stored)
        return Packed(self._in_order(name, data.view(outputs, -1)), kind, inputs, outputs)

    def _dequantized(self, stored: Any, dtype: torch.dtype) -> Tensor:
        try:
            values = gguf.quants.dequantize(np.array(stored.data), stored.tensor_type)
        except NotImplementedError as error:
            raise ModelError(
                f"{self._path}: {stored.name} is {stored.tensor_type.name}, which cannot be dequantized here"
            ) from error
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
        return self._dequantized(stored, torch.float32).flatten()


def _stored_name(name: str) -> str:
    top = {"embed": "token_embd", "head": "output", "norm": "output_norm"}
    if name in top:
        return top[name]
    layer, _, part = name.partition(".")
    return f"blk.{layer}.{_NAMES[part]}"


def _repacked(stored: Any) -> Tensor:
    """Return the stored bytes in the kernels' form: quantized groups get their float16 scales as float32.

    Groups in the file (GGUF specification): Q8_0 is a scale and 32 signed bytes, Q4_0 a scale and 16 bytes of nibbles
    around 8, Q4_1 has a scale and an offset before its nibbles.
    """
    types = gguf.GGMLQuantizationType
    raw = torch.from_numpy(np.array(stored.data))
    dense = {types.F32: torch.float32, types.F16: torch.float16, types.BF16: torch.bfloat16}
    if stored.tensor_type in dense:
        return raw.view(dense[stored.tensor_type])
    groups = raw.view(raw.shape[0], raw.shape[1] // _GROUP_BYTES[stored.tensor_type], -1)
    scale = groups[..., :2].contiguous().view(torch.float16).float()
    if stored.tensor_type == types.Q8_0:
        parts = [scale.view(torch.uint8), groups[..., 2:]]
    elif stored.tensor_type == types.Q4_0:
        parts = [scale.view(torch.uint8), (scale * -8).view(torch.uint8), groups[..., 2:]]
    else:
        offset = groups[..., 2:4].contiguous().view(torch.float16).float()
        parts = [scale.view(torch.uint8), offset.view(torch.uint8), groups[..., 4:]]
    return torch.cat(parts, dim=-1).view(raw.shape[0], -1)
