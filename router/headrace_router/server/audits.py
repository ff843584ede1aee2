"""Answers of cheap tiers that were shown, put beside what the next tier would have said: it keeps the gate honest."""

from headrace_router.cascade.agreement import agree
from headrace_router.cascade.figures import TierFigures
from headrace_router.cost.account import Account
from headrace_router.openai.said import said
from headrace_router.server.call import Call
from headrace_router.server.exchange import Hub
from headrace_router.server.inquiry import Finding, Inquiry

TIMEOUT_S = 120.0
MOST = 16
"""At once; what comes beyond is left out: an audit must never be what a tier is busy with."""


class Audits:
    """Those that run.

    Args:
        hub: the router.
        figures: told whether the tiers agreed.
    """

    def __init__(self, hub: Hub, figures: TierFigures) -> None:
        self._hub = hub
        self._figures = figures
        self._running: set[Inquiry] = set()

    @property
    def full(self) -> bool:
        """Whether there is no room for one more."""
        return len(self._running) >= MOST

    def begin(self, opened: tuple[Call, Account | None], tier: str, shown: str, *, exact: bool) -> None:
        """Ask another tier the same.

        Args:
            opened: the request as it goes there, not streamed, and its account.
            tier: whose answer was shown.
            shown: what it said.
            exact: whether answers must be equal, see `agree`.
        """

        def told(finding: Finding | None) -> None:
            self._running.discard(inquiry)
            if finding is not None:
                same = agree(shown, said(finding.body, stream=False), exact=exact)
                self._figures.audited(tier, agreed=same)

        inquiry = Inquiry(self._hub, opened, told, lambda _: None)
        self._running.add(inquiry)
        inquiry.exchange.start()

    def sweep(self, now_s: float) -> None:
        """Give up what takes too long."""
        for inquiry in list(self._running):
            inquiry.sweep(now_s, TIMEOUT_S)

    def cancel(self) -> None:
        """End all of them: the router ends."""
        for inquiry in self._running:
            inquiry.cancel()
        self._running.clear()
