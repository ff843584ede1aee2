"""What the commands of `headrace cascade` do, from files to printed figures."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import Progress

from headrace_cli.cascade import table as tables
from headrace_cli.cascade.embedding import Floats, open_embeddings
from headrace_cli.cascade.figures import Judged, figures, judged, rounded
from headrace_cli.errors import UsageError
from headrace_router.cascade.curve import LEVELS
from headrace_router.cascade.errors import ModelFileError
from headrace_router.cascade.file import DifficultyFile, Threshold, Training, read_difficulty, write
from headrace_router.cascade.threshold import choose


def train(options: argparse.Namespace) -> int:
    """Fit, write the model, and print what to expect of it on subjects it has not seen."""
    from headrace_cli.cascade.training import fit, label  # noqa: PLC0415 (scikit-learn is an extra)

    table = tables.read(options.data, options.weak, options.strong)
    predictor, unseen = fit(label(table, _embed(options.encoder, table), options.seed))
    rows = judged(table, unseen)
    model = DifficultyFile(
        weak=table.weak,
        strong=table.strong,
        encoder=options.encoder,
        training=Training(len(table.rows), tuple(table.files), options.seed),
        predictor=predictor,
        thresholds=tuple(choose(rows.predicted, rows.gains, level) for level in LEVELS),
    )
    _write(options.out, model)
    _tell(figures(rows, options.seed), as_json=options.json, title=f"{options.out}: on folds left out of the fit")
    return 0


def calibrate(options: argparse.Namespace) -> int:
    """Choose the threshold for a target and write it into the model."""
    model = _read(options.model)
    rows = _judge(options, model)
    threshold = choose(rows.predicted, rows.gains, options.target)
    kept = [one for one in model.thresholds if one.target != options.target]
    thresholds = tuple(sorted([*kept, threshold], key=lambda one: one.target))
    _write(options.out or options.model, msgspec.structs.replace(model, thresholds=thresholds))
    if options.json:
        sys.stdout.write(json.dumps(msgspec.to_builtins(threshold)) + "\n")
    else:
        print(_sentence(threshold))
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Print the figures of a model on labelled prompts."""
    rows = _judge(options, _read(options.model))
    _tell(figures(rows, options.seed), as_json=options.json, title=f"{options.model}: {len(rows.gains)} prompts")
    return 0


def report(options: argparse.Namespace) -> int:
    """Write the plots and a page with them."""
    from headrace_cli.cascade.page import write_report  # noqa: PLC0415 (matplotlib is an extra)

    model = _read(options.model)
    rows = _judge(options, model)
    found = rounded(figures(rows, options.seed))
    options.out.mkdir(parents=True, exist_ok=True)
    written = write_report(options.out, model, rows, found)
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        print("\n".join(map(str, written)))
    return 0


def _judge(options: argparse.Namespace, model: DifficultyFile) -> Judged:
    table = tables.read(options.data, model.weak, model.strong)
    embeddings = _embed(options.encoder or model.encoder, table)
    size = len(model.predictor.open.embedding.scale.centre)
    if embeddings.shape[1] != size:
        raise UsageError(
            f"{options.encoder or model.encoder} gives vectors of {embeddings.shape[1]} numbers, the model expects "
            f"{size}; use the encoder it was trained with ({model.encoder})"
        )
    return judged(table, model.predictor.predict(table.prompts, embeddings))


def _embed(encoder: str, table: tables.Table) -> Floats:
    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("embedding prompts", total=None)

        def progress(done: int, total: int) -> None:
            shown.update(task, completed=done, total=total)

        return open_embeddings(encoder, progress).vectors(table.prompts, progress)


def _read(path: Path) -> DifficultyFile:
    try:
        return read_difficulty(path)
    except ModelFileError as error:
        raise UsageError(str(error)) from error


def _write(path: Path, model: DifficultyFile) -> None:
    try:
        write(path, model)
    except ModelFileError as error:
        raise UsageError(str(error)) from error


def _tell(found: Mapping[str, Any], *, as_json: bool, title: str) -> None:
    if as_json:
        sys.stdout.write(json.dumps(rounded(found)) + "\n")
        return
    print(title)
    for name, part in {"all": found, **found["files"]}.items():
        low, high = part["intervals"]["apgr"]
        print(f"\n{name}: {part['rows']} prompts")
        print(f"  APGR {part['apgr']:.3f} ({low:.3f} to {high:.3f}); length {part['length_apgr']:.3f}, random 0.500")
        print(f"  AUC {part['auc']:.3f}; prompt length {part['length_auc']:.3f}")
        for level, calls in part["calls_at"].items():
            low, high = part["intervals"]["calls_at"][level]
            print(
                f"  {float(level):4.0%} of the gap: {calls:5.1%} strong calls ({low:.1%} to {high:.1%}), "
                f"saving {part['saving_at'][level]:.2f}x; prompt length {part['length_calls_at'][level]:.1%}"
            )


def _sentence(threshold: Threshold) -> str:
    return (
        f"{threshold.target:.0%} of the gap: the strong tier is asked where it is expected to gain "
        f"{threshold.gain:.4f}, for {threshold.calls:.1%} of these {threshold.rows} prompts"
    )
