"""Trials of hand-offs in the background: a real request through two workers, before they get traffic."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from headrace_operator.actions import Verify
from headrace_operator.desired import Template
from headrace_operator.errors import ProbeError
from headrace_operator.http.probe import Handoff
from headrace_operator.kubernetes.agenda import Lane
from headrace_operator.kubernetes.cache import Key
from headrace_operator.kubernetes.memory import Memory
from headrace_operator.kubernetes.retry import backoff_s
from headrace_operator.observed import Worker

logger = logging.getLogger(__name__)

Probe = Callable[[Worker, Worker, Template], Awaitable[Handoff]]
"""Tries a hand-off from a prefill to a decode worker; raises ProbeError where it does not work."""

_FIRST_REST_S: Final = 1.0
_MOST_REST_S: Final = 60.0
_AT_ONCE: Final = 16


class Trials:
    """Runs trials; their outcome goes to the resource's memory, and asks for a turn.

    Args:
        probe: see there.
        add: asks for a turn of a resource.
    """

    def __init__(self, probe: Probe, add: Callable[[Key, Lane], None]) -> None:
        self._probe = probe
        self._add = add
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(_AT_ONCE)

    def begin(self, key: Key, memory: Memory, action: Verify, sides: tuple[Worker, Worker], template: Template) -> None:
        """Try a hand-off between `sides`, the prefill worker first."""
        memory.probing.add(action.pair)
        task = asyncio.create_task(self._try(key, memory, action, sides, template), name=f"trial for {key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all trials and wait until they have."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _try(
        self, key: Key, memory: Memory, action: Verify, sides: tuple[Worker, Worker], template: Template
    ) -> None:
        pair = action.pair
        try:
            async with self._room:
                handoff = await self._probe(*sides, template)
        except ProbeError as error:
            memory.failed[pair] += 1
            rest_s = backoff_s(memory.failed[pair], _FIRST_REST_S, _MOST_REST_S, random.random())  # noqa: S311
            memory.resting[pair] = asyncio.get_running_loop().time() + rest_s
            memory.reasons[pair.prefill] = memory.reasons[pair.decode] = str(error)
            logger.warning("%s: the trial %s → %s failed: %s", key, action.prefill, action.decode, error)
        except Exception:
            memory.resting[pair] = asyncio.get_running_loop().time() + _MOST_REST_S
            logger.exception("%s: the trial of a hand-off failed in a way that is a fault of the operator", key)
        else:
            memory.verified |= {pair.prefill, pair.decode}
            memory.failed.pop(pair, None)
            for side in (pair.prefill, pair.decode):
                memory.reasons.pop(side, None)
            logger.info("%s: %s handed %d bytes to %s", key, action.prefill, handoff.size_bytes, action.decode)
        finally:
            memory.probing.discard(pair)
            self._add(key, memory.lane(Lane.URGENT))
