"""Whose GPU-seconds the engine's time was (pure but for the clock it is given).

One clock is read once for each step and once for each rest: the laps between are whole, so that what is shared out
and what is idle add up to the worker's time, and nothing is found by subtraction. A lap in which a step ran belongs to
the sequences in it, by their share of the step's work; waiting for work is idle.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from headrace_worker.engine.report import Report
from headrace_worker.engine.scheduler import Item
from headrace_worker.engine.sequence import Sequence

_NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Spent:
    """GPU-seconds of one sequence since they were last told."""

    prefill_s: float
    decode_s: float


class Meter:
    """The laps of one engine.

    Args:
        report: its counters `gpu_prefill_ns`, `gpu_decode_ns` and `gpu_idle_ns` add up to the laps.
        clock: monotonic seconds.
        devices: GPUs that a step keeps busy; 1 for a worker on processors.
        level: tokens of context at which attention costs a token as much as the model's weights do.
    """

    def __init__(
        self, report: Report, clock: Callable[[], float], *, devices: int = 1, level: float = float("inf")
    ) -> None:
        self._report = report
        self._clock = clock
        self._devices = devices
        self._level = level
        self._lap_s = clock()

    def ran(self, items: Iterable[Item]) -> None:
        """A step has run: what has passed since the last lap belongs to its items."""
        weights = [(item, self._weight(item)) for item in items]
        rate = self._lap() / sum(weight for _, weight in weights)
        prefill_s = decode_s = 0.0
        for item, weight in weights:
            sequence, share_s = item.sequence, rate * weight
            if item.count == 1 and sequence.output_ids:
                sequence.decode_s += share_s
                decode_s += share_s
            else:
                sequence.prefill_s += share_s
                prefill_s += share_s
        self._report.counters["gpu_prefill_ns"] += round(prefill_s * _NANO)
        self._report.counters["gpu_decode_ns"] += round(decode_s * _NANO)

    def rested(self) -> None:
        """There was nothing to run."""
        self._report.counters["gpu_idle_ns"] += round(self._lap() * _NANO)

    def lost(self, sequence: Sequence) -> None:
        """A sequence ends; what was not told with its tokens is told as lost."""
        spent = take(sequence)
        self._report.counters["gpu_lost_ns"] += round((spent.prefill_s + spent.decode_s) * _NANO)

    def _lap(self) -> float:
        now = self._clock()
        passed_s, self._lap_s = now - self._lap_s, now
        return passed_s * self._devices

    def _weight(self, item: Item) -> float:
        """Return an item's work in tokens: each costs the weights, and attention over what lies before it."""
        return item.count * (1.0 + (item.start + (item.count + 1) / 2) / self._level)


def take(sequence: Sequence) -> Spent:
    """Return what a sequence has spent since the last call, to be told with its next tokens."""
    spent = Spent(sequence.prefill_s, sequence.decode_s)
    sequence.prefill_s = sequence.decode_s = 0.0
    return spent


def level(hidden: int, intermediate: int, heads: int, kv_heads: int, head_dim: int) -> float:
    """Return the context at which attention over it costs a token as much as a layer's weights.

    Two operations for each weight, four for each position and dimension of a query (scores and their sum of values).
    """
    weights = hidden * head_dim * (2 * heads + 2 * kv_heads) + 3 * hidden * intermediate
    return weights / (2 * heads * head_dim)
