"""Which calls are worth another try at once, and after which pause: pure decisions."""

from typing import Final

from headrace_operator.kubernetes.errors import ClusterError, TooManyError, UnauthorizedError, UnavailableError

ATTEMPTS: Final = 4
"""Calls made for one request at most; what fails then goes back to the queue, which waits longer."""
_FIRST_S: Final = 0.1
_MOST_S: Final = 2.0
_LONGEST_ASKED_S: Final = 5.0
"""A server that asks for more than this is left to the queue, so that nobody waits here."""


def pause_s(error: ClusterError, attempt: int, jitter: float) -> float | None:
    """Return how long to wait before an idempotent call is made again; None where the caller should hear of it.

    Args:
        error: what came of the call.
        attempt: its number, from 1.
        jitter: from [0, 1): many operators and workers must not return together.
    """
    if attempt >= ATTEMPTS:
        return None
    if isinstance(error, UnauthorizedError):
        return 0.0 if attempt == 1 else None
    if not isinstance(error, UnavailableError):
        return None
    asked = error.retry_after_s if isinstance(error, TooManyError) else None
    if asked is not None:
        return None if asked > _LONGEST_ASKED_S else asked * (1 + jitter / 4)
    return backoff_s(attempt, _FIRST_S, _MOST_S, jitter)


def backoff_s(failures: int, first_s: float, most_s: float, jitter: float) -> float:
    """Return the pause after that many failures in a row (at least 1): doubling, bounded, and half of it by chance."""
    if failures < 1:
        raise ValueError(f"a pause follows at least one failure, not {failures}")
    full = min(most_s, first_s * float(2 ** min(failures - 1, 63)))
    return full * (1 + jitter) / 2
