"""How far what is judged has moved from what the gate was trained on (pure)."""

from collections.abc import Mapping

LEAST_ANSWERS = 64
"""Fewer tell nothing: the mean of so many lies within a quarter of a standard deviation, 19 times of 20."""
WINDOW_ANSWERS = 256
"""From so many on each answer weighs as much as the next, and older ones fade."""
ESCALATED = ""
"""In place of a feature's name: escalations beyond the share that was usual."""


class Drift:
    """Running means of one tier's answers; each is 0 while all is as in training."""

    def __init__(self) -> None:
        self._answers: dict[str, int] = {}
        self._means: dict[str, float] = {}

    def note(self, standing: Mapping[str, float], *, escalated: bool, usual: float) -> None:
        """Take in an answer.

        Args:
            standing: each feature's distance from the training data, in standard deviations.
            escalated: whether the gate left it to the next tier.
            usual: share of answers of which it did so when its threshold was chosen.
        """
        for name, value in (*standing.items(), (ESCALATED, float(escalated) - usual)):
            count = self._answers[name] = min(self._answers.get(name, 0) + 1, WINDOW_ANSWERS)
            mean = self._means.get(name, 0.0)
            self._means[name] = mean + (value - mean) / count

    def means(self) -> dict[str, float]:
        """Return the means that enough answers are behind, by feature, and by `ESCALATED`."""
        return {name: mean for name, mean in self._means.items() if self._answers[name] >= LEAST_ANSWERS}
