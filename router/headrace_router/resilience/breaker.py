"""The breaker: leaves a worker that cannot be reached out of the choice for a short, growing time (pure)."""

import dataclasses

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0


@dataclasses.dataclass(slots=True)
class Breaker:
    """Closed lets requests through; each failure in a row opens it for twice as long as the one before."""

    failures: int = 0
    open_until_s: float = 0.0
    """On the caller's monotonic clock."""

    def closed(self, now_s: float) -> bool:
        """Return whether the worker may be chosen."""
        return now_s >= self.open_until_s

    def failed(self, now_s: float) -> None:
        """Note a failure; those that come in while it is open already (requests lost together) count as one."""
        if self.closed(now_s):
            self.failures += 1
            pause = FIRST_PAUSE_S * 2.0 ** min(self.failures - 1, 16)
            self.open_until_s = now_s + min(pause, LONGEST_PAUSE_S)

    def succeeded(self) -> None:
        """Note an answer: the worker is well."""
        self.failures = 0
        self.open_until_s = 0.0
