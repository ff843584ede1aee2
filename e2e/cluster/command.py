"""Calls of other programs: each with a deadline, its output in a log, its failure told as a sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from e2e.cluster.errors import CommandError, MissingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Progress = Callable[[str], None]
"""Takes one line for the person who waits."""

_TAIL_LINES = 15
_BEAT_S = 30.0


def capture(
    arguments: Sequence[str],
    *,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
    folder: Path | None = None,
) -> str:
    """Run a short command and return what it wrote to stdout.

    Raises:
        CommandError: It failed or took longer than `timeout_s`.
        MissingError: There is no such program.
    """
    try:
        done = subprocess.run(
            arguments,
            check=True,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=_merged(environment),
            input=stdin,
            cwd=folder,
        )
    except FileNotFoundError as error:
        raise MissingError(f"The program {arguments[0]!r} was not found; install it and try again.") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"`{' '.join(arguments)}` did not end within {timeout_s:.0f} s.") from error
    except subprocess.CalledProcessError as error:
        said = _last_lines(f"{error.stdout}\n{error.stderr}")
        raise CommandError(f"`{' '.join(arguments)}` ended with status {error.returncode}:\n{said}") from error
    return done.stdout


def labour(
    arguments: Sequence[str],
    *,
    log: Path,
    timeout_s: float,
    progress: Progress,
    what: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a long command at the lowest priority, its output appended to `log`, with a line of progress now and then.

    The lowest priority because builds take minutes and must not disturb what else is measured on the machine.

    Raises:
        CommandError: It failed or took longer than `timeout_s`; its whole process group is ended then.
        MissingError: There is no such program.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                ["nice", "-n", "19", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=_merged(environment),
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise MissingError(f"{error.filename!r} was not found; it is needed to run {arguments[0]!r}.") from error
    try:
        _wait(process, started, timeout_s, progress, what)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
    if process.returncode:
        said = _last_lines(log.read_text(errors="replace"))
        raise CommandError(f"{what}: `{arguments[0]}` ended with status {process.returncode}; all of {log}:\n{said}")


def _wait(process: subprocess.Popen[bytes], started: float, timeout_s: float, progress: Progress, what: str) -> None:
    while True:
        try:
            process.wait(_BEAT_S)
        except subprocess.TimeoutExpired:
            passed_s = time.monotonic() - started
            if passed_s > timeout_s:
                raise CommandError(f"{what} did not end within {timeout_s:.0f} s.") from None
            progress(f"  {what}: {passed_s:.0f} s")
        else:
            return


def _merged(environment: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(environment or {})}


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_TAIL_LINES:])
