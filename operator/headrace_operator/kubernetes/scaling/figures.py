"""What scaling knows of each pool, for Prometheus."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from headrace_operator.kubernetes.scaling.wants import Wants


class Figures(Collector):
    """Shows the newest answers of the policy and the loads behind them, of the operator that leads.

    Args:
        wants: the answers.
        round_s: returns how long the last round took.
    """

    def __init__(self, wants: Wants, round_s: Callable[[], float]) -> None:
        self._wants = wants
        self._round_s = round_s

    def describe(self) -> Iterable[Metric]:
        """Return nothing: pools come and go."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield what is known now."""
        labels = ("namespace", "pool")
        wanted = GaugeMetricFamily(
            "headrace_operator_workers_wanted", "Workers that a pool should have.", labels=labels
        )
        loads = GaugeMetricFamily(
            "headrace_operator_pool_load", "Load of a pool by signal, where it is known.", labels=(*labels, "signal")
        )
        for place, want in self._wants.listed():
            wanted.add_metric(place, want.replicas)
            for signal, value in (want.raw() or {}).items():
                loads.add_metric((*place, signal), value)
        yield wanted
        yield loads
        yield GaugeMetricFamily(
            "headrace_operator_scaling_round_seconds", "How long the last look at all workers took.", self._round_s()
        )
