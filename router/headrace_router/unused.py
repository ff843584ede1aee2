"""Asks workers now and then how much of their GPUs' time no request used, and has it written down."""

import asyncio
import http.client
import logging
from collections.abc import Callable, Iterable

from headrace_router.cost.book import Book
from headrace_router.cost.unused import Told, portions, read_seconds
from headrace_router.discovery.worker import Worker

logger = logging.getLogger(__name__)

DEADLINE_S = 5.0
AT_ONCE = 8
LARGEST_BYTES = 4 * 1024 * 1024


class Surveyor:
    """One router's.

    Args:
        book: where lines go.
        workers: those that are listed now.
        portion_s: GPU-seconds of a line; also how often workers are asked, so that a line is late by twice that.
    """

    def __init__(self, book: Book, workers: Callable[[], Iterable[Worker]], portion_s: float) -> None:
        self._book = book
        self._workers = workers
        self._portion_s = portion_s
        self._told: dict[Worker, Told] = {}

    async def run(self) -> None:
        """Ask for ever; a worker that does not answer is asked again the next time."""
        while True:
            await asyncio.sleep(self._portion_s)
            listed = list(self._workers())
            self._told = {worker: self._told.get(worker, {}) for worker in listed}
            gate = asyncio.Semaphore(AT_ONCE)
            await asyncio.gather(*(self._ask(worker, gate) for worker in listed))

    async def _ask(self, worker: Worker, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                text = await asyncio.to_thread(fetch, worker)
                found = list(portions(read_seconds(text), self._told[worker], self._portion_s))
            except (OSError, http.client.HTTPException, ValueError) as error:
                logger.info("the metrics of %s cannot be read: %s", worker.url, error)
                return
        for portion in found:
            self._book.unused(portion, worker.deployment, worker.incarnation, worker.role)


def fetch(worker: Worker) -> str:
    """Return a worker's metrics page; blocks. Raise OSError or HTTPException where there is none."""
    connection = http.client.HTTPConnection(worker.host, worker.port, timeout=DEADLINE_S)
    try:
        connection.request("GET", f"{worker.path.decode()}/metrics", headers={"connection": "close"})
        answer = connection.getresponse()
        body = answer.read(LARGEST_BYTES)
    finally:
        connection.close()
    if answer.status != 200:
        raise OSError(f"status {answer.status}")
    return body.decode("utf-8", "replace")
