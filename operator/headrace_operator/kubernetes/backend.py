"""The Kubernetes backend: gives each resource its turn, and keeps what is remembered between turns."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from headrace_api.resources import LLMDeployment, LLMRouter
from headrace_operator.kubernetes import report, vouch
from headrace_operator.kubernetes.agenda import Lane
from headrace_operator.kubernetes.cache import Key
from headrace_operator.kubernetes.errors import TerminatingError
from headrace_operator.kubernetes.front import FrontTurn
from headrace_operator.kubernetes.kinds import PODS, Kind
from headrace_operator.kubernetes.memory import Memory
from headrace_operator.kubernetes.objects import Item
from headrace_operator.kubernetes.pods import worker_of
from headrace_operator.kubernetes.queue import Again
from headrace_operator.kubernetes.relevance import lane_of
from headrace_operator.kubernetes.tools import Tools
from headrace_operator.kubernetes.turn import Turn

logger = logging.getLogger(__name__)

_QUIET_S: Final = 10.0
"""A namespace that is being deleted takes one object after another: none of them is news worth a call."""
R = TypeVar("R", LLMDeployment, LLMRouter)


class Backend:
    """Works on LLMDeployments and LLMRouters, one turn at a time for each.

    Args:
        tools: what all turns share.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._memories: dict[Key, Memory] = {}

    async def work(self, key: Key, lane: Lane) -> Again | None:
        """Give a resource its turn; return when there is more to do."""
        body = self._tools.resources.get(key)
        if body is None:
            self._forget(key)
            return None
        if body["metadata"].get("deletionTimestamp"):
            # Its objects go with it, by the garbage collector; what was made now would only have to go again.
            return None
        try:
            return await self._turn(key, body, lane)
        except TerminatingError as error:
            logger.info("%s is left as it is: %s", key, error)
            self._memory(key, body).quiet_until = _now() + _QUIET_S
            return None

    def changed(self, key: Key, kind: Kind[Any], old: Item | None, new: Item | None) -> Lane | None:
        """Take note of an object that has changed; return how urgent a turn is by that, None: it needs none."""
        if old is None and new is not None and self._tools.applier.is_making(kind, new):
            return None  # a watch is often faster than the answer, and the turn that makes it is still on
        if (uid := vouch.ended_prefill(old, new)) is not None and (memory := self._memories.get(key)) is not None:
            workers = (worker_of(pod) for pod in self._tools.cache.of(PODS, key))
            memory.ended.setdefault(uid, vouch.listeners(worker for worker in workers if worker is not None))
            return Lane.URGENT
        lane, memory = lane_of(old, new), self._memories.get(key)
        return lane if lane is None or memory is None else memory.lane(lane)

    async def _turn(self, key: Key, body: Mapping[str, Any], lane: Lane) -> Again | None:
        memory = self._memory(key, body)
        if (wait_s := memory.quiet_until - _now()) > 0:
            return Again(wait_s, Lane.IDLE)
        try:
            if key.kind == "LLMRouter":
                return await FrontTurn(self._tools, key, memory, _parsed(memory, body, LLMRouter)).take()
            return await Turn(self._tools, key, memory, _parsed(memory, body, LLMDeployment), lane).take()
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            logger.error(  # noqa: TRY400 - the place in the code says nothing to a reader
                "%s is left as it is: %s: %s. The API server took it, so the CustomResourceDefinitions are of another "
                "version than this operator; install those of its own version.",
                key,
                where,
                first["msg"],
            )
            return None

    def _memory(self, key: Key, body: Mapping[str, Any]) -> Memory:
        """Return what is remembered of a resource; another one of the same name starts anew."""
        uid = body["metadata"]["uid"]
        if (memory := self._memories.get(key)) is not None and memory.uid != uid:
            self._forget(key)
        if key not in self._memories:
            told = report.condition_of(body.get("status") or {}, "KVTransferVerified")
            self._memories[key] = Memory(uid=uid, has_served=told.get("status") == "True")
        return self._memories[key]

    def _forget(self, key: Key) -> None:
        memory = self._memories.pop(key, None)
        if memory is not None:
            self._tools.applier.forget(one.wanted.place for one in memory.rendered)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _parsed(memory: Memory, body: Mapping[str, Any], kind: type[R]) -> R:
    """Return the resource, parsed once for each generation."""
    generation = body["metadata"].get("generation")
    if not isinstance(memory.resource, kind) or memory.generation != generation:
        # The status is the operator's own, and that of an older version may look otherwise.
        memory.resource = kind.model_validate({**body, "status": None})
        memory.generation, memory.pools = generation, ()
    assert isinstance(memory.resource, kind)
    return memory.resource
