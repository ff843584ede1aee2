"""Pages of the manual, run as they stand."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_FENCE: Final = "```"
_LEFT_OUT: Final = "<!-- not run:"
_GRACE_S: Final = 10.0


def commands(page: str) -> list[str]:
    """Return the shell commands of a page, one text for each block, without those marked `<!-- not run: why -->`."""
    blocks: list[str] = []
    lines: list[str] | None = None
    last = ""
    for line in page.splitlines():
        if lines is not None and line == _FENCE:
            blocks.append("\n".join(lines))
            lines = None
        elif lines is not None:
            lines.append(line)
        elif line == f"{_FENCE}sh" and not last.startswith(_LEFT_OUT):
            lines = []
        last = line or last
    return blocks


def run(blocks: list[str], *, folder: Path, environment: Mapping[str, str], timeout_s: float) -> str:
    """Run blocks one after the other in one shell that ends at the first failure, and return all that they wrote.

    Raises:
        AssertionError: A command failed or the page took longer than `timeout_s`; what was written is told.
    """
    with TemporaryFile("w+") as output:
        process = subprocess.Popen(
            ["bash", "-euxo", "pipefail", "-c", "\n".join(blocks)],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
        output.seek(0)
        written = output.read()
    assert status is not None, f"the page took longer than {timeout_s:.0f} s:\n{written}"
    assert status == 0, f"a command of the page ended with status {status}:\n{written}"
    return written


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the shell and whatever it left in the background."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_GRACE_S)
