"""How fast one request's tokens come, as its client sees it."""

import time
from collections.abc import Callable, Sequence

from headrace_worker.messages import Output
from headrace_worker.server.metrics import Metrics


class Pace:
    """Notes the first token's time at once and the mean between tokens at the end.

    Args:
        metrics: where the times go.
        arrived_s: when the request came, on `clock`.
        clock: monotonic seconds.
    """

    def __init__(self, metrics: Metrics, arrived_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._arrived_s = arrived_s
        self._clock = clock
        self._first_s: float | None = None
        self._last_s = arrived_s
        self._tokens: dict[int, int] = {}

    def outputs(self, outputs: Sequence[Output]) -> None:
        """Note that these have come now."""
        self._last_s = self._clock()
        if self._first_s is None:
            self._first_s = self._last_s
            self._metrics.first_token(self._first_s - self._arrived_s)
        for output in outputs:
            self._tokens[output.choice] = self._tokens.get(output.choice, 0) + len(output.tokens)

    def end(self) -> None:
        """Note the mean time between tokens; choices run side by side, so the longest one counts."""
        steps = max(self._tokens.values(), default=0) - 1
        if self._first_s is not None and steps > 0:
            self._metrics.pace((self._last_s - self._first_s) / steps)
