"""Writing statuses: on change only, and small changes together."""

from collections.abc import Mapping
from typing import Any, Final

from headrace_operator.kubernetes import report
from headrace_operator.kubernetes.cache import Cache, Key
from headrace_operator.kubernetes.errors import NotFoundError
from headrace_operator.kubernetes.events import Events, Note
from headrace_operator.kubernetes.kinds import CHILDREN, Kind
from headrace_operator.kubernetes.memory import Memory, Written
from headrace_operator.kubernetes.session import Session

EVERY_S: Final = 2.0
"""Numbers and messages are written this often at most; a condition that turns is written at once."""
FIRST_S: Final = 1.0
"""The first status of a resource waits this long for what it tells to be there."""


async def write(
    session: Session,
    cache: Cache,
    kind: Kind[Any],
    place: tuple[str, str],
    status: Mapping[str, Any],
    *,
    before: Written,
    now: float,
) -> tuple[Written, float | None]:
    """Write a status where it differs; return what is written now, and after how long the rest is due (None: never).

    Args:
        session: to the API server.
        cache: learns of what is written to an object that it holds.
        kind: of the object.
        place: namespace and name of the object.
        status: as it should be.
        before: as it is.
        now: the time.
    """
    if _lean(status) == _lean(before.status):
        return before, None
    waited_s = now - before.at
    if not report.is_urgent(before.status, status) and waited_s < EVERY_S:
        return before, EVERY_S - waited_s
    try:
        answer = await session.merge(kind, *place, {"status": status}, subresource="status")
    except NotFoundError:
        return before, None
    if kind in CHILDREN:
        cache.learn(kind, answer)
    return Written(status, now), None


async def note(events: Events, key: Key, memory: Memory, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Post an event where Ready has turned, or stays away for another reason than it did."""
    was, now = report.condition_of(before, "Ready"), report.condition_of(after, "Ready")
    if now.get("status") == "True":
        if was.get("status") != "True":
            memory.noted = ""
            await events.post(key, memory.uid, Note("Normal", "Ready", "Serving", "everything is as asked"))
        return
    lost = was.get("status") == "True"
    stuck = now.get("reason") in {"Impossible", "WorkerFailing", "TrialFailed"} and now["reason"] != memory.noted
    if lost or stuck:
        memory.noted = now["reason"]
        await events.post(key, memory.uid, Note("Warning", now["reason"], "Reconciling", now["message"]))


def _lean(status: Mapping[str, Any]) -> Any:
    """Return a status without what an API server leaves out, and without times, which are never news by themselves."""
    if isinstance(status, Mapping):
        return {
            name: _lean(value) for name, value in status.items() if value is not None and name != "lastTransitionTime"
        }
    if isinstance(status, (list, tuple)):
        return [_lean(value) for value in status]
    return status
