"""Counters and histograms of the router, in Prometheus' text format.

Own counters: one dictionary addition per request, while prometheus-client takes a lock and several calls for each.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from headrace_api import names
from headrace_router.admin.histogram import Histogram

_TTFT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
UNKNOWN_MODEL = "unknown"
"""Label of requests whose model is not served: names that clients make up must not become time series."""


class ModelMetrics:
    """What happened to the requests of one model; exchanges keep a reference and add to it."""

    __slots__ = ("codes", "duration", "inflight", "replays", "ttft")

    def __init__(self) -> None:
        self.codes: Counter[int] = Counter()
        """By status; 499 is a client that left."""
        self.inflight = 0
        self.replays = 0
        self.ttft = Histogram(_TTFT_BUCKETS_S)
        """From a whole request to the first byte of its answer."""
        self.duration = Histogram(_REQUEST_BUCKETS_S)


class Metrics:
    """What happened so far; `render` is the only slow call."""

    def __init__(self) -> None:
        self._models: dict[str, ModelMetrics] = {}
        self._refused: Counter[int] = Counter()

    def of(self, model: str) -> ModelMetrics:
        """Return the figures of a model that is served."""
        found = self._models.get(model)
        if found is None:
            found = self._models[model] = ModelMetrics()
        return found

    def refused(self, status: int) -> None:
        """Note a request that never had a worker; its duration would only blur the others."""
        self._refused[status] += 1

    def render(
        self, workers: Mapping[tuple[str, str], int], held: Mapping[str, int], costs: Iterable[str] = ()
    ) -> bytes:
        """Return the text of a scrape.

        Args:
            workers: how many may be chosen now, by model and role.
            held: how many requests wait for a worker now, by model.
            costs: samples of the books.
        """
        lines: list[str] = []
        models = [(f'model="{_escape(model)}"', figures) for model, figures in sorted(self._models.items())]
        codes = [(label, figures.codes) for label, figures in models] + [(f'model="{UNKNOWN_MODEL}"', self._refused)]
        _family(lines, names.ROUTER_REQUESTS, "counter", "Requests answered, by model and HTTP status.")
        for label, counts in codes:
            lines += [
                f'{names.ROUTER_REQUESTS}_total{{{label},code="{code}"}} {counts[code]}' for code in sorted(counts)
            ]
        _family(lines, names.ROUTER_REPLAYS, "counter", "Answers that went on at another worker after theirs died.")
        lines += [f"{names.ROUTER_REPLAYS}_total{{{label}}} {figures.replays}" for label, figures in models]
        _family(lines, names.ROUTER_INFLIGHT, "gauge", "Requests that are being answered.")
        lines += [f"{names.ROUTER_INFLIGHT}{{{label}}} {figures.inflight}" for label, figures in models]
        _family(lines, names.ROUTER_WORKERS, "gauge", "Workers that may be chosen now, by model and role.")
        for (model, role), count in sorted(workers.items()):
            lines.append(f'{names.ROUTER_WORKERS}{{model="{_escape(model)}",role="{role}"}} {count}')
        _family(lines, names.ROUTER_HELD_REQUESTS, "gauge", "Requests that wait until their model has a worker.")
        lines += [f'{names.ROUTER_HELD_REQUESTS}{{model="{_escape(model)}"}} {held[model]}' for model in sorted(held)]
        _family(lines, names.ROUTER_TTFT_SECONDS, "histogram", "From the whole request to the answer's first byte.")
        for label, figures in models:
            lines += figures.ttft.lines(names.ROUTER_TTFT_SECONDS, label)
        _family(lines, names.ROUTER_REQUEST_SECONDS, "histogram", "From the whole request to the answer's last byte.")
        for label, figures in models:
            lines += figures.duration.lines(names.ROUTER_REQUEST_SECONDS, label)
        lines += costs
        return ("\n".join(lines) + "\n").encode()


def _family(lines: list[str], name: str, kind: str, text: str) -> None:
    full = f"{name}_total" if kind == "counter" else name
    lines += (f"# HELP {full} {text}", f"# TYPE {full} {kind}")


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
