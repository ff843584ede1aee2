"""Labelled prompts: CSV files that say of each prompt which of two models answered it rightly."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headrace_cli.errors import UsageError

_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_LONGEST_FIELD = 1 << 24
_NAMED = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt and who was right."""

    file: str
    group: str
    """What prompts of one kind share (the column `subject`); a split never tears it. The file where there is none."""
    prompt: str
    weak: bool
    strong: bool


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one or more files, with the names of the two models."""

    rows: tuple[Row, ...]
    weak: str
    strong: str

    @property
    def prompts(self) -> list[str]:
        """The prompts in order."""
        return [row.prompt for row in self.rows]

    @property
    def gains(self) -> npt.NDArray[np.float64]:
        """(n,) 1 where only the strong model is right, -1 where only the weak one, else 0."""
        return np.array([row.strong - row.weak for row in self.rows], dtype=np.float64)

    @property
    def files(self) -> list[str]:
        """Names of the files, in order."""
        return list(dict.fromkeys(row.file for row in self.rows))


def read(paths: Sequence[Path], weak: str | None = None, strong: str | None = None) -> Table:
    """Return the rows of all files.

    A file has a header with `prompt`, one column of True and False per model, optionally `subject`; other columns are
    ignored. Which model is the strong one: as named, else the one that is right more often over all files.

    Raises:
        UsageError: a file cannot be read, or does not have these columns.
    """
    found = [(path, _read(path)) for path in paths]
    if not any(rows for _, rows in found):
        raise UsageError(f"{', '.join(map(str, paths))}: no rows; expected labelled prompts")
    names = [name for name in (weak, strong) if name is not None]
    models = names if len(names) == _NAMED else _models(found)
    if len(names) == 1:
        models = sorted(models, key=lambda name: (name == names[0]) == (strong is not None))
    elif not names:
        models = sorted(models, key=lambda name: sum(_right(path, raw, name) for path, rows in found for raw in rows))
    rows = [_row(path, raw, models) for path, listed in found for raw in listed]
    return Table(tuple(rows), weak=models[0], strong=models[1])


def _read(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(_LONGEST_FIELD)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as CSV: {error}") from error
    if rows and "prompt" not in rows[0]:
        raise UsageError(f"{path} has the columns {', '.join(map(str, rows[0]))}; one must be 'prompt'")
    return rows


def _models(found: Sequence[tuple[Path, list[dict[str, str]]]]) -> list[str]:
    """Return the two columns whose values are True or False in every file."""
    counts = Counter(
        name
        for _, rows in found
        for name in (rows[0] if rows else {})
        if all((raw[name] or "").strip().lower() in _TRUTH for raw in rows)
    )
    models = [name for name, count in counts.items() if count == sum(bool(rows) for _, rows in found)]
    if len(models) != _NAMED:
        told = ", ".join(models) or "none"
        raise UsageError(
            f"columns of True and False in all files: {told}; expected two, or name them: --weak, --strong"
        )
    return models


def _right(path: Path, raw: Mapping[str, str], model: str) -> bool:
    value = raw.get(model)
    right = _TRUTH.get((value or "").strip().lower())
    if right is None:
        raise UsageError(f"{path}: column {model!r} holds {value!r}, expected True or False")
    return right


def _row(path: Path, raw: Mapping[str, str], models: Sequence[str]) -> Row:
    weak, strong = (_right(path, raw, model) for model in models)
    return Row(path.name, raw.get("subject") or path.name, raw["prompt"] or "", weak, strong)
