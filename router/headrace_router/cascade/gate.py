"""The gate: whether an answer, or its first tokens, should be left to the next tier.

Four models, chosen by what the evidence is: of a prefix or of a whole answer, with log-probabilities or without.
"""

import math
from pathlib import Path
from typing import Self

from headrace_router.cascade.errors import CascadeError
from headrace_router.cascade.evidence import Evidence
from headrace_router.cascade.file import GateFile, Threshold, read_gate
from headrace_router.cascade.judge import Judge, interpolated


class Gate:
    """Turns evidence into the expected gain of asking the next tier.

    Args:
        file: the trained models and their thresholds, as `read_gate` checks them.
    """

    def __init__(self, file: GateFile) -> None:
        self._file = file
        self.commit_tokens: int = file.commit_tokens
        """Tokens of the prefix that the prefix model was trained on."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a gate; raise CascadeError with a sentence where the file cannot be used."""
        return cls(read_gate(path))

    def gain(self, evidence: Evidence) -> float:
        """Return the chance, 0 to 1, that the next tier's answer is right and this one is wrong; never raises."""
        return self._judge(evidence).gain(evidence.features())

    def standing(self, evidence: Evidence) -> dict[str, float]:
        """Return how far each feature lies from the training data, in its standard deviations; never raises."""
        judge = self._judge(evidence)
        return dict(zip(judge.features, judge.standing(evidence.features()), strict=True))

    def _judge(self, evidence: Evidence) -> Judge:
        stage = self._file.whole if evidence.finished else self._file.prefix
        return stage.sighted if evidence.sighted else stage.blind

    def threshold(self, target: float, *, prefix: bool = False) -> float:
        """Return the gain above which to escalate so that a share of the quality gap is recovered.

        The file has the lowest gain that escalated when the threshold was chosen; this lies below it by a hair.

        Args:
            target: share of the gap; between those of the file it is interpolated.
            prefix: of answers judged by their first `commit_tokens`; otherwise of whole ones.

        Raises:
            CascadeError: the file has no threshold so low or so high.
        """
        stage = "prefix" if prefix else "whole"
        known = self._thresholds(prefix=prefix)
        targets = [one.target for one in known]
        if not targets or not targets[0] <= target <= targets[-1]:
            told = f"from {targets[0]:g} to {targets[-1]:g}" if targets else "none"
            raise CascadeError(
                f"the gate has no threshold for a share of {target:g} of the quality gap; its thresholds ({stage}) are "
                f"{told}: add one by `headrace cascade calibrate --target {target:g}`"
            )
        return math.nextafter(interpolated(target, targets, [one.gain for one in known]), -math.inf)

    def escalated(self, target: float, *, prefix: bool = False) -> float:
        """Return the share of answers that escalated when the threshold of a target was chosen."""
        known = self._thresholds(prefix=prefix)
        return interpolated(target, [one.target for one in known], [one.calls for one in known])

    def _thresholds(self, *, prefix: bool) -> tuple[Threshold, ...]:
        return (self._file.prefix if prefix else self._file.whole).thresholds
