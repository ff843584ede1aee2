from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType as Types
from tests.workers.models.tiny import (
    CONTEXT,
    VOCABULARY,
    eager_backend,
    load_decoder,
    native_backend,
    prompt,
    prompt_logits,
    randomized,
    reference_logits,
)

from headrace_worker.errors import ModelError
from headrace_worker.models.pick import open_checkpoint

IDS = prompt(60)
BACKENDS = pytest.mark.parametrize("make_backend", [eager_backend, native_backend], ids=["eager", "native"])
NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def make_gemma(**changes: Any) -> Any:
    """Return a random Gemma 3 of seven layers: the sixth is global, and heads are wider than the model."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 7,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "query_pre_attn_scalar": 32,
        "max_position_embeddings": 4 * CONTEXT,
        "sliding_window": CONTEXT,
        "tie_word_embeddings": True,
    }
    config = transformers.Gemma3TextConfig(**(sizes | changes), attn_implementation="eager")
    return randomized(transformers.Gemma3ForCausalLM(config), 3)


def write(model: Any, path: Path, **fields: float) -> Path:
    config = model.config
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_sliding_window(config.sliding_window)
    for name, value in fields.items():
        writer.add_float32(f"gemma3.{name}", value)
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        # The model multiplies by one plus its norms' weights; files hold the sum.
        writer.add_tensor(stored(name), (values + 1 if values.dim() == 1 else values).numpy(), raw_dtype=Types.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def stored(name: str) -> str:
    top = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
    module = name.removesuffix(".weight")
    if module in top:
        return f"{top[module]}.weight"
    _, _, layer, rest = module.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}.weight"


@BACKENDS
def test_logits_equal_transformers(tmp_path: Path, make_backend: Any) -> None:
    model = make_gemma()
    decoder = load_decoder(write(model, tmp_path / "model.gguf"), make_backend())
    wanted = reference_logits(model, IDS)
    assert wanted.std() > 0.3
    for chunks in ((), (16, 1)):
        torch.testing.assert_close(prompt_logits(decoder, IDS, chunks), wanted, rtol=0, atol=2e-4)


@BACKENDS
@pytest.mark.parametrize("chunks", [(), (16, 1), (24, 1, 1, 20), (1,) * 59], ids=["whole", "two", "mixed", "single"])
@pytest.mark.parametrize("window", [1, 16, 23])
def test_local_layers_see_their_window_however_a_prompt_is_cut(
    tmp_path: Path, make_backend: Any, window: int, chunks: tuple[int, ...]
) -> None:
    model = make_gemma(sliding_window=window)
    decoder = load_decoder(write(model, tmp_path / "model.gguf"), make_backend())
    torch.testing.assert_close(prompt_logits(decoder, IDS, chunks), reference_logits(model, IDS), rtol=0, atol=2e-4)


def test_most_layers_are_local_and_the_context_is_the_models_own(tmp_path: Path) -> None:
    config = open_checkpoint(write(make_gemma(), tmp_path / "model.gguf")).config
    assert config.max_context == 4 * CONTEXT
    assert [layer for layer in range(12) if config.window_of(layer) is None] == [5, 11]


def test_capped_logits_are_refused(tmp_path: Path) -> None:
    file = write(make_gemma(), tmp_path / "model.gguf", attn_logit_softcapping=50.0)
    with pytest.raises(ModelError, match="caps its logits"):
        open_checkpoint(file)
