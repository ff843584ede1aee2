"""Runs the work on keys as the agenda says: the clock, the tasks and the log around a pure decision."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from headrace_operator.errors import OperatorError
from headrace_operator.kubernetes.agenda import Agenda, Lane
from headrace_operator.kubernetes.errors import ConflictError, NotLeadingError, TooManyError

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

ROOM: Final = {Lane.URGENT: 4, Lane.NORMAL: 4, Lane.LOW: 4, Lane.IDLE: 3}
"""More at once make the API server slower for all of them."""

_CONFLICT_S: Final = 1.0
"""Somebody else's write came first: another look shows it, and waiting longer shows no more."""


@dataclass(frozen=True, slots=True)
class Again:
    """There is more to do for a key, after this time and in this lane."""

    after_s: float = 0.0
    lane: Lane = Lane.NORMAL


Work = Callable[[K, Lane], Awaitable[Again | None]]


class WorkQueue(Generic[K]):
    """Keys that wait for their work, and the tasks that do it.

    Args:
        work: Does what there is to do for one key; what it raises is logged and tried again.
        deadline_s: for one piece of work.
    """

    def __init__(self, work: Work[K], *, deadline_s: float = 300.0) -> None:
        self._work = work
        self._deadline_s = deadline_s
        self._agenda: Agenda[K] = Agenda(ROOM)
        self._news = asyncio.Event()

    @property
    def depth(self) -> int:
        """Keys that wait."""
        return self._agenda.depth

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and nothing waits, not even for later."""
        return not self._agenda.depth and not self._agenda.running

    def add(self, key: K, lane: Lane = Lane.NORMAL, *, after_s: float = 0.0, fresh: bool = False) -> None:
        """Ask for work on a key; see `Agenda.add`."""
        self._agenda.add(key, self._now(), lane, after_s=after_s, fresh=fresh)
        self._news.set()

    def forget(self, key: K) -> None:
        """Drop whatever waits for a key."""
        self._agenda.forget(key)

    def failures(self, key: K) -> int:
        """Return how often in a row the work on a key has failed."""
        return self._agenda.failures(key)

    async def run(self) -> None:
        """Work until cancelled; then all work that runs is cancelled too, and what waits stays."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._news.clear()
                while (taken := self._agenda.take(self._now())) is not None:
                    tasks.create_task(self._do(*taken), name=f"work on {taken[0]}")
                await self._wait(self._agenda.due_in(self._now()))

    async def _wait(self, seconds: float | None) -> None:
        """Return when there is news, or when the next key is due."""
        handle = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._news.set)
        try:
            await self._news.wait()
        finally:
            if handle is not None:
                handle.cancel()

    async def _do(self, key: K, lane: Lane) -> None:
        """Do one piece of work; its failure is the key's own and never ends the queue."""
        again, failed = None, True
        pause: dict[str, float] = {}
        try:
            async with asyncio.timeout(self._deadline_s):
                again = await self._work(key, lane)
            failed = False
        except NotLeadingError as error:
            logger.info("%s is left as it is: %s", key, error)
        except TimeoutError:
            logger.warning("%s: the work did not end within %.0f s", key, self._deadline_s)
        except ConflictError as error:
            pause = {"at_most_s": _CONFLICT_S}
            logger.info("%s: %s", key, error)
        except OperatorError as error:
            if isinstance(error, TooManyError) and error.retry_after_s is not None:
                pause = {"at_least_s": error.retry_after_s}
            logger.warning("%s: %s", key, error)
        except Exception:
            logger.exception("%s: the work failed in a way that is a fault of the operator", key)
        finally:
            if failed:
                self._agenda.fail(key, self._now(), random.random(), **pause)  # noqa: S311 - spreads the load
            else:
                self._agenda.finish(key, self._now(), None if again is None else (again.after_s, again.lane))
            self._news.set()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
