"""Judges difficulty models on prompts that their training did not see: `python -m benchmarks.cascade.difficulty FILE…`.

The files are those of `headrace cascade train`. One with subjects is parted by subject, another one by prompt. Each
half trains a model by `headrace cascade train`, and `headrace cascade evaluate` judges it on the other half.
"""

import argparse
import contextlib
import csv
import io
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from headrace_cli.main import main as headrace

csv.field_size_limit(1 << 24)
SEED = 7
LEVELS = ("0.5", "0.8", "0.95")


def halves(paths: Sequence[Path], folder: Path, seed: int) -> tuple[list[Path], list[Path]]:
    """Write both halves of each file into a folder; return their paths."""
    generator = random.Random(seed)
    found: tuple[list[Path], list[Path]] = ([], [])
    for path in paths:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for half, part in zip(found, _parted(rows, generator), strict=True):
            half.append(_written(folder / f"{'ab'[half is found[1]]}-{path.name}", part))
    return found


def _parted(rows: list[dict[str, str]], generator: random.Random) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    if "subject" not in rows[0]:
        generator.shuffle(rows)
        return rows[: len(rows) // 2], rows[len(rows) // 2 :]
    subjects = sorted({row["subject"] for row in rows})
    generator.shuffle(subjects)
    first = set(subjects[: len(subjects) // 2])
    return [row for row in rows if row["subject"] in first], [row for row in rows if row["subject"] not in first]


def _written(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def judged(paths: Sequence[Path], seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield, for either half, which one trained and the figures on the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = dict(zip("AB", halves(paths, folder, seed), strict=True))
        for trained, asked in ("AB", "BA"):
            model = folder / f"{trained}.json"
            told(["cascade", "train", *map(str, parts[trained]), "--out", str(model)])
            yield trained, told(["cascade", "evaluate", *map(str, parts[asked]), "--model", str(model)])


def told(command: Sequence[str]) -> dict[str, Any]:
    """Return what a command of ours tells as JSON."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = headrace([*command, "--json"])
    if status:
        raise SystemExit(f"`headrace {' '.join(command[:2])}` failed; see above")
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def line(name: str, part: dict[str, Any]) -> str:
    """Return the figures of one set in a line."""
    bought = (
        f"{float(level):.0%} of the gap {part['calls_at'][level]:.1%} {part['saving_at'][level]:.2f}x"
        for level in LEVELS
    )
    ahead = part["intervals"]["apgr_above_length"]
    return (
        f"{name}: {part['rows']} prompts, APGR {_with_interval(part['apgr'], part['intervals']['apgr'])}, prompt "
        f"length {part['length_apgr']:.3f}, ahead by {_with_interval(part['apgr_above_length'], ahead)}; "
        + ", ".join(bought)
    )


def _with_interval(value: float, interval: Sequence[float]) -> str:
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def summary(parts: Sequence[dict[str, Any]]) -> str:
    """Return over how many halves the lower bounds hold."""
    apgr, length = ([part[key] for part in parts] for key in ("apgr", "length_apgr"))
    lower = [part["intervals"]["apgr"][0] for part in parts]
    ahead = [part["intervals"]["apgr_above_length"][0] for part in parts]
    return (
        f"{len(parts)} halves: APGR {sum(apgr) / len(parts):.3f} on average, {min(apgr):.3f} to {max(apgr):.3f}; "
        f"prompt length {sum(length) / len(parts):.3f}; "
        f"of the lower bounds {sum(low > 0.5 for low in lower)} are above 0.5, "
        f"{sum(low > one for low, one in zip(lower, length, strict=True))} above prompt length's APGR, and "
        f"{sum(low > 0 for low in ahead)} of those of the lead over it above 0"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures of each half, and in how many of them the lower bounds hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="CSV files of labelled prompts")
    parser.add_argument("--seed", type=int, default=SEED, help="of the first halving (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=1, help="halvings, each by the next seed (default: %(default)s)")
    given = parser.parse_args(arguments)
    pooled = []
    for seed in range(given.seed, given.seed + given.repeat):
        for trained, found in judged(given.files, seed):
            pooled.append(found)
            for name, part in {"all": found, **found["files"]}.items():
                print(line(f"seed {seed}, trained on {trained}, {name}", part), flush=True)
    print(summary(pooled))
    return 0


if __name__ == "__main__":
    sys.exit(main())
