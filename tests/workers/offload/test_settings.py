"""What a worker may be told about the tiers, and what it shows of them."""

from pathlib import Path

import pytest

from headrace_api import names
from headrace_worker.__main__ import read_settings
from headrace_worker.engine.memory import Room, check_offload
from headrace_worker.errors import MemoryNeededError, SettingsError
from headrace_worker.messages import Stats
from headrace_worker.server.metrics import Metrics

WORKER = ("--model", "file:///m", "--name", "m")
DISK_ALONE = "--offload-disk-bytes is '4096': blocks reach the disk by way of memory; set offload_memory_bytes too."
RANKS = "--offload-memory-bytes is '1': a worker of several ranks cannot offload KV blocks yet"


def test_budgets_come_from_flags(tmp_path: Path) -> None:
    flags = ("--offload-memory-bytes", "4096", "--offload-disk-bytes", "8192", "--offload-path", str(tmp_path))
    settings = read_settings([*WORKER, *flags], {})
    assert (settings.offload_memory_bytes, settings.offload_disk_bytes) == (4096, 8192)
    assert settings.offload_path == str(tmp_path)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--offload-disk-bytes", "4096"), DISK_ALONE),
        (("--offload-memory-bytes", "1", "--tensor-parallel", "2"), RANKS),
        (("--offload-memory-bytes", "-1"), "greater than or equal to 0"),
        (("--offload-when", "never"), "auto"),
    ],
)
def test_what_cannot_be_is_one_sentence(flags: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_settings([*WORKER, *flags], {})
    assert sentence in str(raised.value)


def test_memory_that_the_host_lacks_is_asked_for_in_vain() -> None:
    check_offload(100, Room(100, 200))
    with pytest.raises(MemoryNeededError, match="the memory for offloaded KV blocks needs"):
        check_offload(101, Room(100, 200))


def page(offload: dict[str, int]) -> str:
    metrics = Metrics("m", "w")
    counters = {"prompt_loaded": 32}
    metrics.take(Stats(running=0, waiting=0, waiting_prompt_tokens=0, blocks={}, counters=counters, offload=offload))
    return metrics.render().decode()


def test_each_tier_has_its_bytes_and_its_events_on_the_page() -> None:
    counts = {f"memory_{event}": number for number, event in enumerate(names.OFFLOAD_EVENTS)}
    text = page({**counts, "memory_bytes": 100, "memory_capacity": 200})
    assert f'{names.KV_OFFLOAD_BYTES}{{model="m",tier="memory",worker="w"}} 100.0' in text
    assert f'{names.KV_OFFLOAD_CAPACITY}{{model="m",tier="memory",worker="w"}} 200.0' in text
    for number, event in enumerate(names.OFFLOAD_EVENTS):
        line = f'{names.KV_OFFLOAD_BLOCKS}_total{{event="{event}",model="m",tier="memory",worker="w"}} {number}.0'
        assert line in text
    assert 'tier="disk"' not in text
    assert f'{names.PROMPT_TOKENS}_total{{model="m",source="loaded",worker="w"}} 32.0' in text


def test_a_worker_without_tiers_shows_none() -> None:
    assert "headrace_kv_offload" not in page({})
