"""Figures of the operator, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector


class Metrics:
    """Everything that is counted; one registry for each operator, so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._calls = Counter(
            "headrace_operator_api_calls",
            "Calls to the API server by verb, resource and HTTP status (0: no answer).",
            ("verb", "resource", "code"),
            registry=self.registry,
        )
        self._call_seconds = Histogram(
            "headrace_operator_api_call_seconds",
            "How long calls took; of a watch, until it began.",
            ("verb",),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
            registry=self.registry,
        )
        self._made: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        """The two above by their labels: looking them up takes the library longer than counting."""
        self._reconciles = Counter(
            "headrace_operator_reconciles",
            "Turns of resources by kind, lane and outcome.",
            ("kind", "lane", "outcome"),
            registry=self.registry,
        )
        self._reconcile_seconds = Histogram(
            "headrace_operator_reconcile_seconds",
            "How long turns took.",
            ("kind",),
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )

    def call(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Count a call to the API server."""
        made = self._made.get((verb, resource, code))
        if made is None:
            made = self._calls.labels(verb, resource, str(code)), self._call_seconds.labels(verb)
            self._made[verb, resource, code] = made
        made[0].inc()
        made[1].observe(seconds)

    def reconcile(self, kind: str, lane: str, outcome: str, seconds: float) -> None:
        """Count a turn."""
        self._reconciles.labels(kind, lane, outcome).inc()
        self._reconcile_seconds.labels(kind).observe(seconds)

    def watch(self, depth: Callable[[], int], leads: Callable[[], bool], resources: Callable[[], int]) -> None:
        """Show values that others hold.

        Args:
            depth: of the queue.
            leads: whether this operator leads.
            resources: that are known.
        """
        gauges: tuple[tuple[str, str, Callable[[], float]], ...] = (
            ("headrace_operator_queue_depth", "Resources that wait for their turn.", depth),
            ("headrace_operator_leader", "1 while this operator leads.", lambda: float(leads())),
            ("headrace_operator_resources", "LLMDeployments and LLMRouters that are known.", resources),
        )
        for name, text, value in gauges:
            Gauge(name, text, registry=self.registry).set_function(value)

    def page(self) -> bytes:
        """Return all of it in the text format."""
        return generate_latest(self.registry)
