"""Fits a gate on recorded answers, and scores each answer by models that did not see its prompt."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from headrace_cli.cascade.answers import Answers, Row
from headrace_cli.errors import UsageError
from headrace_router.cascade.evidence import BLIND_NAMES, NAMES
from headrace_router.cascade.file import Stage
from headrace_router.cascade.judge import Judge
from headrace_router.cascade.linear import Floats, Logistic, Scale, Steps, rounded

FOLDS = 9
FEWEST_ROWS = 100
FEWEST_HITS = 10
"""Rows where only the strong tier is right, and rows where that is not so."""
STRENGTH = 0.1
"""Inverse L2 penalty of the regressions."""
SIGHTED_NAMES = tuple(name for name in NAMES if name != "prompt")
"""What models learn from where there are log-probabilities. The prompt's size then adds nothing on tasks of the
training data and misleads on others: it mostly tells tasks apart."""
_UNSET = Steps((0.0,), (0.0,))

Features = Mapping[str, float]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A gate's two stages without thresholds, and what they say of rows by models that did not see them."""

    prefix: Stage
    whole: Stage
    unseen_prefix: Floats
    """(n,) expected gains after `commit_tokens`; of an answer that has ended by then, those of the whole."""
    unseen_whole: Floats


@dataclass(frozen=True, slots=True)
class _Samples:
    """Answers at one or more moments."""

    features: Sequence[Features]
    hits: npt.NDArray[np.bool_]
    """Whether only the strong tier is right."""
    folds: Indices

    @property
    def learnable(self) -> bool:
        return len(self.hits) >= FEWEST_ROWS and FEWEST_HITS <= self.hits.sum() <= len(self.hits) - FEWEST_HITS


def fit(answers: Answers, commit_tokens: int, seed: int) -> Fitted:
    """Return the gate, trained on whole answers and on prefixes of `commit_tokens` tokens, of half as many and so on.

    The shorter prefixes are there because a stream may have to commit by time. Answers that have ended are no prefixes;
    where hardly any is longer, whole ones stand in.

    Raises:
        UsageError: too few rows, or nothing to learn from.
    """
    whole = _samples(answers, [None], seed)
    _refuse(answers, whole)
    prefix = _samples(answers, [commit_tokens >> halvings for halvings in range(commit_tokens.bit_length())], seed)
    whole_stage, prefix_stage = _stage(whole), _stage(prefix if prefix.learnable else whole)
    commit = [row.evidence(commit_tokens) for row in answers.rows]
    asked = _Samples([found.features() for found in commit], whole.hits, whole.folds)
    unseen_whole = _calibrated(whole_stage.sighted, _unseen(whole, whole, SIGHTED_NAMES))
    unseen_prefix = _calibrated(
        prefix_stage.sighted, _unseen(prefix if prefix.learnable else whole, asked, SIGHTED_NAMES)
    )
    finished = np.array([found.finished for found in commit])
    return Fitted(prefix_stage, whole_stage, np.where(finished, unseen_whole, unseen_prefix), unseen_whole)


def _refuse(answers: Answers, whole: _Samples) -> None:
    if len(answers.rows) < FEWEST_ROWS:
        raise UsageError(f"{len(answers.rows)} rows are too few to learn from; at least {FEWEST_ROWS} are needed")
    if not whole.learnable:
        raise UsageError(
            f"{int(whole.hits.sum())} of {len(whole.hits)} rows say that only {answers.strong} is right; "
            f"at least {FEWEST_HITS} must say so and {FEWEST_HITS} not"
        )


def _samples(answers: Answers, cuts: Sequence[int | None], seed: int) -> _Samples:
    """Return a sample for each answer and cut at which it is not over; None takes the whole."""
    kept = [
        (number, row.evidence(cut).features())
        for number, row in enumerate(answers.rows)
        for cut in cuts
        if cut is None or len(row.answer.tokens or ()) > cut
    ]
    rows = np.array([number for number, _ in kept], dtype=np.int64)
    folds = np.array([_fold(row, seed) for row in answers.rows], dtype=np.int64)
    return _Samples([found for _, found in kept], (answers.gains > 0)[rows], folds[rows])


def _fold(row: Row, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(b"%d:%b" % (seed, row.digest)).digest()[:8]) % FOLDS


def _stage(samples: _Samples) -> Stage:
    return Stage(sighted=_judge(samples, SIGHTED_NAMES), blind=_judge(samples, BLIND_NAMES))


def _judge(samples: _Samples, names: Sequence[str]) -> Judge:
    """Return a regression on all samples, calibrated by what regressions without a fold said of that fold."""
    curve = Steps.fit(_unseen(samples, samples, names), samples.hits.astype(np.float64))
    return msgspec.structs.replace(_regression(samples, names, np.arange(len(samples.features))), curve=curve)


def _unseen(samples: _Samples, asked: _Samples, names: Sequence[str]) -> Floats:
    """Return the logit of each asked sample by a regression without its fold."""
    logits = np.zeros(len(asked.features))
    for fold in range(FOLDS):
        rows = np.flatnonzero(asked.folds == fold)
        if len(rows):
            judge = _regression(samples, names, np.flatnonzero(samples.folds != fold))
            logits[rows] = [judge.logit(asked.features[row]) for row in rows.tolist()]
    return logits


def _regression(samples: _Samples, names: Sequence[str], rows: Indices) -> Judge:
    values = np.array([[samples.features[row][name] for name in names] for row in rows.tolist()])
    scale = Scale.of(values)
    model = LogisticRegression(C=STRENGTH, max_iter=1000).fit(scale.apply(values), samples.hits[rows])
    return Judge(tuple(names), scale, Logistic(rounded(model.coef_[0]), float(model.intercept_[0])), _UNSET)


def _calibrated(judge: Judge, logits: Floats) -> Floats:
    return np.array([judge.calibrated(float(logit)) for logit in logits])
