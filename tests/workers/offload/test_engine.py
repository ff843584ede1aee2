"""A real core whose KV memory is far too small: what it evicts comes back, and no answer changes."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.workers.engine.conftest import StartCore, decoder, model, one_thread, start_core
from tests.workers.engine.rig import Front, running_core
from tests.workers.models.tiny import prompt
from tests.workers.offload.rig import make_offload, until
from tests.workers.offload.test_disk import file_size_limit

from headrace_worker.messages import Cancel
from headrace_worker.models.decoder import Decoder
from headrace_worker.offload.tiers import Tiers

__all__ = ["decoder", "model", "one_thread", "start_core"]
PROMPTS = [prompt(length, seed) for seed, length in enumerate((70, 100, 33, 120, 64, 90), start=100)]
BLOCKS = 14
"""Device memory for one of these prompts and its answer, or a little more."""

Start = Callable[..., Front]


@pytest.fixture
def wanted(start_core: StartCore) -> list[list[int]]:
    """Answers of a core that has room for everything."""
    front = start_core(num_blocks=200)
    return [front.answer(ids).ids for ids in PROMPTS]


@pytest.fixture
def start(start_core: StartCore) -> Start:
    """Start cores that offload; the sizes are those of `make_offload`."""

    def start(*, num_blocks: int = BLOCKS, **sizes: Any) -> Front:
        return start_core(num_blocks=num_blocks, make_offload=functools.partial(make_offload, **sizes))

    return start


def rounds(front: Front, count: int = 3) -> list[list[list[int]]]:
    """Return the answers of all prompts, one prompt after the other, over and over."""
    return [[front.answer(ids).ids for ids in PROMPTS] for _ in range(count)]


def test_answers_out_of_memory_equal_the_undisturbed_ones(start: Start, wanted: list[list[int]]) -> None:
    front = start(slots=100)
    assert rounds(front) == [wanted] * 3
    stats = front.settled()
    assert stats.counters["prompt_loaded"] > 0
    assert stats.offload["memory_hits"] > 0
    assert stats.offload["memory_stored"] > 0
    assert 0 < stats.offload["memory_bytes"] <= stats.offload["memory_capacity"]


def test_loaded_tokens_count_as_cached_ones_for_the_client(start: Start) -> None:
    front = start(slots=100)
    assert [front.answer(ids).cached_tokens for ids in PROMPTS] == [0] * len(PROMPTS)
    assert [front.answer(ids).cached_tokens for ids in PROMPTS] == [(len(ids) - 1) // 16 * 16 for ids in PROMPTS]
    counters = front.settled().counters
    total = sum(map(len, PROMPTS))
    assert counters["prompt_loaded"] + counters["prompt_cached"] + counters["prompt_computed"] == 2 * total


def test_answers_off_the_disk_equal_the_undisturbed_ones(start: Start, wanted: list[list[int]], tmp_path: Path) -> None:
    front = start(slots=10, folder=tmp_path, files=1000)
    assert rounds(front, 5) == [wanted] * 5
    offload = front.settled().offload
    assert offload["disk_stored"] > 0
    assert offload["disk_hits"] > 0
    assert offload["disk_corrupt"] == 0


@pytest.mark.parametrize("slots", [1, 3, 10, 100])
def test_answers_of_many_prompts_at_once_equal_the_undisturbed_ones(
    start: Start, wanted: list[list[int]], tmp_path: Path, slots: int
) -> None:
    front = start(num_blocks=20, slots=slots, folder=tmp_path, files=30)
    for _ in range(6):
        requests = [front.generate(ids) for ids in PROMPTS]
        assert [front.finished(request).ids for request in requests] == wanted


def known_files(front: Front) -> int:
    """Return the files of an earlier process, once this one has looked for them."""
    tiers = front.offload.cold
    assert isinstance(tiers, Tiers)
    until(lambda: tiers.scanned)
    return len(tiers.disk)


def test_a_restarted_worker_answers_from_what_it_wrote(
    decoder: Decoder, wanted: list[list[int]], tmp_path: Path
) -> None:
    make = functools.partial(make_offload, slots=100, folder=tmp_path / "kv", files=1000)
    loaded = []
    for turn in range(2):
        with running_core(decoder, f"ipc://{tmp_path}/again-{turn}", make_offload=make) as front:
            assert known_files(front) >= turn
            assert [front.answer(ids).ids for ids in PROMPTS] == wanted
            loaded.append(front.settled().counters["prompt_loaded"])
    assert loaded == [0, sum((len(ids) - 1) // 16 * 16 for ids in PROMPTS)], "everything came off the disk"


def test_a_full_disk_is_no_error_of_any_request(start: Start, wanted: list[list[int]], tmp_path: Path) -> None:
    with file_size_limit(1000):
        front = start(slots=10, folder=tmp_path, files=1000)
        assert rounds(front) == [wanted] * 3
        offload = front.settled().offload
    assert offload["disk_failed"] > 0
    assert offload["disk_bytes"] == 0


def test_rotten_files_are_no_error_of_any_request(start: Start, wanted: list[list[int]], tmp_path: Path) -> None:
    front = start(slots=10, folder=tmp_path, files=1000)
    assert rounds(front, 2) == [wanted] * 2
    for path in tmp_path.rglob("*.kv"):
        path.write_bytes(bytes(path.stat().st_size))
    assert rounds(front, 3) == [wanted] * 3
    assert front.settled().offload["disk_corrupt"] > 0


def test_cancelled_requests_leave_no_pin_and_no_wait(start: Start, wanted: list[list[int]], tmp_path: Path) -> None:
    front = start(num_blocks=20, slots=12, folder=tmp_path, files=1000)
    assert rounds(front, 2) == [wanted] * 2
    for _ in range(10):
        requests = [front.generate(ids) for ids in PROMPTS]
        for request in requests[::2]:
            front.send(Cancel(request))
        assert [front.finished(request).ids for request in requests[1::2]] == wanted[1::2]
    front.settled()
    tiers = front.offload.cold
    assert isinstance(tiers, Tiers)
    front.until(lambda: not tiers.disk.in_flight)
    assert tiers.waiting() == []
    assert tiers.memory.pinned == 0


def test_tenants_load_nothing_of_each_other(start: Start) -> None:
    front = start(slots=100)
    for salt in ("a", "b"):
        assert [front.answer(ids, salt=salt).cached_tokens for ids in PROMPTS] == [0] * len(PROMPTS)
