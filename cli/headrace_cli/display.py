"""What `headrace up` shows: lines for what happened, and bars for what takes its time where there is a terminal."""

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from headrace_operator.local.events import (
    BecameReady,
    BecameUnready,
    Drained,
    Ended,
    Event,
    HandoffFailed,
    HandoffVerified,
    Started,
)
from headrace_operator.observed import Observed, Phase

CRASHES_SHOWN = 3
"""From this many ends in a row on, the last lines of the log are shown."""
_STEP = 0.25
"""Without a terminal a download is told in quarters."""


class Display:
    """Prints to standard output; use as a context, which takes the bars away at its end."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, markup=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._loading: dict[str, TaskID] = {}
        self.starting = True
        """Until all was ready once: a child that ends again and again then ends the whole, which shows its log."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._bars.stop()

    def line(self, text: str) -> None:
        """Print a line; a terminal or a reader that has gone does not stop the service."""
        with contextlib.suppress(OSError):
            self._console.print(text)

    @contextlib.contextmanager
    def download(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Give a function of (done, total) bytes that shows how far a download is."""
        task = self._add(f"fetching {what}")
        told = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal told
            self._bars.update(task, completed=done, total=total or None)
            if not self._console.is_terminal and total and done / total >= told + _STEP:
                told = done / total // _STEP * _STEP
                self.line(f"fetching {what}: {done / total:.0%} of {total / 2**20:.1f} MiB")

        try:
            yield progress
        finally:
            self._remove(task)

    def observe(self, observed: Observed) -> None:
        """Show how far the starting workers are."""
        for worker in observed.workers:
            progress = worker.progress
            if worker.phase is Phase.STARTING and progress is not None and progress.total_bytes:
                if worker.name not in self._loading:
                    self._loading[worker.name] = self._add(worker.name)
                self._bars.update(
                    self._loading[worker.name],
                    description=f"{worker.name} {progress.stage}",
                    completed=progress.done_bytes,
                    total=progress.total_bytes,
                )
            elif (task := self._loading.pop(worker.name, None)) is not None:
                self._remove(task)

    def event(self, event: Event) -> None:
        """Print what happened."""
        for text in sentences(event, crashes=not self.starting):
            self.line(text)

    def _add(self, description: str) -> TaskID:
        """Show a bar; drawing runs only while there is one, since a service stays for weeks."""
        if not self._bars.tasks:
            self._bars.start()
        return self._bars.add_task(description, total=None)

    def _remove(self, task: TaskID) -> None:
        self._bars.remove_task(task)
        if not self._bars.tasks:
            with contextlib.suppress(OSError):
                self._bars.stop()


def sentences(event: Event, *, crashes: bool = True) -> Iterator[str]:
    """Yield the lines that tell an event, and for a crash loop the end of the log where `crashes` asks for it."""
    match event:
        case Started(name, pid, restart):
            yield f"{name}: {'starting again' if restart else 'starting'} (process {pid})"
        case BecameReady(name, after_s):
            yield f"{name}: ready after {after_s:.1f} s"
        case BecameUnready(name, reason):
            yield f"{name}: gets no requests, {reason}"
        case Drained(name, overdue):
            yield f"{name}: {'killed, its drain took too long' if overdue else 'ended'}"
        case HandoffVerified(prefill, decode, size_bytes, took_s):
            yield f"hand-off {prefill} → {decode}: verified, {size_bytes / 2**20:.2f} MiB in {took_s * 1000:.0f} ms"
        case HandoffFailed(prefill, decode, reason):
            yield f"hand-off {prefill} → {decode}: failed, {reason}; trying again"
        case Ended(name, reason, pause_s, failures, lines):
            yield f"{name}: {reason}; starting again in {pause_s:g} s"
            if crashes and failures >= CRASHES_SHOWN:
                yield f"{name}: has ended {failures} times in a row; the last lines of its log:"
                yield from (f"  {line}" for line in lines)
