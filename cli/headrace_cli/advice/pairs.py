"""Requests that had a next tier to go to, as columns to reckon with, and intervals by bootstrap over them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from headrace_router.cost.facts import Leg

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SAMPLES: Final = 1000
FEWEST_SAMPLES: Final = 200
MOST_DRAWS: Final = 20_000_000
"""Rows drawn over all samples: of very many requests fewer samples are enough, and as many would take a minute."""
CONFIDENCE: Final = (2.5, 97.5)
"""Percentiles of the bootstrap that are told as interval."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What a tier answered, and what went on from it to the next one; every column is (n,)."""

    cheap: str
    strong: str
    cost: Floats
    """Of the cheap tier's part."""
    gain: Floats
    """NaN where no gate judged."""
    prefix: Bools
    """Whether the gate saw the first tokens only."""
    escalated: Bools
    after: Floats
    """Cost of all tiers after it; 0 where none was asked."""

    @property
    def name(self) -> str:
        """Both tiers."""
        return f"{self.cheap} to {self.strong}"

    @property
    def spent(self) -> int:
        """What its requests cost."""
        return round(float(self.cost.sum() + self.after.sum()))

    @property
    def judged(self) -> "Pair":
        """Those of its requests that a gate judged."""
        return self.take(~np.isnan(self.gain))

    def take(self, rows: Bools) -> "Pair":
        """Return some of its requests."""
        columns = (column[rows] for column in (self.cost, self.gain, self.prefix, self.escalated, self.after))
        return Pair(self.cheap, self.strong, *columns)  # type: ignore[arg-type]  # in the order of the fields


def pairs(legs: Sequence[Leg]) -> list[Pair]:
    """Return one pair for each tier that requests went on from; its next one is where most of them went."""
    found = []
    for tier in dict.fromkeys(leg.tier for leg in legs):
        own = [leg for leg in legs if leg.tier == tier]
        onward = Counter(leg.onward for leg in own if leg.onward is not None)
        if onward:
            found.append(_pair(tier, min(onward, key=lambda name: (-onward[name], name)), own))
    return found


def _pair(cheap: str, strong: str, legs: Sequence[Leg]) -> Pair:
    return Pair(
        cheap,
        strong,
        cost=np.array([leg.cost for leg in legs], dtype=np.float64),
        gain=np.array([np.nan if leg.gain is None else leg.gain for leg in legs], dtype=np.float64),
        prefix=np.array([leg.stage == "prefix" for leg in legs], dtype=np.bool_),
        escalated=np.array([leg.onward is not None for leg in legs], dtype=np.bool_),
        after=np.array([leg.after for leg in legs], dtype=np.float64),
    )


def drawn(columns: Floats, seed: int) -> Floats:
    """Return the columns' sums in bootstrap samples of the rows.

    Args:
        columns: (n, k).
        seed: equal seeds draw equal rows.

    Returns:
        (samples, k).
    """
    generator = np.random.default_rng(seed)
    num_rows = len(columns)
    samples = min(SAMPLES, max(FEWEST_SAMPLES, MOST_DRAWS // num_rows))
    sums = np.empty((samples, columns.shape[1]))
    for sample in range(samples):
        counts = np.bincount(generator.integers(0, num_rows, num_rows), minlength=num_rows).astype(np.float64)
        sums[sample] = counts @ columns
    return sums


def between(values: Floats) -> tuple[int, int]:
    """Return the 95 % interval of a bootstrapped amount, in whole billionths."""
    low, high = np.percentile(values, CONFIDENCE)
    return round(float(low)), round(float(high))
