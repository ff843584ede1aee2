"""Difficulty before generation: what a strong answer to this prompt is expected to gain over a cheap one.

Three opinions are averaged, each standardized over the training data: the prompt's length, its cheap features, and its
embedding. The last two predict how likely each tier is right and take the difference, so a prompt that both answer, or
neither, is worth little. Averaging keeps an opinion that learnt too much from few subjects from deciding alone.
Prompts with options to choose from and open ones have experts of their own: what makes them hard differs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from headrace_router.cascade.linear import Floats, Logistic, Scale, Steps
from headrace_router.cascade.prompt import features, lists_options

_TIE = 1e-6


class Opinion(msgspec.Struct, frozen=True):
    """How likely each tier is right, from one kind of features."""

    scale: Scale
    weak: Logistic
    strong: Logistic
    centre: float
    spread: float

    def apply(self, values: Floats) -> tuple[Floats, Floats]:
        """Return the standardized expected gain of (n, features), and the chance that only the strong tier is right.

        The second takes the two to be independent; what that gets wrong is the calibration's to mend.
        """
        weak, strong = self.chances(values)
        return (strong - weak - self.centre) / self.spread, strong * (1.0 - weak)

    def chances(self, values: Floats) -> tuple[Floats, Floats]:
        """Return how likely the weak and the strong tier are right, (n,) each."""
        scaled = self.scale.apply(values)
        return self.weak.apply(scaled), self.strong.apply(scaled)


@dataclass(frozen=True, slots=True)
class Scores:
    """What the opinions say together, before it is calibrated; (n,) each."""

    gain: Floats
    only_strong: Floats


@dataclass(frozen=True, slots=True)
class Predictions:
    """One row per prompt."""

    gain: Floats
    """Expected quality of the strong answer minus that of the weak one, -1 to 1."""
    only_strong: Floats
    """Chance that only the strong answer is right."""


class Calibration(msgspec.Struct, frozen=True):
    """What scores have meant on prompts that the model had not seen."""

    gain: Steps
    only_strong: Steps

    def apply(self, scores: Scores) -> Predictions:
        """Return calibrated predictions; beyond the outermost knots the score still tells which prompt comes first."""
        gain = self.gain.apply(scores.gain) + _TIE * np.tanh(scores.gain)
        return Predictions(gain, self.only_strong.apply(scores.only_strong) + _TIE * scores.only_strong)


class Expert(msgspec.Struct, frozen=True):
    """The opinions for one form of prompts."""

    length: Scale
    cheap: Opinion
    embedding: Opinion
    sighted: Calibration
    """With all three opinions."""
    blind: Calibration
    """Without the embedding: the encoder may be down, and requests do not wait for it."""

    def scores(self, cheap: Floats, embeddings: Floats | None) -> Scores:
        """Return the opinions' means: of the gain with the length's among them, of the chance without."""
        opinions = [self.cheap.apply(cheap)]
        if embeddings is not None:
            opinions.append(self.embedding.apply(embeddings))
        gains = [self.length.apply(cheap[:, :1])[:, 0], *(gain for gain, _ in opinions)]
        return Scores(np.mean(gains, axis=0), np.mean([chance for _, chance in opinions], axis=0))


class Predictor(msgspec.Struct, frozen=True):
    """The experts."""

    choice: Expert
    """For prompts that list options."""
    open: Expert

    @property
    def embedding_size(self) -> int:
        """Numbers in an embedding that it knows."""
        return len(self.open.embedding.scale.centre)

    def predict(self, texts: Sequence[str], embeddings: Floats | None) -> Predictions:
        """Return what is expected of each prompt.

        Args:
            texts: prompts.
            embeddings: (texts, size), rows of length 1; None where there is no encoder.
        """
        table = np.array([features(text) for text in texts], dtype=np.float64)
        forms = np.array([lists_options(text) for text in texts], dtype=np.bool_)
        gain, only_strong = np.zeros(len(texts)), np.zeros(len(texts))
        for expert, rows in ((self.choice, forms), (self.open, ~forms)):
            if rows.any():
                known = None if embeddings is None else embeddings[rows]
                calibration = expert.blind if known is None else expert.sighted
                found = calibration.apply(expert.scores(table[rows], known))
                gain[rows], only_strong[rows] = found.gain, found.only_strong
        return Predictions(gain, only_strong)

    def inconsistency(self, num_features: int) -> str | None:
        """Return what is wrong with the sizes, None where all fit."""
        for form, expert in (("choice", self.choice), ("open", self.open)):
            parts: tuple[tuple[str, Any, int], ...] = (
                ("cheap", expert.cheap, num_features),
                ("embedding", expert.embedding, len(expert.embedding.scale.centre)),
            )
            for name, opinion, size in parts:
                vectors = (opinion.scale.centre, opinion.scale.spread, opinion.weak.weights, opinion.strong.weights)
                if {len(vector) for vector in vectors} != {size}:
                    return f"{form}.{name} has vectors of {[len(vector) for vector in vectors]} values, expected {size}"
                if not opinion.spread > 0 or min(opinion.scale.spread) <= 0:
                    return f"{form}.{name} has a spread that is not positive"
            if not math.isfinite(expert.length.centre[0] if expert.length.centre else math.nan):
                return f"{form}.length has no centre"
        return None
