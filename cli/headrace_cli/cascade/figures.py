"""The figures by which a model is judged, with intervals by bootstrap."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace_cli.cascade.answers import Answers
from headrace_cli.cascade.table import Table
from headrace_cli.errors import UsageError
from headrace_router.cascade.curve import LEVELS, auc, curve, resamples
from headrace_router.cascade.gate import Gate
from headrace_router.cascade.linear import Floats
from headrace_router.cascade.predictor import Predictions

WHOLE, PREFIX = "whole", "prefix"
"""The moments at which a gate judges."""
SAMPLES = 1000
CONFIDENCE = (2.5, 97.5)
"""Percentiles of the bootstrap that are told as interval."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What is judged, row by row."""

    weak: Floats
    """1 where the weak model is right, else 0."""
    gains: Floats
    """Of the strong model over the weak one: 1, 0 or -1."""
    predicted: Floats
    only_strong: Floats
    lengths: Floats
    """Size of the prompt: the baseline that a longer prompt is a harder one."""
    files: tuple[str, ...]

    def take(self, rows: npt.NDArray[np.int64]) -> "Judged":
        """Return some rows, maybe with repeats."""
        files = tuple(self.files[row] for row in rows)
        return Judged(
            *(self.weak[rows], self.gains[rows], self.predicted[rows], self.only_strong[rows], self.lengths[rows]),
            files=files,
        )


def judged(table: Table, predictions: Predictions) -> Judged:
    """Return a table with its predictions."""
    lengths = np.array([len(prompt) for prompt in table.prompts], dtype=np.float64)
    files = tuple(row.file for row in table.rows)
    weak = np.array([row.weak for row in table.rows], dtype=np.float64)
    return Judged(weak, table.gains, predictions.gain, predictions.only_strong, lengths, files)


def judged_answers(answers: Answers, gains: Floats) -> Judged:
    """Return recorded answers with what a gate expects of each."""
    lengths = np.array([row.prompt_bytes for row in answers.rows], dtype=np.float64)
    files = tuple(row.file for row in answers.rows)
    weak = np.array([row.answer.right for row in answers.rows], dtype=np.float64)
    return Judged(weak, answers.gains, gains, gains, lengths, files)


def judged_by(gate: Gate, answers: Answers) -> dict[str, Judged]:
    """Return recorded answers as a gate judges them, whole ones first; prefixes as long as it commits to."""
    cuts = {WHOLE: None, PREFIX: gate.commit_tokens}
    return {
        stage: judged_answers(answers, np.array([gate.gain(row.evidence(cut)) for row in answers.rows]))
        for stage, cut in cuts.items()
    }


def figures(rows: Judged, seed: int, samples: int = SAMPLES) -> dict[str, Any]:
    """Return the figures pooled, and under `files` for each file.

    Raises:
        UsageError: the strong model is no better than the weak one on a file's rows.
    """
    found = _with_intervals(rows, seed, samples, "the files together")
    found["files"] = {
        name: _with_intervals(rows.take(np.flatnonzero(np.array(rows.files) == name)), seed, samples, name)
        for name in dict.fromkeys(rows.files)
    }
    return found


def _with_intervals(rows: Judged, seed: int, samples: int, name: str) -> dict[str, Any]:
    if rows.gains.sum() <= 0:
        raise UsageError(f"{name}: the strong model is not better than the weak one; there is no quality to buy")
    found = _figures(rows)
    drawn = []
    for sample in resamples(rows.files, samples, seed):
        taken = rows.take(sample)
        if taken.gains.sum() > 0:  # no gap, no share of it
            drawn.append(_figures(taken))
    found["intervals"] = _intervals(found, drawn)
    return found


def _figures(rows: Judged) -> dict[str, Any]:
    ours, length = curve(rows.predicted, rows.gains), curve(rows.lengths, rows.gains)
    calls = _by_level(ours.calls_at)
    weak, gap = float(rows.weak.mean()), float(rows.gains.mean())
    return {
        "rows": len(rows.gains),
        "quality": {"weak": weak, "strong": weak + gap, "gap": gap},
        "apgr": ours.apgr,
        "length_apgr": length.apgr,
        "apgr_above_length": ours.apgr - length.apgr,
        "auc": auc(rows.only_strong, rows.gains > 0),
        "length_auc": auc(rows.lengths, rows.gains > 0),
        "calls_at": calls,
        "random_calls_at": _by_level(lambda level: level),
        "length_calls_at": _by_level(length.calls_at),
        "saving_at": {key: float(key) / max(share, 1e-9) for key, share in calls.items()},
    }


def _by_level(value: Callable[[float], float]) -> dict[str, float]:
    return {str(level): value(level) for level in LEVELS}


def _intervals(found: Mapping[str, Any], drawn: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    intervals: dict[str, Any] = {}
    for name, value in found.items():
        if isinstance(value, Mapping):
            intervals[name] = {key: _between([one[name][key] for one in drawn]) for key in value}
        elif isinstance(value, float):
            intervals[name] = _between([one[name] for one in drawn])
    return intervals


def _between(values: Sequence[float]) -> list[float]:
    low, high = np.nanpercentile(np.asarray(values), CONFIDENCE)
    return [float(low), float(high)]


def rounded(value: Any) -> Any:
    """Return figures with four decimals, at any depth."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Mapping):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value
