"""A request of the router's own to one of the tiers: nobody but the router reads the answer."""

from collections.abc import Callable
from typing import NamedTuple

from headrace_api.frames import FrameHead
from headrace_router.cost.account import Account
from headrace_router.cost.bill import Bill, Footer
from headrace_router.cost.meter import Meter
from headrace_router.errors import ClientError
from headrace_router.server.answer import Answer
from headrace_router.server.call import Call
from headrace_router.server.exchange import Exchange, Hub
from headrace_router.server.http import Request


class Finding(NamedTuple):
    """What was answered."""

    body: bytes
    """JSON."""
    logprob: float | None
    """Of the first token; None where there is none."""


class Inquiry:
    """One question.

    Args:
        hub: the router.
        opened: the request, not streamed, and its account where somebody counts.
        told: hears the answer once; None where there is none.
        billed: hears what it cost.
    """

    def __init__(
        self,
        hub: Hub,
        opened: tuple[Call, Account | None],
        told: Callable[[Finding | None], None],
        billed: Callable[[Bill | None], None],
    ) -> None:
        call, self._account = opened
        self._told = told
        self._billed = billed
        self._written = b""
        self._logprob: float | None = None
        self.meter = Meter() if self._account is None else self._account.meter
        self.closed = False
        self._started_s = hub.now_s()
        request = Request(b"POST", call.path, {}, [], http10=False, keep_alive=True)
        self._answer = Answer(self, request, keep=True)
        self.exchange = Exchange(hub, self._answer, call, self)

    def sweep(self, now_s: float, timeout_s: float) -> None:
        """Do without an answer that does not come in time."""
        self.exchange.sweep(now_s)
        if not self.closed and now_s - self._started_s > timeout_s:
            self.cancel()
            self._told(None)

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        self.exchange.cancel()

    # --- the exchange tells ---------------------------------------------------------------------------------

    @property
    def refusal(self) -> ClientError | None:
        """Why the answer must end."""
        return None if self._account is None else self._account.refusal

    def take(self, head: FrameHead, payload: bytes) -> bool:
        """Read a frame."""
        if self._logprob is None and head.tokens:
            self._logprob = head.tokens[0].logprob
        return self._account is None or self._account.take(head, payload)

    def close(self, status: int, told: Callable[[Footer], None]) -> None:
        """Settle; it is a part of the request that it serves."""
        self.closed = True

        def end(footer: Footer) -> None:
            self._billed(footer.bill)
            told(footer)

        if self._account is None:
            end(Footer())
        else:
            self._account.close(status, end, tried=True)

    # --- the exchange writes --------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Keep it."""
        self._written += data

    def finish(self, *, keep: bool) -> None:
        """The answer is complete, or an error."""
        del keep
        body = self._written.partition(b"\r\n\r\n")[2]
        self._told(Finding(body, self._logprob) if self._answer.status == 200 else None)

    def cut(self) -> None:
        """There will be none."""
        self._told(None)
