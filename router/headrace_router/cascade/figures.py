"""What the cascade did, in Prometheus' text format."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from headrace_api import names
from headrace_router.admin.histogram import Histogram
from headrace_router.cascade.drift import ESCALATED, Drift
from headrace_router.cascade.timing import Timing

_HELD_BUCKETS_S = (0.0, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_GAIN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class TierFigures:
    """Sums since the router's start; tiers are as many as the resource names."""

    def __init__(self) -> None:
        self.timing = Timing()
        self._answers: Counter[tuple[str, str]] = Counter()
        self._audits: Counter[tuple[str, bool]] = Counter()
        self._held: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(_HELD_BUCKETS_S))
        self._gain: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(_GAIN_BUCKETS))
        self._drift: defaultdict[str, Drift] = defaultdict(Drift)

    def count(self, tier: str, outcome: str) -> None:
        """Note what became of a tier's answer (`TIER_OUTCOMES`)."""
        self._answers[tier, outcome] += 1

    def shown(self, tier: str, outcome: str, held_s: float) -> None:
        """Note that a tier's answer is shown, so long after its first token."""
        self.count(tier, outcome)
        self._held[tier].observe(held_s)

    def judged(self, tier: str, gain: float, standing: Mapping[str, float], *, escalated: bool, usual: float) -> None:
        """Note what the gate expected of asking the next tier, and what is unusual about that; see `Drift.note`."""
        self._gain[tier].observe(gain)
        self._drift[tier].note(standing, escalated=escalated, usual=usual)

    def audited(self, tier: str, *, agreed: bool) -> None:
        """Note whether the next tier said what a tier's shown answer says."""
        self._audits[tier, agreed] += 1

    def lines(self, away: Mapping[str, bool]) -> Iterable[str]:
        """Yield the samples.

        Args:
            away: for each model file, whether it cannot be used.
        """
        name = f"{names.CASCADE_ANSWERS}_total"
        yield from _head(name, "counter", "What became of the tiers' answers.")
        for tier, outcome in sorted(self._answers):
            yield f'{name}{{tier="{tier}",outcome="{outcome}"}} {self._answers[tier, outcome]}'
        name = f"{names.CASCADE_AUDITS}_total"
        yield from _head(name, "counter", "Shown answers that the next tier was asked for too, and whether it agreed.")
        for (tier, agreed), count in sorted(self._audits.items()):
            yield f'{name}{{tier="{tier}",agreed="{str(agreed).lower()}"}} {count}'
        for name, text, histograms in (
            (names.CASCADE_HELD_SECONDS, "From a shown answer's first token until it was shown.", self._held),
            (names.CASCADE_GAIN, "Gain that the gate expected of asking the next tier.", self._gain),
        ):
            yield from _head(name, "histogram", text)
            for tier in sorted(histograms):
                yield from histograms[tier].lines(name, f'tier="{tier}"')
        yield from self._drifts()
        yield from _head(names.CASCADE_MODEL_AWAY, "gauge", "1 while a model file cannot be used.")
        for model, gone in sorted(away.items()):
            yield f'{names.CASCADE_MODEL_AWAY}{{model="{model}"}} {int(gone)}'

    def _drifts(self) -> Iterable[str]:
        means = {tier: drift.means() for tier, drift in sorted(self._drift.items())}
        text = "Distance of judged answers from those of the training, in standard deviations."
        yield from _head(names.CASCADE_FEATURE_DRIFT, "gauge", text)
        for tier, found in means.items():
            for feature, mean in found.items():
                if feature != ESCALATED:
                    yield f'{names.CASCADE_FEATURE_DRIFT}{{tier="{tier}",feature="{feature}"}} {mean:.4f}'
        text = "Share of escalations, less that when the threshold was chosen."
        yield from _head(names.CASCADE_ESCALATION_DRIFT, "gauge", text)
        for tier, found in means.items():
            if ESCALATED in found:
                yield f'{names.CASCADE_ESCALATION_DRIFT}{{tier="{tier}"}} {found[ESCALATED]:.4f}'


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"
