from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType as Types
from tests.workers.models.tiny import (
    eager_backend,
    load_decoder,
    make_kv,
    make_llama,
    make_qwen,
    native_backend,
    prompt,
    step_logits,
    write_gguf,
)

from headrace_worker.models.decoder import Decoder
from headrace_worker.runner.work import Row

Tensor = torch.Tensor
BLOCKS = [list(range(first, first + 8)) for first in (32, 0, 24, 8, 16)]
TYPES = (torch.float32, torch.bfloat16)


def mixed_steps() -> list[list[Row]]:
    """Return steps of one token, few and many rows: contexts of all lengths, chunks that start anywhere."""
    first = [Row(prompt(48, 1), 0, BLOCKS[0], None), Row(prompt(5, 2), 0, BLOCKS[1], None)]
    second = [
        Row(prompt(1, 3), 48, BLOCKS[0], None),
        Row(prompt(20, 4), 5, BLOCKS[1], None),
        Row(prompt(1, 5), 0, BLOCKS[2], None),
        Row(prompt(33, 6), 0, BLOCKS[3], None),
    ]
    third = [
        Row(prompt(2, 7), 49, BLOCKS[0], None),
        Row(prompt(1, 8), 25, BLOCKS[1], None),
        Row(prompt(1, 9), 1, BLOCKS[2], None),
        Row(prompt(1, 10), 33, BLOCKS[3], None),
        Row(prompt(3, 11), 0, BLOCKS[4], None),
    ]
    return [first, second, third]


def run_steps(decoder: Decoder) -> tuple[list[Tensor], Tensor]:
    """Return the logits of all rows of all steps, and the KV that they left."""
    kv = make_kv(decoder, num_blocks=40)
    logits = [row for step in mixed_steps() for row in step_logits(decoder, kv, step)]
    return logits, kv


def assert_backends_agree(path: Path, dtype: torch.dtype, *, dense: bool = True) -> None:
    native, native_kv = run_steps(load_decoder(path, native_backend(dtype), dense=dense))
    eager, eager_kv = run_steps(load_decoder(path, eager_backend(dtype), dense=dense))
    assert native_kv.dtype == eager_kv.dtype == dtype
    for ours, theirs in zip((*native, native_kv), (*eager, eager_kv), strict=True):
        assert_close(ours, theirs, dtype)


def assert_close(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> None:
    """Compare values of about one; in bfloat16, which keeps eight bits, single ones stray and their mean must not."""
    difference = (ours.float() - theirs.float()).abs()
    worst, mean = (1e-4, 1e-5) if dtype is torch.float32 else (0.8, 0.1)
    assert difference.max() < worst
    assert difference.mean() < mean


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", [Types.F32, Types.BF16, Types.F16, Types.Q8_0, Types.Q4_0], ids=lambda kind: kind.name)
@pytest.mark.parametrize("dense", [True, False])
def test_the_compiled_backend_agrees_with_torch_on_mixed_batches(
    tmp_path: Path, dtype: torch.dtype, kind: Types, *, dense: bool
) -> None:
    file = write_gguf(make_llama(tie_word_embeddings=True), tmp_path / "model.gguf", kind)
    assert_backends_agree(file, dtype, dense=dense)


@pytest.mark.parametrize("dtype", TYPES)
def test_the_backends_agree_on_biases(tmp_path: Path, dtype: torch.dtype) -> None:
    make_qwen().save_pretrained(tmp_path)
    assert_backends_agree(tmp_path, dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_matrices_of_unlike_kinds_are_fused_in_the_compute_type(tmp_path: Path, dtype: torch.dtype) -> None:
    kinds = {"attn_v": Types.Q8_0, "ffn_up": Types.F16}
    file = write_gguf(make_llama(), tmp_path / "model.gguf", Types.Q4_1, kinds=kinds)
    assert_backends_agree(file, dtype)


def test_rows_do_not_see_each_other(tmp_path: Path) -> None:
    make_llama().save_pretrained(tmp_path)
    decoder = load_decoder(tmp_path, native_backend())
    together, _ = run_steps(decoder)
    kv, alone = make_kv(decoder, num_blocks=40), []
    for step in mixed_steps():
        alone += [logits for row in step for logits in step_logits(decoder, kv, [row])]
    for ours, theirs in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_blocks_of_others_are_left_alone(tmp_path: Path) -> None:
    make_llama().save_pretrained(tmp_path)
    for backend in (eager_backend(), native_backend()):
        decoder = load_decoder(tmp_path, backend)
        kv = make_kv(decoder, num_blocks=12)
        kv.fill_(7.0)
        step_logits(decoder, kv, [Row(prompt(20), 0, [3, 9], None), Row([5], 0, [1], None)])
        used = {3: 16, 9: 4, 1: 1}
        for block in range(12):
            assert kv[:, block, :, :, used.get(block, 0) :].eq(7).all()
            assert kv[:, block, :, :, : used.get(block, 0)].ne(7).any() == (block in used)


def test_the_summaries_of_both_backends_agree() -> None:
    logits = torch.randn(5, 320) * 5
    native, eager = native_backend().summarize(logits), eager_backend().summarize(logits)
    assert torch.equal(native.best, eager.best)
    for name in ("most", "second", "log_sum"):
        torch.testing.assert_close(getattr(native, name), getattr(eager, name))


def test_layers_are_announced_in_order_once_their_kv_is_written(tmp_path: Path) -> None:
    make_llama().save_pretrained(tmp_path)
    for backend in (eager_backend(), native_backend()):
        decoder = load_decoder(tmp_path, backend)
        kv = make_kv(decoder, num_blocks=2)
        written: list[list[bool]] = []

        def note(_layer: int, kv: Tensor = kv, written: list[list[bool]] = written) -> None:
            written.append([bool(layer.ne(0).any()) for layer in kv])

        step_logits(decoder, kv, [Row(prompt(10), 0, [1], None)], on_layer=note)
        assert written == [[True, False, False], [True, True, False], [True, True, True]]
