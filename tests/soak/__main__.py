"""`python -m tests.soak [seconds=N] [seed=N] [summary=FILE]`: a soak on real processes, with progress and a verdict."""

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.soak.run import soak


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for."""

    seconds: float
    seed: int
    summary: Path


def main(arguments: Sequence[str]) -> int:
    """Run, print, write the summary, and return the exit status."""
    try:
        wishes = parse(arguments)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    verdict = soak(wishes.seed, wishes.seconds, tell)
    wishes.summary.parent.mkdir(parents=True, exist_ok=True)
    wishes.summary.write_text(json.dumps(verdict.summary(), indent=1) + "\n")
    tell(json.dumps(verdict.figures, indent=1))
    if not verdict.passed:
        tell(verdict.last)
        tell("\n".join(["", *verdict.faults, ""]))
    tell(f"{'passed' if verdict.passed else 'FAILED'} with seed {verdict.seed}; summary in {wishes.summary}")
    return 0 if verdict.passed else 1


def parse(arguments: Sequence[str]) -> Wishes:
    """Return the wishes.

    Raises:
        ValueError: a word means nothing.
    """
    given = {"seconds": "600", "seed": str(random.SystemRandom().randrange(1_000_000)), "summary": "build/soak.json"}
    for word in arguments:
        name, equals, value = word.partition("=")
        if name not in given or not equals or not value or (name != "summary" and not value.isdecimal()):
            raise ValueError(f"{word!r} means nothing here; write seconds=N, seed=N or summary=FILE.")
        given[name] = value
    return Wishes(float(given["seconds"]), int(given["seed"]), Path(given["summary"]))


def tell(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
