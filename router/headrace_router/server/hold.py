"""Requests that wait for a worker, by model, in order of arrival: a pool that scales from zero takes its time."""

from collections.abc import Callable
from typing import Protocol


class Held(Protocol):
    """A request that waits."""

    def wake(self, now_s: float) -> None:
        """Look for a worker again; leave the queue when there is one, or when the wait was too long."""


class Hold:
    """The queues of all models; a model without waiting requests has none.

    Args:
        limit: most requests of one model that nothing was done for yet; answers that were cut off by the death of
            their worker wait beyond it, since clients have begun to read them.
        arrived: called when a request begins to wait while none did before.
    """

    def __init__(self, limit: int, arrived: Callable[[], None]) -> None:
        self._limit = limit
        self._arrived = arrived
        self._queues: dict[str, dict[Held, None]] = {}

    def add(self, model: str, held: Held, *, bounded: bool) -> bool:
        """Queue a request; False when there is no room for it."""
        queue = self._queues.get(model)
        if bounded and (0 if queue is None else len(queue)) >= self._limit:
            return False
        first = not self._queues
        self._queues.setdefault(model, {})[held] = None
        if first:
            self._arrived()
        return True

    def discard(self, model: str, held: Held) -> None:
        """Take a request out, if it waits."""
        queue = self._queues.get(model)
        if queue is not None:
            queue.pop(held, None)
            if not queue:
                del self._queues[model]

    def waits(self, model: str) -> bool:
        """Whether any request of the model waits."""
        return model in self._queues

    def wake(self, model: str, now_s: float) -> None:
        """Let the model's requests look for a worker, the oldest first."""
        queue = self._queues.get(model, {})
        for held in list(queue):
            if held in queue:  # what one of them sets off may wake the others
                held.wake(now_s)

    def wake_all(self, now_s: float) -> None:
        """Let all of them look."""
        for model in list(self._queues):
            self.wake(model, now_s)

    def counts(self) -> dict[str, int]:
        """Return how many requests wait, by model, for models where any does."""
        return {model: len(queue) for model, queue in self._queues.items()}
