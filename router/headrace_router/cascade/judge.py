"""One model of a gate: from features of an answer to the chance that asking the next tier pays. Plain Python."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence

import msgspec

from headrace_router.cascade.linear import CLIP, Logistic, Scale, Steps

_TIE = 1e-6
_MOST_LOGIT = 30.0


class Judge(msgspec.Struct, frozen=True):
    """A calibrated logistic regression over some of the features.

    The same numbers as `Scale`, `Logistic` and `Steps` give, without numpy: for one answer its calls cost more than
    the sums. Training scores its rows by this very code, so that thresholds meet equal numbers at serving.
    """

    features: tuple[str, ...]
    """Names of what `Evidence.features` returns, in the order of the weights."""
    scale: Scale
    logistic: Logistic
    curve: Steps
    """From the regression's logit to the observed chance."""

    def standing(self, found: Mapping[str, float]) -> list[float]:
        """Return each feature's distance from the mean of the training data, in its standard deviations."""
        rows = zip(self.features, self.scale.centre, self.scale.spread, strict=True)
        return [min(CLIP, max(-CLIP, (found[name] - centre) / spread)) for name, centre, spread in rows]

    def logit(self, found: Mapping[str, float]) -> float:
        """Return the regression's log-odds."""
        weighed = zip(self.logistic.weights, self.standing(found), strict=True)
        total = self.logistic.bias + sum(weight * place for weight, place in weighed)
        return min(_MOST_LOGIT, max(-_MOST_LOGIT, total))

    def gain(self, found: Mapping[str, float]) -> float:
        """Return the calibrated chance of an answer."""
        return self.calibrated(self.logit(found))

    def calibrated(self, logit: float) -> float:
        """Return what log-odds have meant; where the curve is level they still tell which answer comes first."""
        level = interpolated(logit, self.curve.scores, self.curve.values)
        return level + _TIE * (1.0 + math.tanh(logit) - 2.0 * level)

    def inconsistency(self, known: Sequence[str]) -> str | None:
        """Return what is wrong with it, None where all fits."""
        if strange := sorted(set(self.features) - set(known)):
            return f"reads the unknown features {', '.join(strange[:3])}"
        sizes = {len(part) for part in (self.features, self.scale.centre, self.scale.spread, self.logistic.weights)}
        if len(sizes) != 1:
            return f"has vectors of {sorted(sizes)} values for {len(self.features)} features"
        numbers = (*self.scale.centre, *self.scale.spread, *self.logistic.weights, self.logistic.bias)
        if not all(map(math.isfinite, numbers)):
            return "holds a number that is not finite"
        return _fault(self.curve) if min(self.scale.spread, default=1.0) > 0 else "has a spread that is not positive"


def _fault(curve: Steps) -> str | None:
    """Return what is wrong with a calibration curve, None where all fits."""
    if not curve.scores or len(curve.scores) != len(curve.values):
        return f"has a curve of {len(curve.scores)} scores and {len(curve.values)} values"
    if list(curve.scores) != sorted(set(curve.scores)) or not all(map(math.isfinite, curve.scores)):
        return "has a curve whose scores do not rise"
    return None if all(0 <= value <= 1 for value in curve.values) else "has a curve of values that are no chances"


def interpolated(at: float, places: Sequence[float], values: Sequence[float]) -> float:
    """Return the value at a place on the straight lines between points, level beyond the outermost."""
    after = bisect_right(places, at)
    if after == 0 or after == len(places):
        return values[max(0, after - 1)]
    left, right = places[after - 1], places[after]
    return values[after - 1] + (values[after] - values[after - 1]) * (at - left) / (right - left)
