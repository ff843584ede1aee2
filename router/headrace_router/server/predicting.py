"""A request whose prompt is judged before it goes anywhere: an encoder is asked first, if it answers in time."""

from collections.abc import Callable

from headrace_router.cost.account import Account
from headrace_router.server.call import Call
from headrace_router.server.cascade import Cascade
from headrace_router.server.exchange import Hub
from headrace_router.server.inquiry import Finding, Inquiry

ENCODER_TIMEOUT_S = 1.0
"""After this the prompt is judged without its embedding."""


class Predicting:
    """One request.

    Args:
        hub: the router.
        opened: the question to the encoder.
        cascade: returns the request through its tiers, not started, given what the encoder answered.
    """

    def __init__(
        self, hub: Hub, opened: tuple[Call, Account | None], cascade: Callable[[Finding | None], Cascade]
    ) -> None:
        self._make = cascade
        self._cascade: Cascade | None = None
        self._paused = self._left = False
        self._inquiry = Inquiry(hub, opened, self._told, lambda _: None)

    def start(self) -> None:
        """Ask the encoder."""
        self._inquiry.exchange.start()

    def _told(self, finding: Finding | None) -> None:
        if self._left or self._cascade is not None:
            return
        self._cascade = self._make(finding)
        if self._paused:
            self._cascade.pause()
        self._cascade.start()

    def pause(self) -> None:
        """The client reads slower than the answer comes."""
        self._paused = True
        if self._cascade is not None:
            self._cascade.pause()

    def resume(self) -> None:
        """The client has caught up."""
        self._paused = False
        if self._cascade is not None:
            self._cascade.resume()

    def cancel(self) -> None:
        """The client has left."""
        self._left = True
        self._inquiry.cancel()
        if self._cascade is not None:
            self._cascade.cancel()

    def sweep(self, now_s: float) -> None:
        """Check deadlines."""
        if self._cascade is None:
            self._inquiry.sweep(now_s, ENCODER_TIMEOUT_S)
        else:
            self._cascade.sweep(now_s)
