import pytest
import torch

from headrace_worker.engine import memory
from headrace_worker.engine.build import compatibility_hash, pick_backend, pick_device, pick_dtype
from headrace_worker.engine.limits import Limits
from headrace_worker.engine.memory import Room
from headrace_worker.errors import MemoryNeededError, SettingsError
from headrace_worker.layers.eager import EagerBackend
from headrace_worker.layers.native import NativeBackend
from headrace_worker.models.config import ModelConfig

CPU = torch.device("cpu")
CONFIG = ModelConfig("llama", 2, 64, 96, 4, 2, 16, 320, 256)


def test_wanted_memory_is_cut_into_blocks() -> None:
    assert memory.choose_blocks(1000, 16, 512, wanted_bytes=100_000, room=Room(200_000, 200_000)) == 6


def test_by_default_blocks_take_a_quarter_of_what_is_free() -> None:
    assert memory.choose_blocks(1000, 16, 10_000, wanted_bytes=None, room=Room(640_000, 640_000)) == 10


def test_by_default_blocks_hold_eight_full_contexts_at_most() -> None:
    assert memory.choose_blocks(1000, 16, 32, wanted_bytes=None, room=Room(10**9, 10**9)) == 16


def test_wanted_memory_that_is_not_free_is_refused_with_both_figures() -> None:
    with pytest.raises(
        MemoryNeededError, match=r"KV cache of the settings needs 2\.00 GiB but only 1\.00 GiB"
    ) as caught:
        memory.choose_blocks(1000, 16, 512, wanted_bytes=2 << 30, room=Room(1 << 30, 4 << 30))
    assert (caught.value.needed, caught.value.free) == (2 << 30, 1 << 30)


def test_memory_below_one_block_is_refused() -> None:
    with pytest.raises(MemoryNeededError, match="one KV block of 16 tokens"):
        memory.choose_blocks(1 << 20, 16, 512, wanted_bytes=None, room=Room(1 << 20, 1 << 20))


def test_a_model_larger_than_memory_is_refused() -> None:
    with pytest.raises(MemoryNeededError, match="the model needs"):
        memory.check_weights(1001, Room(1000, 1000))
    memory.check_weights(1000, Room(1000, 1000))


@pytest.mark.parametrize(("total", "permanent"), [(1000, True), (1001, False)])
def test_what_would_fit_into_memory_that_others_use_now_may_be_tried_again(total: int, *, permanent: bool) -> None:
    with pytest.raises(MemoryNeededError) as caught:
        memory.check_weights(1001, Room(500, total))
    assert caught.value.permanent is permanent


def test_some_memory_is_free_here() -> None:
    room = memory.room_on(CPU, Limits())
    assert 0 < room.free < room.total < 1 << 60


def test_the_control_group_bounds_what_there_is() -> None:
    assert memory.room_on(CPU, Limits(memory_bytes=5 << 20, memory_left_bytes=3 << 20)) == Room(3 << 20, 5 << 20)


@pytest.mark.parametrize(("wanted", "found"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_a_type_that_was_asked_for_is_taken(wanted: str, found: torch.dtype) -> None:
    assert pick_dtype(wanted, CPU) is found


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(SettingsError, match="device 'tpu' is not known; use auto, cpu or cuda"):
        pick_device("tpu")
    assert pick_device("cpu") == CPU


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device whose absence is tested")
def test_an_absent_device_is_refused() -> None:
    with pytest.raises(SettingsError, match="'cuda' was asked for but torch sees no CUDA device"):
        pick_device("cuda")


def test_compiled_kernels_serve_shapes_that_suit_them_and_torch_the_others() -> None:
    assert isinstance(pick_backend(CPU, torch.float32, CONFIG), NativeBackend)
    odd = ModelConfig("llama", 2, 36, 50, 3, 3, 12, 320, 256)
    backend = pick_backend(CPU, torch.float32, odd)
    assert isinstance(backend, EagerBackend)
    assert (backend.device, backend.dtype) == (CPU, torch.float32)


def test_without_a_compiler_torch_computes_everything(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "/nonexistent/c++")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    assert isinstance(pick_backend(CPU, torch.float32, CONFIG), EagerBackend)
    assert "falling back to plain torch" in caplog.text


def test_workers_are_compatible_when_all_that_shapes_kv_is_equal() -> None:
    first = compatibility_hash(CONFIG, "revision", torch.float32, 16)
    assert first == compatibility_hash(CONFIG, "revision", torch.float32, 16)
    others = {
        compatibility_hash(CONFIG, "other", torch.float32, 16),
        compatibility_hash(CONFIG, "revision", torch.bfloat16, 16),
        compatibility_hash(CONFIG, "revision", torch.float32, 32),
        compatibility_hash(ModelConfig("llama", 2, 64, 96, 4, 1, 16, 320, 256), "revision", torch.float32, 16),
    }
    assert len(others | {first}) == 5
