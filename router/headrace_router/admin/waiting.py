"""`GET /waiting`: how many requests wait for a worker, told at once when the first one does.

What scales a model up from zero keeps one of these open, so that a request does not wait for the next round of its
metrics.
"""

import re
from collections.abc import Callable, Mapping

import msgspec

from headrace_router.errors import ClientError
from headrace_router.server.answer import JSON, Answer

MAX_SECONDS = 60.0
_NUMBER = re.compile(rb"[0-9]{1,6}(\.[0-9]{1,6})?")
_encode = msgspec.json.Encoder().encode

Count = Callable[[], Mapping[str, int]]
"""Returns how many requests wait now, for each known model."""


def parse_seconds(query: bytes) -> float:
    """Return how long a poll may wait, 0 where its query does not say; raise ClientError where it says nonsense."""
    seconds = 0.0
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name == b"seconds":
            if not _NUMBER.fullmatch(value):
                text = f"seconds is {value.decode('ascii', 'replace')!r}; expected a number from 0 to {MAX_SECONDS:g}."
                raise ClientError(text, param="seconds")
            seconds = float(value)
    return min(seconds, MAX_SECONDS)


class Polls:
    """The polls that are open."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._open: set[Poll] = set()

    def ask(self, answer: Answer, fields: bytes, *, now_s: float, seconds: float) -> "Poll | None":
        """Answer at once where a request waits, or no time is given; else when one begins to, or time is over."""
        poll = Poll(self, answer, fields, now_s + seconds)
        if seconds <= 0 or any(self._count().values()):
            self.tell(poll)
            return None
        self._open.add(poll)
        return poll

    def tell_all(self) -> None:
        """Answer all of them: a request waits, or the router ends."""
        for poll in list(self._open):
            self.tell(poll)

    def tell(self, poll: "Poll") -> None:
        """Answer one."""
        self._open.discard(poll)
        poll.answer.whole(200, JSON + poll.fields, _encode({"waiting": self._count()}))

    def discard(self, poll: "Poll") -> None:
        """Its client has left."""
        self._open.discard(poll)


class Poll:
    """One open poll."""

    def __init__(self, polls: Polls, answer: Answer, fields: bytes, until_s: float) -> None:
        self._polls = polls
        self._until_s = until_s
        self.answer = answer
        self.fields = fields

    def pause(self) -> None:
        """Nothing is on its way that could be paused."""

    def resume(self) -> None:
        """Likewise."""

    def cancel(self) -> None:
        """The client has left."""
        self._polls.discard(self)

    def sweep(self, now_s: float) -> None:
        """Answer when time is over."""
        if now_s >= self._until_s:
            self._polls.tell(self)
