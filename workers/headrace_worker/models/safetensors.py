"""Reads safetensors folders in the layout of the model hub: config.json beside one or more .safetensors files."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from typing_extensions import override

from headrace_worker.errors import ModelError
from headrace_worker.kernels.cpu import Packed
from headrace_worker.models.checkpoint import DENSE_KINDS, WHOLE, Checkpoint, Cut, refuse_biases
from headrace_worker.models.config import ExpertsConfig, ModelConfig, RopeScaling

Tensor = torch.Tensor
_ARCHITECTURES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "MixtralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen2MoeForCausalLM",
)
_MIXTRAL = {
    "router": "block_sparse_moe.gate",
    "experts": "block_sparse_moe.experts",
    "gate": "w1",
    "up": "w3",
    "down": "w2",
}
_QWEN = {
    "router": "mlp.gate",
    "experts": "mlp.experts",
    "gate": "gate_proj",
    "up": "up_proj",
    "down": "down_proj",
    "shared": "mlp.shared_expert",
    "shared_gate": "mlp.shared_expert_gate",
}
_EXPERT_NAMES = {"MixtralForCausalLM": _MIXTRAL, "Qwen2MoeForCausalLM": _QWEN}
_NAMES = {
    "attn_norm": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


class SafetensorsCheckpoint(Checkpoint):
    """A folder with config.json; every .safetensors file in it is opened once, lazily read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        raw = _read_json(folder / "config.json")
        self._files: dict[str, Any] = {}
        self._size = 0
        for file in sorted(folder.glob("*.safetensors")):
            self._size += file.stat().st_size
            try:
                opened: Any = safe_open(file, framework="pt")
            except (SafetensorError, OSError) as error:
                raise ModelError(f"{file} is no complete safetensors file: {error}") from error
            self._files.update(dict.fromkeys(opened.keys(), opened))
        if not self._files:
            raise ModelError(f"{folder} has no .safetensors files")
        self._check_index()
        refuse_biases(folder, self._files, ("q_proj", "k_proj", "v_proj"))
        self.config = self._read_config(raw)

    def _check_index(self) -> None:
        index = self._folder / "model.safetensors.index.json"
        if not index.is_file():
            return
        weight_map = _read_json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise ModelError(f"{index} has no field 'weight_map' that maps tensors to files")
        missing = set(weight_map) - set(self._files)
        if missing:
            example = min(missing)
            raise ModelError(f"{self._folder} lacks {len(missing)} tensors of its index, {example!r} among them")

    def _read_config(self, raw: dict[str, Any]) -> ModelConfig:
        arch = (raw.get("architectures") or ["unknown"])[0]
        if arch not in _ARCHITECTURES:
            raise ModelError(f"{self._folder} holds a {arch!r} model; this worker runs: {', '.join(_ARCHITECTURES)}")
        activation = raw.get("hidden_act", "silu")
        if activation != "silu":
            raise ModelError(f"{self._folder}: the activation {activation!r} is not known; this worker knows silu")
        try:
            experts = _experts(raw, arch)
            heads = int(raw["num_attention_heads"])
            return ModelConfig(
                architecture=arch,
                num_layers=int(raw["num_hidden_layers"]),
                hidden=int(raw["hidden_size"]),
                intermediate=int(raw["intermediate_size"]) if experts is None else experts.intermediate,
                heads=heads,
                kv_heads=int(raw.get("num_key_value_heads") or heads),
                head_dim=int(raw.get("head_dim") or raw["hidden_size"] // heads),
                vocabulary=int(raw["vocab_size"]),
                max_context=_max_context(raw),
                window=_window(raw, arch),
                rope_theta=_theta(raw),
                rope_scaling=_scaling(raw),
                norm_eps=float(raw.get("rms_norm_eps", 1e-5)),
                tied_embedding=bool(raw.get("tie_word_embeddings")) or "lm_head.weight" not in self._files,
                qkv_bias="model.layers.0.self_attn.q_proj.bias" in self._files,
                experts=experts,
            )
        except KeyError as error:
            raise ModelError(f"{self._folder}/config.json lacks the field {error}") from error
        except (TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
            raise ModelError(f"{self._folder}/config.json describes no decoder of this family: {error}") from error

    @override
    def size_bytes(self) -> int:
        return self._size

    @override
    def matrix_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._slice(name).get_shape())

    def _slice(self, name: str) -> Any:
        stored_name = self._stored_name(name) + ".weight"
        opened = self._files.get(stored_name)
        if opened is None:
            raise ModelError(f"{self._folder} has no tensor {stored_name}")
        return opened.get_slice(stored_name)

    @override
    def matrix(self, name: str, dtype: torch.dtype, cut: Cut = WHOLE) -> Packed:
        lazy = self._slice(name)
        outputs, inputs = lazy.get_shape()
        rows, columns = cut.rows or range(outputs), cut.columns or range(inputs)
        found: Tensor = lazy[rows.start : rows.stop, columns.start : columns.stop]
        if found.dtype not in DENSE_KINDS:
            raise ModelError(
                f"{self._stored_name(name)}.weight is {found.dtype}; float32, float16 and bfloat16 are known"
            )
        if dtype is torch.bfloat16 and found.dtype is not torch.bfloat16:
            found = found.to(dtype)
        return Packed(found.contiguous(), DENSE_KINDS[found.dtype], found.shape[1], found.shape[0])

    @override
    def vector(self, name: str) -> Tensor | None:
        suffix = ".bias" if name.endswith("_bias") else ".weight"
        found = self._tensor(self._stored_name(name.removesuffix("_bias")) + suffix)
        return None if found is None else found.float()

    def _stored_name(self, name: str) -> str:
        return _stored_name(name, self.config.architecture)

    def _tensor(self, stored_name: str) -> Tensor | None:
        opened = self._files.get(stored_name)
        if opened is None:
            return None
        found: Tensor = opened.get_tensor(stored_name)
        return found


def _stored_name(name: str, arch: str) -> str:
    top = {"embed": "model.embed_tokens", "head": "lm_head", "norm": "model.norm"}
    if name in top:
        return top[name]
    layer, part, *inner = name.split(".")
    own = _EXPERT_NAMES.get(arch, {})
    rest = [own.get(part) or _NAMES[part], *(own.get(one, one) for one in inner)]
    return ".".join(("model.layers", layer, *rest))


def _experts(raw: dict[str, Any], arch: str) -> ExpertsConfig | None:
    if arch not in _EXPERT_NAMES:
        return None
    if arch == "MixtralForCausalLM":
        return ExpertsConfig(
            count=int(raw["num_local_experts"]),
            per_token=int(raw["num_experts_per_tok"]),
            intermediate=int(raw["intermediate_size"]),
            normalize=True,
        )
    if int(raw.get("decoder_sparse_step", 1)) != 1 or raw.get("mlp_only_layers"):
        raise ValueError("some of its layers have no experts, which this worker does not know")
    return ExpertsConfig(
        count=int(raw["num_experts"]),
        per_token=int(raw["num_experts_per_tok"]),
        intermediate=int(raw["moe_intermediate_size"]),
        normalize=bool(raw.get("norm_topk_prob")),
        shared_intermediate=int(raw["shared_expert_intermediate_size"]),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a JSON {type(content).__name__}, expected an object")
    return content


def _max_context(raw: dict[str, Any]) -> int:
    """Return the context up to which attention over all tokens is what the model was trained with."""
    context = int(raw["max_position_embeddings"])
    windowed = raw.get("use_sliding_window", False)
    return min(context, int(raw.get("sliding_window") or context)) if windowed else context


def _window(raw: dict[str, Any], arch: str) -> int | None:
    """Return how many of the last tokens every layer sees, as Mistral has it."""
    return int(raw["sliding_window"]) if arch == "MistralForCausalLM" and raw.get("sliding_window") else None


def _theta(raw: dict[str, Any]) -> float:
    parameters = raw.get("rope_parameters") or {}
    return float(parameters.get("rope_theta") or raw.get("rope_theta") or 10000.0)


def _scaling(raw: dict[str, Any]) -> RopeScaling | None:
    scaling = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return None
    if kind not in {"linear", "llama3"}:
        raise ModelError(f"rotary scaling {kind!r} is not known; this worker knows default, linear and llama3")
    return RopeScaling(
        kind=kind,
        factor=float(scaling["factor"]),
        low_freq_factor=float(scaling.get("low_freq_factor", 1.0)),
        high_freq_factor=float(scaling.get("high_freq_factor", 4.0)),
        original_context=int(scaling.get("original_max_position_embeddings", 8192)),
    )
