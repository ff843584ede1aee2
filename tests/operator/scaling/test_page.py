"""A worker's page of metrics, as the worker itself writes it."""

import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace_operator.scaling.page import read, worth
from headrace_operator.scaling.victims import victims
from headrace_worker.messages import Ready, Stats
from headrace_worker.server.metrics import Metrics

BLOCKS = {"free": 50, "cached": 20, "active": 24, "granted": 5, "quarantined": 1}


def page(**stats: int) -> bytes:
    """Return the page of a worker whose core told these statistics."""
    metrics = Metrics("chat", "chat-decode-0")
    metrics.ready(Ready("tcp://x", "hash", 100, 16, 4096, 1 << 20))
    counters = {"prompt_computed": 300, "prompt_cached": 100, "prompt_received": 0}
    told: dict[str, Any] = {"running": 0, "waiting": 0, "waiting_prompt_tokens": 0, **stats}
    metrics.take(Stats(blocks=BLOCKS, counters=counters, step_s=(0.01,) * 40, **told))
    for outcome in ("stop", "stop", "length"):
        metrics.ended(outcome)
    return metrics.render()


def test_a_page_says_what_a_worker_has_to_do() -> None:
    found = read(page(running=3, waiting=7, remote=2, waiting_prompt_tokens=900))
    assert found is not None
    load = found.load
    assert (load.running, load.waiting, load.waiting_tokens, load.ended) == (3, 5, 900, 3)


def test_blocks_that_can_be_evicted_are_not_in_use() -> None:
    found = read(page())
    assert found is not None
    assert found.load.used == pytest.approx(0.3)


def test_a_page_of_a_worker_without_the_newest_metric_is_read_too() -> None:
    old = b"\n".join(line for line in page(waiting=7, remote=2).splitlines() if b"_remote" not in line)
    found = read(old)
    assert found is not None
    assert found.load.waiting == 7


@pytest.mark.parametrize("text", [b"", b"<html>not found</html>", b"headrace_requests_running{} many\n", b"\xff\n"])
def test_what_is_no_page_says_nothing(text: bytes) -> None:
    assert read(text) is None


def test_a_metric_whose_name_begins_alike_is_another_one() -> None:
    found = read(b'headrace_requests_running_ever{a="b"} 9\n' + page(running=2))
    assert found is not None
    assert found.load.running == 2


def test_it_reads_what_the_library_reads_and_much_faster() -> None:
    text = page(running=3, waiting=1)

    def seconds(times: int, act: object) -> float:
        assert callable(act)
        began = time.perf_counter()
        for _ in range(times):
            act()
        return (time.perf_counter() - began) / times

    library = seconds(5, lambda: list(text_string_to_metric_families(text.decode())))
    assert seconds(50, lambda: read(text)) < library / 10


def test_cached_blocks_are_worth_as_much_as_they_are_hit() -> None:
    assert worth(4, 100, {"computed": 75, "cached": 25}) == 29
    assert worth(4, 100, {"computed": 75}) == 4
    assert worth(4, 100, {}) == 4


def test_those_whose_prefixes_are_worth_least_go_first() -> None:
    worths = {"a": 30.0, "b": 2.0, "c": 7.0}
    assert victims(["a", "b", "c"], worths, 2) == ("b", "c")
    assert victims(["a", "b", "c", "silent"], worths, 1) == ("silent",)
    assert victims(["a", "b"], worths, 0) == ()
