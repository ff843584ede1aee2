"""Making a resource's objects: urgent ones first, and one that is refused keeps none of the others from being made."""

from collections.abc import Sequence
from typing import Final

from headrace_operator.errors import OperatorError
from headrace_operator.kubernetes.apply import Applier, Wanted
from headrace_operator.kubernetes.cache import Cache, Key
from headrace_operator.kubernetes.errors import ForeignError, RefusedError, TerminatingError
from headrace_operator.kubernetes.kinds import Kind
from headrace_operator.kubernetes.memory import Memory, Refusal, Rendered
from headrace_operator.kubernetes.objects import Item
from headrace_operator.kubernetes.prune import unwanted
from headrace_operator.kubernetes.retry import backoff_s
from headrace_operator.kubernetes.session import Session

_FIRST_S: Final = 2.0
_MOST_S: Final = 120.0
_JITTER: Final = 0.5


class Maker:
    """Makes the objects of one resource in one turn.

    Args:
        session: to the API server.
        applier: see there.
        memory: of the resource.
        now: the time.
    """

    def __init__(self, session: Session, applier: Applier, memory: Memory, now: float) -> None:
        self._session = session
        self._applier = applier
        self._memory = memory
        self._now = now

    def is_settled(self, child: Rendered) -> bool:
        """Return whether there is nothing to do for an object now."""
        if self._is_resting(child.wanted):
            return True
        return self._applier.is_there(child.wanted) if child.once else self._applier.is_fresh(child.wanted)

    async def make(self, child: Rendered) -> None:
        """Make one object as it should be; a refusal is kept for the status and for a later try."""
        if self.is_settled(child):
            return
        place, known = child.wanted.place, self._memory.refused.get(child.wanted.place)
        try:
            await (self._applier.create if child.once else self._applier.ensure)(child.wanted, self._memory.uid)
        except TerminatingError:
            raise
        except (RefusedError, ForeignError) as error:
            times = known.times + 1 if known is not None and known.digest == child.wanted.digest else 1
            pause_s = backoff_s(times, _FIRST_S, _MOST_S, _JITTER)
            self._memory.refused[place] = Refusal(child.wanted.digest, error, self._now + pause_s, times)
        else:
            self._memory.refused.pop(place, None)

    async def is_orphaned(self, kind: Kind[Item], key: Key, children: Sequence[Rendered]) -> bool:
        """Return whether the resource has gone, which is looked up where an object of its has vanished.

        Its deletion takes them all away, and the news of it may be late or lost: without this they would be made again,
        and removed again.
        """
        if not any(self._applier.is_lost(child.wanted) for child in children):
            return False
        return await self._session.find(kind, key.namespace, key.name) != self._memory.uid

    def problems(self, children: Sequence[Rendered]) -> list[OperatorError]:
        """Return why objects that are wanted still could not be made; forget about those that are not."""
        places = {child.wanted.place for child in children}
        self._memory.refused = {place: one for place, one in self._memory.refused.items() if place in places}
        return [refusal.error for refusal in self._memory.refused.values()]

    async def prune(self, key: Key, cache: Cache, children: Sequence[Rendered]) -> None:
        """Remove what nobody wants any more, once everything that is wanted is there."""
        if self.problems(children):
            return
        wanted = {child.wanted.place for child in children}
        keda = self._memory.site is not None and self._memory.site.keda
        for kind, item in list(unwanted(key, self._memory.uid, cache, wanted, keda=keda)):
            await self._applier.delete(kind, item)

    def again_s(self) -> float | None:
        """Return after how long a refused object is tried again."""
        ends = [refusal.until for refusal in self._memory.refused.values()]
        return max(0.0, min(ends) - self._now) if ends else None

    def _is_resting(self, wanted: Wanted) -> bool:
        refusal = self._memory.refused.get(wanted.place)
        return refusal is not None and refusal.digest == wanted.digest and self._now < refusal.until
