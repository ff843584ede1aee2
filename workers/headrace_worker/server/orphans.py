"""The duty of a container's first process: children whose parents have gone are its own, and stay until reaped."""

import asyncio
import os
from collections.abc import Callable
from typing import Final

_EVERY_S: Final = 5.0


async def adopt(own: Callable[[], int | None]) -> None:
    """Reap orphans until cancelled, where this process is the first one; return at once elsewhere.

    Args:
        own: the child whose end somebody else waits for; None while it is not known, and nothing is reaped then.
    """
    if os.getpid() != 1:
        return
    while True:
        await asyncio.sleep(_EVERY_S)
        if (child := own()) is not None:
            reap(child)


def reap(own: int) -> None:
    """Collect every child that has ended, except `own`."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid == own:
            return  # others that have ended too come to the front once this one was collected
        os.waitpid(ended.si_pid, 0)
