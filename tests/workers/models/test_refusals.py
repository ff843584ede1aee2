import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Types
from gguf import GGUFWriter
from safetensors.torch import load_file, save_file
from tests.workers.models.tiny import eager_backend, load_decoder, make_llama, make_qwen, native_backend, write_gguf

from headrace_worker.errors import ModelError
from headrace_worker.models.pick import open_checkpoint

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_llama().save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def gguf_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_gguf(make_llama(), tmp_path_factory.mktemp("gguf") / "model.gguf", Types.Q8_0).read_bytes()


def change_config(folder: Path, **fields: Any) -> None:
    """Set fields of config.json; None takes one out."""
    config = json.loads((folder / "config.json").read_text()) | fields
    kept = {name: value for name, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_a_path_without_a_model_says_what_is_expected(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ModelError, match=r"neither a \.gguf file nor a folder with config\.json"):
            open_checkpoint(path)


# --- GGUF ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 1e-5, 1e-4, 0.01, 0.02, 0.5, 0.999])
def test_a_truncated_gguf_file_is_named(tmp_path: Path, gguf_bytes: bytes, share: float) -> None:
    file = tmp_path / "cut.gguf"
    file.write_bytes(gguf_bytes[: int(len(gguf_bytes) * share)])
    with pytest.raises(ModelError, match=r"cut\.gguf.*truncated"):
        open_checkpoint(file)


def test_another_format_is_no_gguf_file(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"PK\x03\x04" + bytes(4096))
    with pytest.raises(ModelError, match=r"model\.gguf is no GGUF file"):
        open_checkpoint(file)


@pytest.mark.parametrize("name", ["blk.1.ffn_down.weight", "blk.0.attn_norm.weight", "token_embd.weight"])
def test_a_missing_tensor_of_a_gguf_file_is_named(tmp_path: Path, name: str) -> None:
    file = write_gguf(make_llama(), tmp_path / "model.gguf", leave_out=name)
    canonical = name.removesuffix(".weight").replace("blk.", "")
    with pytest.raises(ModelError, match=f"no tensor (for )?'?({name}|{canonical})"):
        load_decoder(file, eager_backend())


def write_header(path: Path, architecture: str, **fields: Any) -> Path:
    """Write a GGUF file of metadata alone; integers and strings."""
    writer = GGUFWriter(path, architecture)
    for name, value in fields.items():
        key = f"{architecture}.{name.replace('__', '.')}"
        if isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_uint32(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


SIZES = {
    "block_count": 1,
    "embedding_length": 64,
    "feed_forward_length": 96,
    "context_length": 64,
    "attention__head_count": 4,
}


def test_an_unknown_gguf_architecture_is_named_beside_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a 'mamba' model; this worker runs dense models of: llama, qwen2"):
        open_checkpoint(write_header(tmp_path / "model.gguf", "mamba", **SIZES))


def test_a_mixture_of_experts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="dense models"):
        open_checkpoint(write_header(tmp_path / "model.gguf", "llama", expert_count=8, **SIZES))


def test_unknown_scaling_of_positions_in_a_gguf_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="scales rotary positions by 'yarn'"):
        open_checkpoint(write_header(tmp_path / "model.gguf", "llama", rope__scaling__type="yarn", **SIZES))


@pytest.mark.parametrize("field", SIZES)
def test_a_missing_gguf_field_is_named(tmp_path: Path, field: str) -> None:
    sizes = {name: value for name, value in SIZES.items() if name != field}
    with pytest.raises(ModelError, match=rf"lacks the metadata field 'llama\.{field.replace('__', '.')}'"):
        open_checkpoint(write_header(tmp_path / "model.gguf", "llama", **sizes))


