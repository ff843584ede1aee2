"""Tiny random decoders: transformers' own model, its files, and the worker's decoder over them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Types

from headrace_worker.fetch import cache_root
from headrace_worker.kernels.cpu import Kernels
from headrace_worker.layers.backend import Backend
from headrace_worker.layers.eager import EagerBackend
from headrace_worker.layers.native import NativeBackend
from headrace_worker.models.decoder import Decoder
from headrace_worker.models.pick import open_checkpoint
from headrace_worker.runner.inputs import arrange, build
from headrace_worker.runner.work import Row, Work

Tensor = torch.Tensor
VOCABULARY = 320
CONTEXT = 256
_PARTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_BLOCK_SCALES: dict[Types, Callable[[Any], None]]
"""Fills the float16 scales of random blocks, for types that `gguf` reads but does not write."""


def _q4_k(blocks: Any) -> None:
    _put(blocks, 0, 3e-4)
    _put(blocks, 2, 2e-3)


def _q6_k(blocks: Any) -> None:
    _put(blocks, 208, 1e-4)


def _put(blocks: Any, at: int, value: float) -> None:
    blocks[..., at : at + 2] = np.frombuffer(np.float16(value).tobytes(), dtype=np.uint8)


_BLOCK_SCALES = {Types.Q4_K: _q4_k, Types.Q5_K: _q4_k, Types.Q6_K: _q6_k}


def make_llama(seed: int = 0, **changes: Any) -> Any:
    """Return a random Llama whose logits spread over several units; `changes` go to its config."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    return randomized(transformers.LlamaForCausalLM(transformers.LlamaConfig(**(sizes | changes))), seed)


def make_qwen(seed: int = 0, **changes: Any) -> Any:
    """Return a random Qwen2, whose queries, keys and values have biases."""
    config = make_llama().config.to_dict()
    for name in ("model_type", "architectures", "transformers_version"):
        config.pop(name, None)
    return randomized(transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**(config | changes))), seed)


def make_mistral(seed: int = 0, **changes: Any) -> Any:
    """Return a random Mistral, whose layers all see a window."""
    config = make_llama().config.to_dict()
    for name in ("model_type", "architectures", "transformers_version"):
        config.pop(name, None)
    settings = config | changes | {"attn_implementation": "eager"}
    return randomized(transformers.MistralForCausalLM(transformers.MistralConfig(**settings)), seed)


def randomized(model: Any, seed: int) -> Any:
    """Give every weight, norms and biases too, a value that shows when it is misused."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if "norm" in name:
                parameter.copy_(1 + values / 5)
            elif parameter.dim() == 1:
                parameter.copy_(values / 2)
            else:
                parameter.copy_(values * 1.5 / parameter.shape[1] ** 0.5)
    return model.float().eval()


def write_gguf(
    model: Any,
    path: Path,
    kind: Types = Types.F32,
    architecture: str = "llama",
    *,
    rope_divisors: Tensor | None = None,
    leave_out: str = "",
    kinds: Mapping[str, Types] = MappingProxyType({}),
) -> Path:
    """Write the model with its matrices stored as `kind`; the model's own weights become what the file says.

    Args:
        model: transformers' model.
        path: of the file.
        kind: of every matrix that `kinds` does not name.
        architecture: as the file names it.
        rope_divisors: of the rotary frequencies.
        leave_out: a tensor that the file lacks.
        kinds: of some parts of a layer, `attn_v` for example.
    """
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if config.head_dim * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    if rope_divisors is not None:
        writer.add_tensor("rope_freqs.weight", rope_divisors.numpy())
    for name, parameter in model.named_parameters():
        stored = stored_name(name)
        if stored == leave_out:
            continue
        permutes = architecture == "llama" and (".attn_q." in stored or ".attn_k." in stored)
        heads = (parameter.shape[0] // config.head_dim) if permutes else 0
        part = stored.split(".")[-2]
        _add_tensor(writer, stored, parameter, heads, kinds.get(part, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tensor(writer: gguf.GGUFWriter, stored: str, parameter: Tensor, heads: int, kind: Types) -> None:
    """Add one tensor; with `heads` its rotary pairs are interleaved, as files of this architecture have them."""
    values = _interleaved(parameter.detach(), heads) if heads else parameter.detach()
    if values.dim() == 1:
        writer.add_tensor(stored, values.numpy())
        return
    raw = _stored(values.numpy(), kind)
    truth = torch.from_numpy(np.array(gguf.quants.dequantize(raw, kind), dtype=np.float32)).view(values.shape)
    with torch.no_grad():
        parameter.copy_(_apart(truth, heads) if heads else truth)
    writer.add_tensor(stored, raw, raw_dtype=kind)


def _stored(values: Any, kind: Types) -> Any:
    if kind not in _BLOCK_SCALES:
        return gguf.quants.quantize(values, kind)
    per_block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.random.default_rng(values.size).integers(
        0, 256, (values.shape[0], values.shape[1] // per_block, block_bytes), dtype=np.uint8
    )
    _BLOCK_SCALES[kind](blocks)
    return blocks.reshape(values.shape[0], -1)


def _interleaved(rows: Tensor, heads: int) -> Tensor:
    return rows.view(heads, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def _apart(rows: Tensor, heads: int) -> Tensor:
    return rows.view(heads, -1, 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def stored_name(name: str) -> str:
    """Return a parameter's name in GGUF files."""
    top = {"model.embed_tokens": "token_embd", "lm_head": "output", "model.norm": "output_norm"}
    module, _, suffix = name.rpartition(".")
    if module in top:
        return f"{top[module]}.{suffix}"
    _, _, layer, rest = module.split(".", 3)
    norms = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    part = norms.get(rest) or next(stored for stored, theirs in _PARTS.items() if theirs == rest)
    return f"blk.{layer}.{part}.{suffix}"


