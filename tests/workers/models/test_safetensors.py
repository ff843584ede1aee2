import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.workers.models.tiny import (
    eager_backend,
    load_decoder,
    make_llama,
    make_mistral,
    make_qwen,
    native_backend,
    prompt,
    prompt_logits,
    reference_logits,
)

from headrace_worker.layers.backend import Backend
from headrace_worker.models.pick import open_checkpoint

IDS = prompt(70)
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


@pytest.fixture(params=[eager_backend, native_backend], ids=["eager", "native"])
def backend(request: pytest.FixtureRequest) -> Backend:
    chosen: Backend = request.param()
    return chosen


def assert_equals_transformers(model: Any, folder: Path, backend: Backend) -> None:
    decoder = load_decoder(folder, backend)
    wanted = reference_logits(model, IDS)
    assert wanted.std() > 0.5
    for chunks in ((), (16, 32), (1, 1, 1)):
        torch.testing.assert_close(prompt_logits(decoder, IDS, chunks), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_logits_equal_transformers(tmp_path: Path, backend: Backend, *, tied: bool) -> None:
    model = make_llama(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    assert_equals_transformers(model, tmp_path, backend)


@pytest.mark.parametrize("window", [9, 32])
def test_a_mistral_longer_than_its_window_equals_transformers(tmp_path: Path, backend: Backend, window: int) -> None:
    model = make_mistral(sliding_window=window)
    model.save_pretrained(tmp_path)
    assert_equals_transformers(model, tmp_path, backend)


def test_logits_equal_transformers_when_the_weights_lie_in_several_files(tmp_path: Path, backend: Backend) -> None:
    model = make_llama()
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert_equals_transformers(model, tmp_path, backend)


@pytest.mark.parametrize(
    "rope",
    [
        LLAMA3,
        {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
        {"rope_type": "default", "rope_theta": 5e5},
    ],
    ids=["llama3", "linear", "theta"],
)
def test_logits_equal_transformers_with_scaled_positions(
    tmp_path: Path, backend: Backend, rope: dict[str, Any]
) -> None:
    model = make_llama(rope_parameters=rope)
    model.save_pretrained(tmp_path)
    assert_equals_transformers(model, tmp_path, backend)


def test_positions_scaled_in_the_older_spelling_of_the_config_are_read_alike(tmp_path: Path, backend: Backend) -> None:
    model = make_llama(rope_parameters=LLAMA3)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["rope_parameters"]
    config["rope_scaling"] = {name: value for name, value in LLAMA3.items() if name != "rope_theta"}
    config["rope_theta"] = LLAMA3["rope_theta"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_equals_transformers(model, tmp_path, backend)


def test_logits_equal_transformers_with_biased_queries_keys_and_values(tmp_path: Path, backend: Backend) -> None:
    model = make_qwen(tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    assert_equals_transformers(model, tmp_path, backend)


def test_logits_equal_transformers_with_heads_wider_than_the_model(tmp_path: Path, backend: Backend) -> None:
    model = make_llama(head_dim=32)
    model.save_pretrained(tmp_path)
    assert_equals_transformers(model, tmp_path, backend)


def test_logits_equal_transformers_with_one_kv_head_and_with_as_many_as_queries(
    tmp_path: Path, backend: Backend
) -> None:
    for kv_heads in (1, 4):
        model = make_llama(num_key_value_heads=kv_heads)
        model.save_pretrained(tmp_path / str(kv_heads))
        assert_equals_transformers(model, tmp_path / str(kv_heads), backend)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_size_are_computed_in_float32(tmp_path: Path, backend: Backend, dtype: torch.dtype) -> None:
    model = make_llama()
    halved = copy.deepcopy(model).to(dtype)
    halved.save_pretrained(tmp_path)
    model.load_state_dict(halved.state_dict())
    assert_equals_transformers(model, tmp_path, backend)


def test_a_decoder_without_dense_copies_computes_the_same(tmp_path: Path) -> None:
    model = make_llama().to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    lean, full = (load_decoder(tmp_path, native_backend(), dense=dense) for dense in (False, True))
    assert torch.equal(prompt_logits(lean, IDS), prompt_logits(full, IDS))


def test_shapes_that_are_no_multiple_of_32_run_on_plain_torch(tmp_path: Path) -> None:
    model = make_llama(hidden_size=36, num_attention_heads=3, num_key_value_heads=3, intermediate_size=50)
    model.save_pretrained(tmp_path)
    assert_equals_transformers(model, tmp_path, eager_backend())


def test_the_config_says_what_the_model_is(tmp_path: Path) -> None:
    make_llama(tie_word_embeddings=True).save_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    config = checkpoint.config
    assert (config.num_layers, config.hidden, config.heads, config.kv_heads, config.head_dim) == (3, 64, 4, 2, 16)
    assert (config.vocabulary, config.max_context, config.tied_embedding, config.qkv_bias) == (320, 256, True, False)
    assert config.kv_bytes_per_token(torch.bfloat16) == 2 * 3 * 2 * 16 * 2
    assert checkpoint.size_bytes() == (tmp_path / "model.safetensors").stat().st_size
