from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Types
from tests.workers.models.tiny import (
    eager_backend,
    load_decoder,
    make_llama,
    make_qwen,
    native_backend,
    prompt,
    prompt_logits,
    reference_logits,
    write_gguf,
)

from headrace_worker.kernels.cpu import Kind
from headrace_worker.layers.backend import Backend
from headrace_worker.models.pick import open_checkpoint

IDS = prompt(60)
BACKENDS = pytest.mark.parametrize("make_backend", [eager_backend, native_backend], ids=["eager", "native"])
KINDS = {
    Types.F32: Kind.F32,
    Types.F16: Kind.F16,
    Types.BF16: Kind.BF16,
    Types.Q8_0: Kind.Q8,
    Types.Q4_0: Kind.Q4,
    Types.Q4_1: Kind.Q4,
    Types.Q5_0: Kind.F32,
    Types.Q5_1: Kind.F32,
}
WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2}


def assert_equals_transformers(model: Any, file: Path, backend: Backend) -> None:
    decoder = load_decoder(file, backend)
    wanted = reference_logits(model, IDS)
    assert wanted.std() > 0.3
    for chunks in ((), (16, 1)):
        torch.testing.assert_close(prompt_logits(decoder, IDS, chunks), wanted, rtol=0, atol=1e-4)


@BACKENDS
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_logits_equal_transformers_with_the_dequantized_weights(tmp_path: Path, make_backend: Any, kind: Types) -> None:
    model = make_llama()
    file = write_gguf(model, tmp_path / "model.gguf", kind)
    assert_equals_transformers(model, file, make_backend())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_matrices_stay_in_their_stored_form_where_a_kernel_reads_it(tmp_path: Path, kind: Types) -> None:
    file = write_gguf(make_llama(), tmp_path / "model.gguf", kind)
    assert open_checkpoint(file).matrix("0.q", torch.float32).kind is KINDS[kind]


@BACKENDS
@pytest.mark.parametrize("kind", [Types.Q4_K, Types.Q5_K, Types.Q6_K], ids=lambda kind: kind.name)
def test_super_blocks_are_dequantized(tmp_path: Path, make_backend: Any, kind: Types) -> None:
    model = make_llama(**WIDE)
    file = write_gguf(model, tmp_path / "model.gguf", kind)
    assert_equals_transformers(model, file, make_backend())


@BACKENDS
@pytest.mark.parametrize("tied", [False, True])
def test_a_tied_head_is_the_embedding(tmp_path: Path, make_backend: Any, *, tied: bool) -> None:
    model = make_llama(tie_word_embeddings=tied)
    file = write_gguf(model, tmp_path / "model.gguf", Types.Q8_0)
    assert open_checkpoint(file).config.tied_embedding is tied
    assert_equals_transformers(model, file, make_backend())


@BACKENDS
def test_qwen_files_have_biases_and_rotary_pairs_in_halves(tmp_path: Path, make_backend: Any) -> None:
    model = make_qwen()
    file = write_gguf(model, tmp_path / "model.gguf", Types.Q8_0, "qwen2")
    assert_equals_transformers(model, file, make_backend())


def test_heads_may_be_wider_than_the_model(tmp_path: Path) -> None:
    model = make_llama(head_dim=32)
    file = write_gguf(model, tmp_path / "model.gguf", Types.Q8_0)
    assert_equals_transformers(model, file, native_backend())


def test_rotary_divisors_of_the_file_are_used(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    model, plain = make_llama(rope_parameters=scaling), make_llama()
    divisors = plain.model.rotary_emb.inv_freq / model.model.rotary_emb.inv_freq
    file = write_gguf(model, tmp_path / "model.gguf", Types.F32, rope_divisors=divisors)
    assert_equals_transformers(model, file, native_backend())


def test_a_folder_with_one_gguf_file_is_that_file(tmp_path: Path) -> None:
    write_gguf(make_llama(), tmp_path / "model.gguf")
    assert open_checkpoint(tmp_path).config.num_layers == 3


def test_the_size_is_that_of_the_stored_tensors(tmp_path: Path) -> None:
    whole = open_checkpoint(write_gguf(make_llama(), tmp_path / "whole.gguf")).size_bytes()
    small = open_checkpoint(write_gguf(make_llama(), tmp_path / "small.gguf", Types.Q4_0)).size_bytes()
    assert whole == sum(4 * parameter.numel() for parameter in make_llama().parameters())
    assert whole / 8 < small < whole / 5
