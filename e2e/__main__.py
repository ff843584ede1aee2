"""`python -m e2e [only=NAME]`: the scenarios of the whole product on a cluster, or one file of them."""

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
    """Run the scenarios and return the exit status; what pytest does not know is refused with a sentence."""
    parser = argparse.ArgumentParser(prog="python -m e2e", description="Scenarios of the whole product on a cluster.")
    parser.add_argument("only", nargs="?", default="", metavar="only=NAME", help=", ".join(scenarios()))
    parser.add_argument("--stop", action="store_true", help="end at the first scenario that fails")
    options = parser.parse_args(arguments)
    name = options.only.removeprefix("only=")
    if name and name not in scenarios():
        sys.stderr.write(f"There is no scenario {name!r}; there are {', '.join(scenarios())}.\n")
        return 2
    started_s = time.monotonic()
    target = FOLDER / f"test_{name}.py" if name else FOLDER
    status = pytest.main([str(target), "--capture=no", "--no-header", "-q", "--durations=0", *["-x"] * options.stop])
    print(f"{name or 'all scenarios'}: {time.monotonic() - started_s:.0f} s in all", flush=True)
    return int(status)


def scenarios() -> list[str]:
    """Return the names that `only` takes."""
    return sorted(path.stem.removeprefix("test_") for path in FOLDER.glob("test_*.py"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
