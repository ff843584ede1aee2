"""Fits a difficulty model, and scores each training prompt by models that did not see its group."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from headrace_cli.cascade.table import Row, Table
from headrace_cli.errors import UsageError
from headrace_router.cascade.linear import Floats, Logistic, Scale, Steps, rounded
from headrace_router.cascade.predictor import Calibration, Expert, Opinion, Predictions, Predictor, Scores
from headrace_router.cascade.prompt import features, lists_options

Indices = npt.NDArray[np.int64]
CHEAP_STRENGTH = 0.001
EMBEDDING_STRENGTH = 0.0006
"""Inverse L2 penalties, small: what holds for half of the subjects must hold for the other half. Chosen by scores on
subjects that were left out (docs/cascade.md)."""
FOLDS = 9
FEWEST_ROWS = 100
"""A form of prompts with fewer rows gets the expert of all prompts."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """What the fits see."""

    cheap: Floats
    embeddings: Floats
    choice: npt.NDArray[np.bool_]
    weak: npt.NDArray[np.bool_]
    strong: npt.NDArray[np.bool_]
    weights: Floats
    folds: npt.NDArray[np.int64]

    @property
    def gains(self) -> Floats:
        """(n,) from -1 to 1."""
        return self.strong.astype(np.float64) - self.weak


def label(table: Table, embeddings: Floats, seed: int) -> Labelled:
    """Return the table as arrays, with each row's weight and fold."""
    rows = table.rows
    return Labelled(
        cheap=np.array([features(row.prompt) for row in rows], dtype=np.float64),
        embeddings=embeddings,
        choice=np.array([lists_options(row.prompt) for row in rows], dtype=np.bool_),
        weak=np.array([row.weak for row in rows], dtype=np.bool_),
        strong=np.array([row.strong for row in rows], dtype=np.bool_),
        weights=_weights(rows),
        folds=_folds(rows, seed),
    )


def _weights(rows: Sequence[Row]) -> Floats:
    """Return weights by which a subject with four times the prompts counts twice, not four times."""
    sizes = Counter(row.group for row in rows)
    weights = np.array([sizes[row.group] ** -0.5 for row in rows])
    return np.asarray(weights / weights.mean())


def _folds(rows: Sequence[Row], seed: int) -> npt.NDArray[np.int64]:
    """Return each row's fold: whole subjects together; a file without subjects by its prompts, equal ones together."""
    subjects = sorted({row.group for row in rows if row.group != row.file})
    order = np.random.default_rng(seed).permutation(len(subjects))
    place = {subject: int(order[number]) % FOLDS for number, subject in enumerate(subjects)}
    return np.array([place[row.group] if row.group in place else _by_prompt(row.prompt, seed) for row in rows])


def _by_prompt(prompt: str, seed: int) -> int:
    digest = hashlib.sha256(f"{seed}:{prompt}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) % FOLDS


def fit(data: Labelled) -> tuple[Predictor, Predictions]:
    """Return the model, and predictions of every row by models fitted without its fold.

    The second are what an unseen prompt of an unseen subject gets, so curves and thresholds come from them. Only the
    calibration, some forty numbers per form, has seen all rows.
    """
    _refuse_one_sided(data)
    unseen = _unseen_scores(data)
    experts = {form: _expert(data, rows, unseen) for form, rows in _forms(data, np.arange(len(data.weak))).items()}
    gain, only_strong = np.zeros(len(data.weak)), np.zeros(len(data.weak))
    for form, expert in experts.items():
        rows = np.flatnonzero(data.choice == form)
        found = expert.sighted.apply(_some(unseen[0], rows))
        gain[rows], only_strong[rows] = found.gain, found.only_strong
    return Predictor(choice=experts[True], open=experts[False]), Predictions(gain, only_strong)


def _refuse_one_sided(data: Labelled) -> None:
    for name, right in (("weak", data.weak), ("strong", data.strong)):
        if right.all() or not right.any():
            raise UsageError(f"the {name} model is {'always' if right.all() else 'never'} right: nothing to learn from")
    if len(data.weak) < FEWEST_ROWS:
        raise UsageError(f"{len(data.weak)} rows are too few to learn from; at least {FEWEST_ROWS} are needed")


def _forms(data: Labelled, rows: Indices) -> dict[bool, Indices]:
    """Return, for prompts with options and for open ones, the rows to learn from."""
    found = {}
    for form in (True, False):
        own = rows[data.choice[rows] == form]
        found[form] = own if _learnable(data, own) else rows
    return found


def _learnable(data: Labelled, rows: Indices) -> bool:
    mixed = all(0 < right[rows].sum() < len(rows) for right in (data.weak, data.strong))
    return len(rows) >= FEWEST_ROWS and mixed


def _unseen_scores(data: Labelled) -> tuple[Scores, Scores]:
    """Return (sighted, blind) scores of every row by experts that did not see its fold."""
    count = len(data.weak)
    sighted, blind = (Scores(np.zeros(count), np.zeros(count)) for _ in range(2))
    for fold in range(FOLDS):
        inside = data.folds == fold
        for form, rows in _forms(data, np.flatnonzero(~inside)).items():
            asked = np.flatnonzero(inside & (data.choice == form))
            if not len(asked):
                continue
            expert = _expert(data, rows, None)
            for scores, embeddings in ((sighted, data.embeddings[asked]), (blind, None)):
                found = expert.scores(data.cheap[asked], embeddings)
                scores.gain[asked], scores.only_strong[asked] = found.gain, found.only_strong
    return sighted, blind


def _some(scores: Scores, rows: Indices) -> Scores:
    return Scores(scores.gain[rows], scores.only_strong[rows])


def _expert(data: Labelled, rows: Indices, unseen: tuple[Scores, Scores] | None) -> Expert:
    nothing = Calibration(Steps((0.0,), (0.0,)), Steps((0.0,), (0.0,)))
    return Expert(
        length=Scale.of(data.cheap[rows, :1]),
        cheap=_opinion(data.cheap, data, rows, CHEAP_STRENGTH),
        embedding=_opinion(data.embeddings, data, rows, EMBEDDING_STRENGTH),
        sighted=nothing if unseen is None else _calibration(_some(unseen[0], rows), data.gains[rows]),
        blind=nothing if unseen is None else _calibration(_some(unseen[1], rows), data.gains[rows]),
    )


def _opinion(values: Floats, data: Labelled, rows: Indices, strength: float) -> Opinion:
    scale = Scale.of(values[rows])
    scaled = scale.apply(values[rows])
    heads = [_logistic(scaled, right[rows], data.weights[rows], strength) for right in (data.weak, data.strong)]
    opinion = Opinion(scale, weak=heads[0], strong=heads[1], centre=0.0, spread=1.0)
    weak, strong = opinion.chances(values[rows])
    gain = strong - weak
    return Opinion(scale, heads[0], heads[1], centre=float(gain.mean()), spread=float(gain.std()) or 1.0)


def _logistic(values: Floats, right: npt.NDArray[np.bool_], weights: Floats, strength: float) -> Logistic:
    model = LogisticRegression(C=strength, max_iter=1000).fit(values, right, sample_weight=weights)
    return Logistic(rounded(model.coef_[0]), float(model.intercept_[0]))


def _calibration(scores: Scores, gains: Floats) -> Calibration:
    only_strong = (gains > 0).astype(np.float64)
    return Calibration(gain=Steps.fit(scores.gain, gains), only_strong=Steps.fit(scores.only_strong, only_strong))
