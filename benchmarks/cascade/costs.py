"""What ways of choosing between two tiers cost, in shares of what the strong tier's answers to all prompts cost.

A gate pays the weak tier for every prompt and the strong one for those it sends on. Who chooses before anything is
generated, by chance or by the prompt's length, pays each prompt once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Costs:
    """Of an answer on average; the strong tier's are 1."""

    weak: float

    def of_gate(self, calls: float) -> float:
        """Return the cost where the weak tier answers first; the upper bound where its streams are given up early."""
        return self.weak + calls

    def of_choice(self, calls: float) -> float:
        """Return the cost where a prompt goes to one tier only."""
        return (1 - calls) * self.weak + calls

    def random_calls(self, cost: float) -> float:
        """Return the share of strong calls that choosing by chance can pay; 1 where the cost is that of always."""
        return min(1.0, (cost - self.weak) / (1 - self.weak))


def seconds(answers: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """Return the mean time of an answer by the workers' own account of their steps."""
    return {name: float(np.mean([answer["seconds"] for answer in listed])) for name, listed in answers.items()}


def measured(
    answers: Mapping[str, Sequence[Mapping[str, Any]]], prices: Mapping[str, float], weak: str, strong: str
) -> Costs:
    """Return the costs of answers that took `seconds`, at prices of an hour."""
    taken = seconds(answers)
    return Costs(taken[weak] * prices[weak] / (taken[strong] * prices[strong]))
