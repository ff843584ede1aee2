"""One tier's part in a request: what it answers is kept until it is chosen."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import msgspec

from headrace_api.frames import FrameHead
from headrace_router.cascade.evidence import Evidence
from headrace_router.cost.account import Account
from headrace_router.cost.bill import Bill, Footer
from headrace_router.cost.entry import Judged
from headrace_router.cost.meter import Meter
from headrace_router.errors import ClientError
from headrace_router.openai.said import said
from headrace_router.server.answer import Answer
from headrace_router.server.call import Call
from headrace_router.server.exchange import Exchange, Hub

_TOO_LONG = b'"context_length_exceeded"'
_PASSING = (402, 408, 429)
"""Refusals that say nothing about what another tier would answer."""


class Step(msgspec.Struct, frozen=True):
    """A tier that a request may go to."""

    tier: str
    open: Callable[[int], tuple[Call, Account | None]]
    """Return the request as it goes there for the sample of a number, and its account; raise ClientError where there is
    no going."""


class Owner(Protocol):
    """The request that the legs are of."""

    answer: Answer
    """To the client."""
    prompt_bytes: int
    """Size of the prompt's text."""
    reads: bool
    """Whether the text of answers is asked for."""

    def began(self, leg: "Leg") -> None:
        """A leg's first token has come."""

    def review(self) -> None:
        """More is known of a leg that is not chosen."""

    def ending(self, leg: "Leg") -> None:
        """The chosen leg's answer is complete, but for its end, which waits for `Leg.settle`."""

    def billed(self, bill: Bill | None) -> None:
        """What a leg cost that is not chosen."""


class Leg:
    """One tier's part.

    The exchange writes into it as if it were the client's connection, and tells it what it would tell an account.

    Args:
        owner: the request.
        hub: the router.
        step: the tier.
        opened: the request as it goes there, and its account where somebody counts.
    """

    __slots__ = (
        "_account",
        "_held",
        "_kept",
        "_lines",
        "_owner",
        "_said",
        "_stream",
        "_told",
        "answer",
        "chosen",
        "closed",
        "doubted",
        "evidence",
        "exchange",
        "failed",
        "first_s",
        "late",
        "meter",
        "now_s",
        "started_s",
        "step",
    )

    def __init__(self, owner: Owner, hub: Hub, step: Step, opened: tuple[Call, Account | None]) -> None:
        call, account = opened
        self._owner = owner
        self._account = account
        self._held: list[bytes] = []
        self._lines = b""
        self._told: Callable[[Footer], None] | None = None
        self._kept: bool | None = None
        self._said: list[bytes] = []
        self._stream = call.stream
        self.step = step
        self.meter = Meter() if account is None else account.meter
        self.evidence = Evidence(owner.prompt_bytes)
        self.now_s = hub.now_s
        self.started_s = hub.now_s()
        self.first_s: float | None = None
        self.chosen = self.closed = False
        self.failed = False
        """It has no answer, and will have none."""
        self.doubted = False
        """The gate would rather ask the next tier."""
        self.late = False
        """Its first token did not come in time."""
        self.answer = Answer(self, owner.answer.request, keep=owner.answer.keep)
        self.exchange = Exchange(hub, self.answer, call, self)

    @property
    def metered(self) -> bool:
        """Whether its bill is still to come."""
        return self._account is not None and not self.closed

    @property
    def complete(self) -> bool:
        """Whether it has all of its answer, whose end waits."""
        return self._told is not None

    @property
    def answers(self) -> bool:
        """Whether it may be shown: it has an answer, or the beginning of one."""
        return not self.failed and (self.complete or self.first_s is not None or bool(self._held))

    @property
    def runs(self) -> bool:
        """Whether it is still to be judged."""
        return not (self.failed or self.doubted or (self.late and not self.answers))

    @property
    def waited_s(self) -> float:
        """Since its first token."""
        return 0.0 if self.first_s is None else self.now_s() - self.first_s

    @property
    def text(self) -> str:
        """What its first choice says so far."""
        return said(b"".join(self._said), stream=self._stream)

    @property
    def blames(self) -> bool:
        """Whether it failed by what the client asked for, which no other tier would take either."""
        status = self.answer.status
        clients = self.failed and self._kept is not None and 400 <= status < 500 and status not in _PASSING
        return clients and _TOO_LONG not in b"".join(self._held)

    @property
    def refused(self) -> bool:
        """Whether it failed with an answer that says why."""
        return self.failed and self._kept is not None

    # --- the cascade chooses --------------------------------------------------------------------------------

    def note(self, judged: Judged) -> None:
        """Have its line in the ledger say what the gate said of it."""
        if self._account is not None:
            self._account.judged = judged

    def choose(self, lines: bytes) -> None:
        """Show its answer, with these header lines more, and all that follows."""
        self.chosen = True
        self._lines = lines
        held, self._held = b"".join(self._held), []
        if held:
            self.write(held)
        if self._kept is not None:
            self._owner.answer.sink.finish(keep=self._kept)

    def settle(self, before: tuple[Bill, ...], *, degraded: bool) -> None:
        """Let the end of its answer go, as soon as its line in the ledger is safe."""
        told, self._told = self._told, None
        assert told is not None
        self.closed = True
        if self._account is None:
            told(Footer(degraded=degraded))
            return

        def billed(footer: Footer) -> None:
            assert footer.bill is not None
            told(Footer(dataclasses.replace(footer.bill, before=before), degraded))

        self._account.close(200, billed)

    def drop(self) -> None:
        """Give its answer up."""
        self._held.clear()
        self.exchange.cancel()

    # --- the exchange tells ---------------------------------------------------------------------------------

    @property
    def refusal(self) -> ClientError | None:
        """Why the answer must end."""
        return None if self._account is None else self._account.refusal

    def take(self, head: FrameHead, payload: bytes) -> bool:
        """Weigh and count a frame."""
        self.evidence.take(head)
        if self._owner.reads:
            self._said.append(payload)
        if self.first_s is None and head.tokens:
            self.first_s = self.now_s()
            self._owner.began(self)
        return self._account is None or self._account.take(head, payload)

    def close(self, status: int, told: Callable[[Footer], None]) -> None:
        """Keep the end of a good answer until it is chosen; an end of any other kind is one at once."""
        if status == 200:
            self._told = told
            self._owner.ending(self)
            return
        self.closed = True
        self.failed = True
        self._told = None
        if self._account is None:
            self._end(Footer(), told)
        else:
            self._account.close(status, lambda footer: self._end(footer, told), tried=not self.chosen)

    def _end(self, footer: Footer, told: Callable[[Footer], None]) -> None:
        if not self.chosen:
            self._owner.billed(footer.bill)
        told(footer)

    # --- the exchange writes --------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Hand bytes to the client, or keep them."""
        if not self.chosen:
            self._held.append(data)
            if not self.failed:
                self._owner.review()
            return
        if self._lines:
            status, _, rest = data.partition(b"\r\n")
            data = b"%b\r\n%b%b" % (status, self._lines, rest)
            self._lines = b""
        self._owner.answer.sink.write(data)

    def finish(self, *, keep: bool) -> None:
        """Its answer is complete, or an error in place of one."""
        self._kept = keep
        if self.chosen:
            self._owner.answer.sink.finish(keep=keep)
        else:
            self._owner.review()

    def cut(self) -> None:
        """Its answer ends in the middle."""
        if self.chosen:
            self._owner.answer.sink.cut()
        else:
            self._held.clear()
            self._owner.review()
