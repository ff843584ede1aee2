"""Cost-quality curves: what share of calls to the strong model buys what share of the quality between the two.

Both shares are those of Ong et al. 2024 (RouteLLM, arXiv 2406.18665): the performance gap recovered (PGR) at a share c
of strong calls is (quality at c - weak) / (strong - weak), APGR its mean over c from 0 to 1. Prompts go to the strong
model in the order of a score, highest first. Random order gives PGR = c, so an APGR of 0.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Shares of the quality gap whose price is told."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Quality over calls, at every count of strong calls from 0 to n."""

    calls: Floats
    """(n + 1,) shares of strong calls, 0 to 1."""
    recovered: Floats
    """(n + 1,) shares of the gap; above 1 where the router beats the strong model alone."""

    @property
    def apgr(self) -> float:
        """The area below the curve."""
        return float(np.trapezoid(self.recovered, self.calls))

    def calls_at(self, level: float) -> float:
        """Return the smallest share of strong calls that recovers `level` of the gap, between counts interpolated."""
        reached = np.flatnonzero(self.recovered >= level - 1e-12)
        place = int(reached[0])
        if place == 0:
            return 0.0
        before, after = self.recovered[place - 1], self.recovered[place]
        part = (level - before) / (after - before)
        return float(self.calls[place - 1] + part * (self.calls[place] - self.calls[place - 1]))


def curve(scores: Floats, gains: Floats) -> Curve:
    """Return the curve of sending prompts to the strong model by `scores`, highest first.

    Prompts of equal score share their gain evenly, so the order of rows in a file changes nothing.

    Args:
        scores: (n,).
        gains: (n,) quality of the strong answer minus that of the weak one; their sum must be positive.
    """
    total = float(gains.sum())
    if total <= 0:
        raise ValueError(f"the strong model is not better than the weak one on these {len(gains)} rows: no gap to buy")
    order = np.argsort(-scores, kind="stable")
    ordered, sorted_gains = scores[order], gains[order]
    _, group, counts = np.unique(-ordered, return_inverse=True, return_counts=True)
    evened = (np.bincount(group, weights=sorted_gains) / counts)[group]
    recovered = np.concatenate(([0.0], np.cumsum(evened) / total))
    return Curve(np.linspace(0.0, 1.0, len(gains) + 1), recovered)


def auc(scores: Floats, hits: npt.NDArray[np.bool_]) -> float:
    """Return the chance that a hit scores above a miss, ties counted half (Mann-Whitney); NaN without either kind."""
    num_hits = int(hits.sum())
    num_misses = len(hits) - num_hits
    if not num_hits or not num_misses:
        return float("nan")
    _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]
    return float((ranks[hits].sum() - num_hits * (num_hits + 1) / 2) / (num_hits * num_misses))


def resamples(groups: Sequence[str], count: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """Return row numbers of bootstrap samples: rows drawn with replacement inside each group, groups kept in size."""
    generator = np.random.default_rng(seed)
    names = np.asarray(groups)
    parts = [np.flatnonzero(names == name) for name in dict.fromkeys(groups)]
    return [np.concatenate([generator.choice(part, len(part)) for part in parts]) for _ in range(count)]
