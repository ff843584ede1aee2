"""The ledger's thread: lines go in from the event loop, are written together, and their fate comes back to it.

While one transaction runs the next one gathers, so that a slow disk costs an answer one write, not a queue of them.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from headrace_router.cost.entry import Entry
from headrace_router.cost.store import Store, StoreError

logger = logging.getLogger(__name__)

RETRY_S = 0.5
"""Between two tries at a store that is away."""
MOST_LINES = 512
"""In one transaction."""
MOST_WAITING = 100_000
"""Lines kept while the store is away; beyond that new ones are dropped, with an error in the log."""
CLOSE_S = 5.0

Done = Callable[[bool | None], None]
"""Called in the event loop: whether the line was new; None where it is not written yet and may never be."""


class Ledger:
    """One router's way to its store.

    Args:
        store: belongs to the thread from `start` on.
        loop: where `done` is called.
    """

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self._lines: queue.SimpleQueue[tuple[Entry, Done] | None] = queue.SimpleQueue()
        self._ending = threading.Event()
        self.away = False
        """Whether the last try at writing failed."""
        self.written = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)

    def query(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Return rows; only before `start`, since the store belongs to the thread then."""
        assert not self._thread.is_alive()
        return self._store.query(statement, values)

    def start(self) -> None:
        """Let the thread have the store."""
        self._thread.start()

    def append(self, entry: Entry, done: Done) -> None:
        """Write a line soon; while the store is away `done` hears None at once, and the line is written later."""
        if self._lines.qsize() >= MOST_WAITING:
            self.dropped += 1
            logger.error("the ledger's store is away for too long: the costs of request %s are lost", entry.entry)
            done(None)
        elif self.away:
            self._lines.put((entry, _nobody))
            done(None)
        else:
            self._lines.put((entry, done))

    def close(self) -> None:
        """Write what is left and end; blocks for a moment at most."""
        self._ending.set()
        self._lines.put(None)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            logger.error("%d lines of the ledger could not be written before the end", self._lines.qsize())

    # --- on the thread --------------------------------------------------------------------------------------

    def _work(self) -> None:
        ended = False
        while not ended:
            batch = [self._lines.get()]
            while len(batch) < MOST_LINES and not self._lines.empty():
                batch.append(self._lines.get())
            lines = [line for line in batch if line is not None]
            ended = len(lines) < len(batch)
            if lines:
                self._write(lines)
        self._store.close()

    def _write(self, lines: list[tuple[Entry, Done]]) -> None:
        entries = [entry for entry, _ in lines]
        while True:
            try:
                new = self._store.append(entries)
            except StoreError as error:
                self._missed(lines, error)
                if self._ending.wait(RETRY_S):
                    logger.error("%d lines of the ledger are lost: %s", len(lines), error)  # noqa: TRY400 - a sentence
                    return
            else:
                break
        if self.away:
            logger.info("the ledger's store is back")
        self.away = False
        self.written += len(lines)
        self._tell([(done, fresh) for (_, done), fresh in zip(lines, new, strict=True)])

    def _missed(self, lines: list[tuple[Entry, Done]], error: StoreError) -> None:
        """The store is away: nobody waits for it any longer."""
        if not self.away:
            logger.error("%s; lines are kept until it is back", error)
        self.away = True
        self._tell([(done, None) for _, done in lines])
        lines[:] = [(entry, _nobody) for entry, _ in lines]

    def _tell(self, fates: list[tuple[Done, bool | None]]) -> None:
        try:
            self._loop.call_soon_threadsafe(_call, [fate for fate in fates if fate[0] is not _nobody])
        except RuntimeError:
            return  # the loop has ended: nobody is left to hear it


def _nobody(fate: bool | None) -> None:  # noqa: FBT001 - the shape of Done
    """Hear of a line that nobody waits for."""


def _call(fates: list[tuple[Done, bool | None]]) -> None:
    for done, fate in fates:
        try:
            done(fate)
        except Exception:
            logger.exception("settling a request failed")
