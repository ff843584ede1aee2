"""Compile the processor kernels ahead of time: `python -m headrace_worker.kernels FOLDER`, for images."""

import sys
from pathlib import Path

from headrace_worker.errors import WorkerError
from headrace_worker.kernels import build


def main() -> int:
    """Write one library for each level of this architecture into a folder; return the exit status."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.stderr.write("usage: python -m headrace_worker.kernels FOLDER\n")
        return 2
    try:
        build.ahead(Path(sys.argv[1]))
    except WorkerError as error:
        sys.stderr.write(f"headrace-worker: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