def eager_backend(dtype: torch.dtype = torch.float32) -> EagerBackend:
    """Return plain torch on this processor."""
    return EagerBackend(torch.device("cpu"), dtype)


def native_backend(dtype: torch.dtype = torch.float32) -> NativeBackend:
    """Return the compiled kernels."""
    return NativeBackend(Kernels(cache_root()), dtype)


def load_decoder(path: Path, backend: Backend, max_model_len: int = CONTEXT, *, dense: bool = True) -> Decoder:
    """Return the worker's decoder with the weights at `path`."""
    checkpoint = open_checkpoint(path)
    decoder = Decoder(checkpoint.config, backend)
    decoder.load(checkpoint, max_model_len, dense=dense, progress=lambda _done, _total: None)
    return decoder


def make_kv(decoder: Decoder, num_blocks: int = 16, block_size: int = 16) -> Tensor:
    """Return an empty KV tensor."""
    config = decoder.config
    return decoder.backend.kv_cache(config.num_layers, num_blocks, config.kv_heads, block_size, config.head_dim)


@torch.inference_mode()
def step_logits(
    decoder: Decoder, kv: Tensor, rows: Sequence[Row], on_layer: Callable[[int], None] | None = None
) -> list[Tensor]:
    """Run one step; return the logits (tokens, V) of every token of each row, in the order of `rows`."""
    work = Work(rows, on_layer)
    order = arrange(work)
    batch = build(work, order, kv.shape[4], decoder.backend.device)
    batch = dataclasses.replace(batch, logit_rows=torch.arange(batch.ids.shape[0]))
    sizes = torch.tensor([len(rows[number].tokens) for number in order])
    logits = decoder.forward(batch, kv)
    assert logits is not None
    pieces = logits.tensor_split(sizes.cumsum(0)[:-1])
    return [piece for _, piece in sorted(zip(order, pieces, strict=True), key=lambda pair: pair[0])]


def prompt_logits(decoder: Decoder, ids: Sequence[int], chunks: Sequence[int] = ()) -> Tensor:
    """Return the logits (tokens, V) of a context computed in chunks of these sizes, then in one."""
    kv, logits, start = make_kv(decoder), [], 0
    for size in (*chunks, len(ids) - sum(chunks)):
        logits += step_logits(decoder, kv, [Row(ids[start : start + size], start, range(kv.shape[1]), None)])
        start += size
    return torch.cat(logits)


@torch.inference_mode()
def reference_logits(model: Any, ids: Sequence[int]) -> Tensor:
    """Return transformers' logits (tokens, V)."""
    logits: Tensor = model(torch.tensor([list(ids)])).logits[0]
    return logits


def prompt(length: int, seed: int = 0, vocabulary: int = VOCABULARY) -> list[int]:
    """Return random token ids."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, vocabulary, (length,), generator=generator).tolist()
