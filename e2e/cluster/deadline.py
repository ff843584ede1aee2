"""Waiting for something that another process does: by looking often, never longer than agreed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from e2e.cluster.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_S: Final = 0.1


def wait_until(condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    """Wait until `condition` holds.

    Raises:
        StartError: It does not hold after `timeout_s`; `what` is told as the thing that was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise StartError(f"{what} after {timeout_s:.0f} s.")
        time.sleep(_POLL_S)
