"""Parts of a model: what each rank holds, and that it reads exactly that."""

from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Types
from hypothesis import given
from hypothesis import strategies as st
from tests.workers.models.tiny import make_llama, write_gguf

from headrace_worker.errors import ModelError, SettingsError
from headrace_worker.layers.unpack import unpack
from headrace_worker.models.checkpoint import Checkpoint, Cut
from headrace_worker.models.config import ModelConfig
from headrace_worker.models.pick import open_checkpoint
from headrace_worker.models.shard import check_shape, shard_of
from headrace_worker.parallel.shape import Shape, split


def config(**changes: Any) -> ModelConfig:
    sizes: dict[str, Any] = {
        "num_layers": 6,
        "hidden": 64,
        "intermediate": 96,
        "heads": 8,
        "kv_heads": 2,
        "head_dim": 16,
    }
    return ModelConfig(architecture="llama", **(sizes | {"vocabulary": 321, "max_context": 64} | changes))


@given(total=st.integers(0, 500), parts=st.integers(1, 16), unit=st.sampled_from([1, 8, 32]))
def test_parts_are_neighbours_that_make_up_the_whole_and_begin_at_units(total: int, parts: int, unit: int) -> None:
    cut = [split(total, parts, number, unit) for number in range(parts)]
    assert [thing for part in cut for thing in part] == list(range(total))
    assert all(part.start % unit == 0 for part in cut if len(part))


@pytest.mark.parametrize("tensor", [1, 2, 4, 8])
def test_each_rank_has_the_keys_of_its_queries(tensor: int) -> None:
    for rank in range(tensor):
        shard = shard_of(config(), Shape(tensor=tensor), rank)
        assert sorted({head // 4 for head in shard.heads}) == list(shard.kv_heads)
    assert sum(len(shard_of(config(), Shape(tensor=tensor), rank).heads) for rank in range(tensor)) == 8


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        (Shape(tensor=3), "tensor parallelism is 3.*8 query and 2 key/value heads; it can be 1, 2, 4 or 8"),
        (Shape(tensor=16), "tensor parallelism is 16.*it can be 1, 2, 4 or 8"),
        (Shape(pipeline=7), "pipeline parallelism is 7, but the model has 6 layers; it can be 1 to 6"),
        (Shape(expert=2), "expert parallelism is 2, but the model has no experts; it can be 1"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused_with_what_is_allowed(shape: Shape, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        check_shape(config(), shape)


def test_heads_that_nothing_divides_allow_one_rank_only() -> None:
    with pytest.raises(SettingsError, match="9 query and 3 key/value heads; it can be 1, 3 or 9"):
        check_shape(config(heads=9, kv_heads=3), Shape(tensor=2))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    folder = tmp_path_factory.mktemp("stored")
    kinds = (Types.F32, Types.F16, Types.BF16, Types.Q8_0, Types.Q4_0, Types.Q4_1, Types.Q5_0)
    files = {kind.name: write_gguf(make_llama(), folder / f"{kind.name}.gguf", kind) for kind in kinds}
    make_llama().save_pretrained(folder / "safetensors")
    return {name: open_checkpoint(path) for name, path in {**files, "safetensors": folder / "safetensors"}.items()}


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "safetensors"])
def test_a_cut_holds_the_same_values_as_the_whole(stored: dict[str, Checkpoint], kind: str) -> None:
    checkpoint = stored[kind]
    for name, rows, columns in (
        ("embed", range(100, 214), None),
        ("0.q", range(32, 64), None),
        ("1.k", range(16, 32), None),
        ("1.o", None, range(32, 64)),
        ("2.down", None, range(32, 96)),
    ):
        values = unpack(checkpoint.required_matrix(name, torch.float32), torch.float32)
        part = checkpoint.required_matrix(name, torch.float32, Cut(rows, columns))
        at = (slice(None) if one is None else slice(one.start, one.stop) for one in (rows, columns))
        assert torch.equal(unpack(part, torch.float32), values[tuple(at)])


def test_a_cut_that_parts_a_group_of_packed_weights_is_refused(stored: dict[str, Checkpoint]) -> None:
    with pytest.raises(ModelError, match=r"blk.0.attn_output.weight.*Q4_1 in groups of 32.*inputs 16 to 31; use fewer"):
        stored["Q4_1"].required_matrix("0.o", torch.float32, Cut(columns=range(16, 32)))


def test_a_cut_holds_the_memory_of_its_own_values_only(stored: dict[str, Checkpoint]) -> None:
    part = stored["Q8_0"].required_matrix("embed", torch.float32, Cut(rows=range(10)))
    assert part.data.untyped_storage().nbytes() == 10 * 64 // 32 * 36
