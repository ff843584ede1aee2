"""GPU-seconds: each lap belongs to whom it was spent on, and all laps add up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_api.sampling import Sampling
from headrace_worker.engine.meter import Meter, level, take
from headrace_worker.engine.report import Report
from headrace_worker.engine.scheduler import Item
from headrace_worker.engine.sequence import Sequence


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def sequence(output_ids: tuple[int, ...] = ()) -> Sequence:
    return Sequence("r", 0, (1, 2, 3), Sampling(max_tokens=9), 99, output_ids=list(output_ids))


def test_a_step_is_shared_by_tokens() -> None:
    clock, report = Clock(), Report()
    meter = Meter(report, clock)
    prompt, answer = sequence(), sequence((4,))
    clock.now_s += 1.0
    meter.ran([Item(prompt, 0, 3), Item(answer, 3, 1)])
    assert (prompt.prefill_s, prompt.decode_s) == (0.75, 0.0)
    assert (answer.prefill_s, answer.decode_s) == (0.0, 0.25)
    assert report.counters["gpu_prefill_ns"] == 750_000_000
    assert report.counters["gpu_decode_ns"] == 250_000_000


def test_what_was_told_is_not_told_again() -> None:
    clock = Clock()
    meter = Meter(Report(), clock)
    one = sequence((4,))
    clock.now_s += 1.0
    meter.ran([Item(one, 3, 1)])
    assert take(one).decode_s == 1.0
    assert take(one).decode_s == 0.0


def test_a_long_context_costs_more_than_a_short_one() -> None:
    clock = Clock()
    meter = Meter(Report(), clock, level=1000.0)
    short, long = sequence((4,)), sequence((4,))
    clock.now_s += 1.0
    meter.ran([Item(short, 0, 1), Item(long, 2000, 1)])
    assert long.decode_s / short.decode_s == pytest.approx(3.0, rel=0.01)


def test_a_replayed_context_is_a_prompt_and_several_gpus_count_each() -> None:
    clock = Clock()
    meter = Meter(Report(), clock, devices=4)
    one = sequence((4, 5))
    clock.now_s += 0.5
    meter.ran([Item(one, 0, 5)])
    assert (one.prefill_s, one.decode_s) == (2.0, 0.0)


@given(st.lists(st.tuples(st.floats(1e-6, 10), st.booleans(), st.integers(1, 64), st.integers(1, 4)), max_size=30))
def test_all_laps_add_up_to_the_time_that_passed(laps: list[tuple[float, bool, int, int]]) -> None:
    clock, report = Clock(), Report()
    meter = Meter(report, clock, level=512.0)
    told_s = 0.0
    for passed_s, idle, count, rows in laps:
        clock.now_s += passed_s
        if idle:
            meter.rested()
            continue
        items = [Item(sequence((1,) if row % 2 else ()), 7, count) for row in range(rows)]
        meter.ran(items)
        told_s += sum(item.sequence.prefill_s + item.sequence.decode_s for item in items)
    counters = {use: report.counters[f"gpu_{use}_ns"] / 1e9 for use in ("prefill", "decode", "idle")}
    assert sum(counters.values()) == pytest.approx(clock.now_s - 100.0, abs=1e-6)
    assert counters["prefill"] + counters["decode"] == pytest.approx(told_s, abs=1e-6)


def test_the_level_of_a_known_model_is_a_few_thousand_tokens() -> None:
    assert level(hidden=576, intermediate=1536, heads=9, kv_heads=3, head_dim=64) == pytest.approx(3072, rel=0.01)