# --- safetensors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 4, 100, 40_000])
def test_a_truncated_safetensors_file_is_named(folder: Path, size: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"model\.safetensors is no complete safetensors file"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj", "model.norm", "model.layers.2.input_layernorm"])
def test_a_missing_tensor_is_named(folder: Path, name: str) -> None:
    change_tensors(folder, lambda tensors: tensors.pop(f"{name}.weight"))
    with pytest.raises(ModelError, match=f"no tensor (for )?'?({name}|norm|2.attn_norm)"):
        load_decoder(folder, eager_backend())


def test_a_missing_shard_is_told_by_a_tensor_of_it(tmp_path: Path) -> None:
    make_llama().save_pretrained(tmp_path, max_shard_size="100KB")
    min(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(ModelError, match=r"lacks \d+ tensors of its index, '.*' among them"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"weight_map": 7}'])
def test_a_damaged_index_is_named(folder: Path, index: str) -> None:
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json"):
        open_checkpoint(folder)


def test_a_folder_without_weights_says_so(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no \.safetensors files"):
        open_checkpoint(folder)


@pytest.mark.parametrize("config", ["", "{", "[]", '"llama"'])
def test_a_damaged_config_is_named(folder: Path, config: str) -> None:
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelError, match=r"config\.json"):
        open_checkpoint(folder)


@pytest.mark.parametrize("field", ["num_attention_heads", "hidden_size", "vocab_size", "max_position_embeddings"])
def test_a_missing_field_of_the_config_is_named(folder: Path, field: str) -> None:
    change_config(folder, **{field: None})
    with pytest.raises(ModelError, match=rf"config\.json lacks the field '{field}'"):
        open_checkpoint(folder)


@pytest.mark.parametrize("value", ["many", [4], {}])
def test_a_field_of_the_wrong_type_is_no_traceback(folder: Path, value: object) -> None:
    change_config(folder, num_attention_heads=value)
    with pytest.raises(ModelError, match=r"config\.json"):
        open_checkpoint(folder)


@pytest.mark.parametrize("architectures", [["MambaForCausalLM"], [], None])
def test_an_unknown_architecture_is_named_beside_the_known_ones(folder: Path, architectures: list[str] | None) -> None:
    change_config(folder, architectures=architectures)
    name = architectures[0] if architectures else "unknown"
    with pytest.raises(ModelError, match=f"a '{name}' model; this worker runs: LlamaForCausalLM, "):
        open_checkpoint(folder)


def test_unknown_scaling_of_positions_is_named_beside_the_known_ones(folder: Path) -> None:
    change_config(folder, rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0})
    with pytest.raises(ModelError, match="'yarn' is not known; this worker knows default, linear and llama3"):
        open_checkpoint(folder)


def test_an_activation_other_than_silu_is_refused(folder: Path) -> None:
    change_config(folder, hidden_act="gelu")
    with pytest.raises(ModelError, match="activation 'gelu' is not known; this worker knows silu"):
        open_checkpoint(folder)


@pytest.mark.parametrize("bias", ["attention_bias", "mlp_bias"])
def test_biases_that_would_be_left_out_are_refused(tmp_path: Path, bias: str) -> None:
    make_llama(**{bias: True}).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"_proj\.bias.*biases of queries, keys and values"):
        open_checkpoint(tmp_path)


def test_weights_in_a_type_no_kernel_reads_are_named(folder: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    change_tensors(folder, lambda tensors: tensors.update({name: tensors[name].to(torch.float8_e4m3fn)}))
    with pytest.raises(ModelError, match=r"up_proj\.weight is torch\.float8_e4m3fn; float32, float16 and bfloat16"):
        load_decoder(folder, eager_backend())


@pytest.mark.parametrize(
    "name",
    [
        "lm_head.weight",
        "model.norm.weight",
        "model.embed_tokens.weight",
        "model.layers.1.self_attn.k_proj.weight",
        "model.layers.1.self_attn.o_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
        "model.layers.1.post_attention_layernorm.weight",
    ],
)
def test_a_tensor_of_another_size_than_the_config_says_is_refused_with_both_sizes(folder: Path, name: str) -> None:
    change_tensors(folder, lambda tensors: tensors.update({name: tensors[name][:-1].contiguous()}))
    with pytest.raises(ModelError, match=r"has the shape \(.*\); the model's config says \(.*\)"):
        load_decoder(folder, native_backend())


def test_a_bias_of_another_size_is_refused(tmp_path: Path) -> None:
    make_qwen().save_pretrained(tmp_path)
    name = "model.layers.0.self_attn.v_proj.bias"
    change_tensors(tmp_path, lambda tensors: tensors.update({name: tensors[name][:-1].contiguous()}))
    with pytest.raises(ModelError, match=r"'0\.v_bias' has the shape \(31,\); the model's config says \(32,\)"):
        load_decoder(tmp_path, native_backend())


def test_a_window_over_some_layers_bounds_the_context(folder: Path) -> None:
    change_config(folder, architectures=["Qwen2ForCausalLM"], sliding_window=100, use_sliding_window=True)
    assert open_checkpoint(folder).config.max_context == 100


def test_a_mistral_sees_its_window_in_every_layer(folder: Path) -> None:
    change_config(folder, architectures=["MistralForCausalLM"], sliding_window=100)
    config = open_checkpoint(folder).config
    assert (config.max_context, config.window_of(0), config.window_of(1)) == (256, 100, 100)
    change_config(folder, architectures=["MistralForCausalLM"], sliding_window=None)
    assert open_checkpoint(folder).config.window_of(0) is None


def test_a_sliding_window_that_the_config_turns_off_bounds_nothing(folder: Path) -> None:
    change_config(folder, architectures=["Qwen2ForCausalLM"], sliding_window=100, use_sliding_window=False)
    assert open_checkpoint(folder).config.max_context == 256
