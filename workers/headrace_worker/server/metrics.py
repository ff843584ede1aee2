"""What Prometheus reads: the core's last statistics, and times that only the front sees."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from headrace_api import names
from headrace_worker.messages import Ready, Stats

LABELS: Final = ("model", "worker")
OUTCOMES: Final = ("stop", "length", "cancelled", "error")
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_EMPTY = Stats(running=0, waiting=0, waiting_prompt_tokens=0, blocks={}, counters={})


class Metrics(Collector):
    """The worker's metrics; counters of the core are passed on as it states them, since it lives as long as we do."""

    def __init__(self, model: str, worker: str) -> None:
        self._values = (model, worker)
        self._registry = CollectorRegistry(auto_describe=False)
        self._stats = _EMPTY
        self._ready: Ready | None = None
        self._outcomes = dict.fromkeys(OUTCOMES, 0)
        self._ttft = self._histogram(names.TTFT_SECONDS, "From a request's arrival to its first token")
        self._tpot = self._histogram(names.TPOT_SECONDS, "Between the tokens of a choice, mean over a request")
        self._step = self._histogram(names.STEP_SECONDS, "One step of the engine")
        self._transfer = self._histogram(
            names.KV_TRANSFER_SECONDS, "From the first write of a hand-off to the end of its last"
        )
        self._exposed = self._histogram(
            names.KV_TRANSFER_EXPOSED_SECONDS, "What a hand-off adds after the last layer's compute"
        )
        self._registry.register(self)

    @property
    def stats(self) -> Stats:
        """The core's last statistics."""
        return self._stats

    def ready(self, ready: Ready) -> None:
        """Note the sizes of the loaded model."""
        self._ready = ready

    def take(self, stats: Stats) -> None:
        """Note the core's statistics."""
        self._stats = stats
        for histogram, durations in (
            (self._step, stats.step_s),
            (self._transfer, stats.transfer_s),
            (self._exposed, stats.exposed_s),
        ):
            for duration_s in durations:
                histogram.observe(duration_s)

    def first_token(self, ttft_s: float) -> None:
        """Note how long a client waited for its first token."""
        self._ttft.observe(ttft_s)

    def pace(self, tpot_s: float) -> None:
        """Note the mean time between tokens of a request."""
        self._tpot.observe(tpot_s)

    def ended(self, outcome: str) -> None:
        """Count a request by how it ended, one of `OUTCOMES`."""
        self._outcomes[outcome] += 1

    def render(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Yield what is not a histogram."""
        stats, counters = self._stats, self._stats.counters
        yield self._gauge(names.REQUESTS_RUNNING, "Sequences in the current step", stats.running)
        yield self._gauge(names.REQUESTS_WAITING, "Sequences that wait for their first step", stats.waiting)
        yield self._gauge(names.REQUESTS_REMOTE, "Waiting ones whose prompt a prefill worker has", stats.remote)
        yield self._gauge(names.PROMPT_TOKENS_WAITING, "Prompt tokens not computed yet", stats.waiting_prompt_tokens)
        if self._ready is not None:
            yield self._gauge(names.KV_BLOCKS_CAPACITY, "All KV blocks of this worker", self._ready.num_blocks)
        blocks = GaugeMetricFamily(names.KV_BLOCKS, "KV blocks by state", labels=(*LABELS, "state"))
        for state in names.BLOCK_STATES:
            blocks.add_metric((*self._values, state), stats.blocks.get(state, 0))
        yield blocks
        yield from self._offload(stats.offload)
        yield from self._experts(stats.experts)
        yield self._counter(names.GENERATION_TOKENS, "Tokens generated", counters.get("generated", 0))
        yield self._counter(names.PREEMPTIONS, "Sequences put back to make room", counters.get("preemptions", 0))
        yield self._counters(names.KV_TRANSFER_BYTES, "KV bytes of hand-offs", "direction", _pick("bytes", counters))
        yield self._counters(names.HANDOFFS, "Hand-offs by how they ended", "outcome", _pick("handoff", counters))
        yield self._counters(names.PROMPT_TOKENS, "Prompt tokens by source", "source", _pick("prompt", counters))
        lost_s = counters.get("gpu_lost_ns", 0) / 1e9
        yield self._counter(names.GPU_LOST_SECONDS, "Of prefill and decode, for answers that nobody got", lost_s)
        seconds = {use: count / 1e9 for use, count in _pick("gpu", counters).items()}
        yield self._counters(names.GPU_SECONDS, "Seconds of the engine's GPUs by what they did", "use", seconds)
        yield self._counters(names.REQUESTS, "Requests by how they ended", "outcome", self._outcomes)

    def _offload(self, counts: Mapping[str, int]) -> Iterable[Metric]:
        """Yield what lies below the device; nothing where nothing may."""
        tiers = [tier for tier in names.OFFLOAD_TIERS if f"{tier}_capacity" in counts]
        labels = (*LABELS, "tier")
        held = GaugeMetricFamily(names.KV_OFFLOAD_BYTES, "Evicted KV blocks by where they are kept", labels=labels)
        room = GaugeMetricFamily(names.KV_OFFLOAD_CAPACITY, "What evicted KV blocks may take", labels=labels)
        blocks = CounterMetricFamily(
            names.KV_OFFLOAD_BLOCKS, "Evicted KV blocks by what became of them", labels=(*labels, "event")
        )
        for tier in tiers:
            held.add_metric((*self._values, tier), counts[f"{tier}_bytes"])
            room.add_metric((*self._values, tier), counts[f"{tier}_capacity"])
            for event in names.OFFLOAD_EVENTS:
                blocks.add_metric((*self._values, tier, event), counts[f"{tier}_{event}"])
        if tiers:
            yield from (held, room, blocks)

    def _experts(self, layers: Mapping[int, Sequence[int]]) -> Iterable[Metric]:
        """Yield how tokens were shared out; nothing for a model without experts."""
        family = CounterMetricFamily(
            names.EXPERT_TOKENS, "Tokens that went to each expert", labels=(*LABELS, "layer", "expert")
        )
        for layer, tokens in layers.items():
            for expert, count in enumerate(tokens):
                family.add_metric((*self._values, str(layer), str(expert)), count)
        if layers:
            yield family

    def _histogram(self, name: str, text: str) -> Histogram:
        family = Histogram(name, text, LABELS, registry=self._registry, buckets=_SECONDS)
        return family.labels(*self._values)

    def _gauge(self, name: str, text: str, value: float) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, text, labels=LABELS)
        family.add_metric(self._values, value)
        return family

    def _counter(self, name: str, text: str, value: float) -> CounterMetricFamily:
        family = CounterMetricFamily(name, text, labels=LABELS)
        family.add_metric(self._values, value)
        return family

    def _counters(self, name: str, text: str, label: str, values: Mapping[str, float]) -> CounterMetricFamily:
        family = CounterMetricFamily(name, text, labels=(*LABELS, label))
        for value, count in values.items():
            family.add_metric((*self._values, value), count)
        return family


_COUNTERS: Final = {
    "bytes": ("sent", "received"),
    "handoff": ("admitted", "aborted", "refused", "timed_out"),
    "prompt": ("computed", "cached", "loaded", "received"),
    "gpu": ("load_ns", "prefill_ns", "decode_ns", "idle_ns"),
}
"""The keys of `Stats.counters` that make up one metric: PREFIX_VALUE."""


def _pick(prefix: str, counters: dict[str, int]) -> dict[str, int]:
    return {value.removesuffix("_ns"): counters.get(f"{prefix}_{value}", 0) for value in _COUNTERS[prefix]}
