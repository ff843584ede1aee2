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

from headrace_cli.cascade import answers as recorded
from headrace_cli.cascade import table as tables
from headrace_cli.cascade import thresholds
from headrace_cli.cascade.embedding import Floats, open_embeddings
from headrace_cli.cascade.figures import PREFIX, WHOLE, Judged, figures, judged, judged_answers, judged_by, rounded
from headrace_cli.errors import UsageError
from headrace_router.cascade import file as models
from headrace_router.cascade.curve import LEVELS
from headrace_router.cascade.errors import ModelFileError
from headrace_router.cascade.file import DifficultyFile, GateFile, Threshold, Training
from headrace_router.cascade.gate import Gate


def train(options: argparse.Namespace) -> int:
    """Fit, write the model, and print what to expect of it on prompts it has not seen."""
    gate = options.gate or all(path.suffix == ".jsonl" for path in options.data)
    return _train_gate(options) if gate else _train_difficulty(options)


def _train_difficulty(options: argparse.Namespace) -> int:
    from headrace_cli.cascade.training import fit, label  # noqa: PLC0415 (scikit-learn is an extra)

    table = tables.read(options.data, options.weak, options.strong)
    predictor, unseen = fit(label(table, _embed(options.encoder, table), options.seed))
    rows = {"difficulty": judged(table, unseen)}
    found = _figures(rows, options.seed)
    model = DifficultyFile(
        weak=table.weak,
        strong=table.strong,
        encoder=options.encoder,
        training=Training(len(table.rows), tuple(table.files), options.seed),
        predictor=predictor,
    )
    _write(options.out, thresholds.added(model, rows, LEVELS))
    _tell(found, as_json=options.json, title=f"{options.out}: on folds left out of the fit")
    return 0


def _train_gate(options: argparse.Namespace) -> int:
    from headrace_cli.cascade.fitting import fit  # noqa: PLC0415 (scikit-learn is an extra)

    answers = recorded.read(options.data, options.weak, options.strong)
    fitted = fit(answers, options.commit_tokens, options.seed)
    rows = {
        WHOLE: judged_answers(answers, fitted.unseen_whole),
        PREFIX: judged_answers(answers, fitted.unseen_prefix),
    }
    found = _figures(rows, options.seed)
    model = GateFile(
        weak=answers.weak,
        strong=answers.strong,
        commit_tokens=options.commit_tokens,
        training=Training(len(answers.rows), tuple(answers.files), options.seed),
        prefix=fitted.prefix,
        whole=fitted.whole,
    )
    _write(options.out, thresholds.added(model, rows, thresholds.TARGETS))
    _tell(found, as_json=options.json, title=f"{options.out}: on folds left out of the fit")
    return 0


def calibrate(options: argparse.Namespace) -> int:
    """Choose the threshold for a target and write it into the model."""
    model = _read(options.model)
    rows = _judge(options, model)
    _figures(rows, options.seed)  # refuses rows without a gap
    _write(options.out or options.model, thresholds.added(model, rows, [options.target]))
    chosen = {stage: thresholds.choose(one, options.target) for stage, one in rows.items()}
    first, *others = chosen
    if options.json:
        told = msgspec.to_builtins(chosen[first]) | {stage: msgspec.to_builtins(chosen[stage]) for stage in others}
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        for stage, threshold in chosen.items():
            print(f"{stage}: {_sentence(threshold)}" if others else _sentence(threshold))
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Print the figures of a model on labelled prompts or recorded answers."""
    rows = _judge(options, _read(options.model))
    found = _figures(rows, options.seed)
    _tell(found, as_json=options.json, title=f"{options.model}: {found['rows']} prompts")
    return 0


def report(options: argparse.Namespace) -> int:
    """Write the plots and a page with them."""
    from headrace_cli.cascade.page import write_report  # noqa: PLC0415 (matplotlib is an extra)

    model = _read(options.model)
    rows = _judge(options, model)
    found = rounded(_figures(rows, options.seed))
    options.out.mkdir(parents=True, exist_ok=True)
    written = write_report(options.out, model, {_legend(model, stage): one for stage, one in rows.items()}, found)
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        print("\n".join(map(str, written)))
    return 0


def _legend(model: DifficultyFile | GateFile, stage: str) -> str:
    if isinstance(model, DifficultyFile):
        return "difficulty model"
    return "gate on whole answers" if stage == WHOLE else f"gate on {model.commit_tokens} tokens"


def _judge(options: argparse.Namespace, model: DifficultyFile | GateFile) -> dict[str, Judged]:
    """Return the rows with the model's opinion, by stage; a gate's whole answers come first."""
    if isinstance(model, GateFile):
        return judged_by(Gate(model), recorded.read(options.data, model.weak, model.strong))
    table = tables.read(options.data, model.weak, model.strong)
    embeddings = _embed(options.encoder or model.encoder, table)
    size = len(model.predictor.open.embedding.scale.centre)
    if embeddings.shape[1] != size:
        raise UsageError(
            f"{options.encoder or model.encoder} gives vectors of {embeddings.shape[1]} numbers, the model expects "
            f"{size}; use the encoder it was trained with ({model.encoder})"
        )
    return {"difficulty": judged(table, model.predictor.predict(table.prompts, embeddings))}


def _figures(rows: Mapping[str, Judged], seed: int) -> dict[str, Any]:
    """Return the figures of the first stage and, by their names, those of the others without their files."""
    first, *others = rows
    found = figures(rows[first], seed)
    for stage in others:
        found[stage] = figures(rows[stage], seed)
        del found[stage]["files"]
    return found


def _embed(encoder: str, table: tables.Table) -> Floats:
    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("embedding prompts", total=None)

        def progress(done: int, total: int) -> None:
            shown.update(task, completed=done, total=total)

        return open_embeddings(encoder, progress).vectors(table.prompts, progress)


def _read(path: Path) -> DifficultyFile | GateFile:
    try:
        return models.read(path)
    except ModelFileError as error:
        raise UsageError(str(error)) from error


def _write(path: Path, model: DifficultyFile | GateFile) -> None:
    try:
        models.write(path, model)
    except ModelFileError as error:
        raise UsageError(str(error)) from error


def _tell(found: Mapping[str, Any], *, as_json: bool, title: str) -> None:
    if as_json:
        sys.stdout.write(json.dumps(rounded(found)) + "\n")
        return
    print(title)
    parts = {"all": found, **found["files"]} | ({"prefixes": found[PREFIX]} if PREFIX in found else {})
    for name, part in parts.items():
        _tell_part(name, part)


def _tell_part(name: str, part: Mapping[str, Any]) -> None:
    quality, (low, high) = part["quality"], part["intervals"]["apgr"]
    print(f"\n{name}: {part['rows']} prompts; right: weak {quality['weak']:.1%}, strong {quality['strong']:.1%}")
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
