"""`python -m e2e [only=NAME] [repeat=N]`: the scenarios of the whole product on a cluster, or one file of them."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER: Final = Path(__file__).with_name("scenarios")


def main(arguments: Sequence[str]) -> int:
    """Run the scenarios and return the exit status; words that mean nothing are refused with a sentence."""
    parser = argparse.ArgumentParser(prog="python -m e2e", description="Scenarios of the whole product on a cluster.")
    parser.add_argument("words", nargs="*", metavar="only=NAME|repeat=N", help=f"names: {', '.join(scenarios())}")
    parser.add_argument("--stop", action="store_true", help="end at the first scenario that fails")
    options = parser.parse_args(arguments)
    try:
        name, rounds = wishes(options.words)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    target = FOLDER / f"test_{name}.py" if name else FOLDER
    flags = ["--capture=no", "--no-header", "-q", "--durations=0", *["-x"] * options.stop]
    for number in range(1, rounds + 1):
        started_s = time.monotonic()
        status = int(pytest.main([str(target), *flags]))
        of_many = f", round {number} of {rounds}" if rounds > 1 else ""
        print(f"{name or 'all scenarios'}{of_many}: {time.monotonic() - started_s:.0f} s in all", flush=True)
        if status:
            return status
    return 0


def wishes(words: Sequence[str]) -> tuple[str, int]:
    """Return the scenario asked for, empty for all, and the number of rounds.

    Raises:
        ValueError: A word means nothing, or there is no such scenario.
    """
    name, rounds = "", 1
    for word in words:
        wish, _, value = word.partition("=")
        if wish == "only" and value in scenarios():
            name = value
        elif wish == "repeat" and value.isdecimal() and int(value):
            rounds = int(value)
        elif wish == "only":
            raise ValueError(f"There is no scenario {value!r}; there are {', '.join(scenarios())}.")
        else:
            raise ValueError(f"{word!r} means nothing here; write only=NAME or repeat=N, with N at least 1.")
    return name, rounds


def scenarios() -> list[str]:
    """Return the names that `only` takes."""
    return sorted(path.stem.removeprefix("test_") for path in FOLDER.glob("test_*.py"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
