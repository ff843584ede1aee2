"""The small models that the cascade is made of: logistic regressions over clipped features, and calibration curves."""

from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MOST_KNOTS = 20
FEWEST_ROWS = 20
"""Of one knot of a calibration curve."""
CLIP = 3.0
"""Standardized features are cut here: a prompt far from everything seen must not decide by one feature alone."""


class Scale(msgspec.Struct, frozen=True):
    """Centre and spread of each feature in the training data."""

    centre: tuple[float, ...]
    spread: tuple[float, ...]

    def apply(self, values: Floats) -> Floats:
        """Return (n, features) standardized and clipped."""
        scaled: Floats = (values - np.asarray(self.centre)) / np.asarray(self.spread)
        return np.clip(scaled, -CLIP, CLIP)

    @classmethod
    def of(cls, values: Floats) -> Self:
        """Return the scale of (n, features); a feature that never varies keeps a spread of 1."""
        spread = values.std(0)
        spread[spread < 1e-9] = 1.0
        return cls(rounded(values.mean(0)), rounded(spread))


class Logistic(msgspec.Struct, frozen=True):
    """A logistic regression."""

    weights: tuple[float, ...]
    bias: float

    def apply(self, values: Floats) -> Floats:
        """Return (n,) probabilities of (n, features)."""
        logits: Floats = np.clip(values @ np.asarray(self.weights) + self.bias, -30.0, 30.0)
        return np.asarray(1.0 / (1.0 + np.exp(-logits)))


class Steps(msgspec.Struct, frozen=True):
    """A monotone curve from a score to an expectation, straight between its knots and level beyond them."""

    scores: tuple[float, ...]
    values: tuple[float, ...]

    def apply(self, scores: Floats) -> Floats:
        """Return (n,) values of (n,) scores."""
        return np.asarray(np.interp(scores, np.asarray(self.scores), np.asarray(self.values)))

    @classmethod
    def fit(cls, scores: Floats, outcomes: Floats) -> Self:
        """Return the isotonic regression of outcomes on scores, each level at the mean of its scores.

        Pool adjacent violators (Ayer et al. 1955) over at most `MOST_KNOTS` runs of equal size, centred as by Oron and
        Flournoy 2017 (arXiv 1701.05964): the curve rises between levels, and single rows make no steps.
        """
        order = np.argsort(scores, kind="stable")
        blocks: list[tuple[float, float, int]] = []  # mean outcome, mean score, rows
        for run in np.array_split(order, max(1, min(MOST_KNOTS, len(order) // FEWEST_ROWS))):
            block = (float(outcomes[run].mean()), float(scores[run].mean()), len(run))
            while blocks and blocks[-1][0] >= block[0]:
                block = _merged(blocks.pop(), block)
            blocks.append(block)
        knots = {round(score, 6): round(outcome, 6) for outcome, score, _ in blocks}
        return cls(tuple(knots), tuple(knots.values()))


def _merged(one: tuple[float, float, int], other: tuple[float, float, int]) -> tuple[float, float, int]:
    rows = one[2] + other[2]
    mean = [(left * one[2] + right * other[2]) / rows for left, right in zip(one[:2], other[:2], strict=True)]
    return mean[0], mean[1], rows


def rounded(values: Floats) -> tuple[float, ...]:
    """Return values with six significant digits: what a model file keeps."""
    return tuple(float(f"{value:.6g}") for value in values)
