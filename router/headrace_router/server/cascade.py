"""One request over several tiers: the first answer that is good enough is shown, and nothing of the others.

Each tier asked is a leg with an exchange of its own. Whatever happens to a leg leads to one question, `review`: is the
answer of the cheapest tier that is still in it to be shown, to be waited for, or is the next tier to be asked?

    ask the first ──► tokens, end ──► gate passes ──► commit: its bytes flow, the other legs are given up
                          │
                          ├─ gate doubts, tier fails, nothing in time ──► ask the next
                          └─ no tier is left ──► the best answer so far, marked as degraded
"""

from collections.abc import Sequence

import msgspec

from headrace_api.names import HEADER_DEGRADED, HEADER_TIER
from headrace_router.cascade.figures import TierFigures
from headrace_router.cascade.policy import Rules, Verdict
from headrace_router.cost.bill import Bill
from headrace_router.cost.entry import Judged
from headrace_router.errors import ClientError
from headrace_router.server.answer import Answer
from headrace_router.server.exchange import RETRY_AFTER_S, Hub
from headrace_router.server.leg import Leg, Step


class Plan(msgspec.Struct, frozen=True):
    """How one request goes through the tiers."""

    steps: Sequence[Step]
    """Cheapest first."""
    passed: tuple[str, ...]
    """Tiers in front of them that have no worker, or that the prompt is too hard for."""
    rules: Rules
    prompt_bytes: int
    """Size of the prompt's text."""
    timeout_s: float
    deadline_s: float | None = None
    """So long after its start the best answer so far is shown, whatever the gate says of it."""
    strict: bool = False
    """Whether an error is better than an answer that the gate doubts."""


class Cascade:
    """One request.

    Args:
        hub: the router.
        answer: to the client.
        plan: of this request.
        figures: of each tier, by name.
    """

    __slots__ = (
        "_bills",
        "_chosen",
        "_degraded",
        "_figures",
        "_hub",
        "_legs",
        "_next",
        "_owed",
        "_paused",
        "_plan",
        "_refusal",
        "_started_s",
        "answer",
        "prompt_bytes",
    )

    def __init__(self, hub: Hub, answer: Answer, plan: Plan, figures: TierFigures) -> None:
        self._hub = hub
        self._plan = plan
        self._figures = figures
        self._legs: list[Leg] = []
        self._next = 0
        self._chosen: Leg | None = None
        self._degraded = False
        self._refusal: ClientError | None = None
        self._bills: list[Bill] = []
        self._owed = 0
        """Bills of other legs that are still to come."""
        self._paused = False
        self._started_s = hub.now_s()
        self.answer = answer
        self.prompt_bytes = plan.prompt_bytes

    def start(self) -> None:
        """Ask the first tier; and the second at the same time, where there is no time to ask it after the first."""
        self._climb()
        if self._presses:
            self._climb()

    @property
    def _presses(self) -> bool:
        deadline_s, steps = self._plan.deadline_s, self._plan.steps
        if deadline_s is None or self._chosen is not None or self._next != 1 or len(steps) == 1:
            return False
        return self._figures.timing.in_turn_s(steps[1].tier, after=steps[0].tier) > deadline_s

    # --- decisions ------------------------------------------------------------------------------------------

    def review(self) -> None:
        """Look at the legs in the order of their tiers, and do what the first one in it asks for."""
        if self._chosen is not None:
            return
        if self._hurried:
            self._make_do()
            return
        for leg in self._legs:
            if leg.blames and not any(other.answers for other in self._legs):
                self._commit(leg)
                return
            if leg.failed or leg.doubted or (leg.late and not leg.answers):
                continue
            verdict = self._judge(leg)
            if verdict is Verdict.COMMIT:
                self._commit(leg)
            if verdict is not Verdict.ESCALATE:
                return
            leg.doubted = True
        self._climb()

    def _judge(self, leg: Leg) -> Verdict:
        if not leg.answers:
            return Verdict.WAIT
        if leg.step is self._plan.steps[-1]:
            return Verdict.COMMIT
        rules = self._plan.rules
        verdict = rules.judge(leg.evidence, waited_s=self._held_s(leg), complete=leg.complete)
        if verdict is not Verdict.WAIT and rules.gate is not None:
            gain = rules.gate.gain(leg.evidence)
            leg.note(Judged(gain, "whole" if leg.evidence.finished else "prefix"))
            self._figures.judged(leg.step.tier, gain)
            self._figures.timing.judged(leg.step.tier, self._hub.now_s() - leg.started_s)
        return verdict

    @property
    def _hurried(self) -> bool:
        deadline_s = self._plan.deadline_s
        return deadline_s is not None and self._hub.now_s() - self._started_s >= deadline_s

    def _climb(self) -> None:
        """Ask the next tier; where none is left, or none may be asked, make do with what there is."""
        steps = self._plan.steps
        while self._next < len(steps):
            step = steps[self._next]
            self._next += 1
            try:
                opened = step.open()
            except ClientError as error:
                self._refusal = error
                self._figures.count(step.tier, "refused")
                continue
            leg = Leg(self, self._hub, step, opened)
            self._legs.append(leg)
            self._owed += leg.metered
            leg.exchange.start()
            return
        self._make_do()

    def _make_do(self) -> None:
        waiting = [leg for leg in self._legs if not leg.failed]
        best = next((leg for leg in reversed(waiting) if leg.answers), None)
        if best is None and waiting:
            return  # nobody has begun: whoever does first is shown
        if best is None:
            self._fail()
        elif best.doubted and self._plan.strict:
            text = "No tier that is left gives the quality that the request asks for; try again later."
            self._refuse(ClientError(text, status=503, code="quality_unavailable", retry_after_s=RETRY_AFTER_S))
        else:
            self._commit(best, degraded=best.step is not self._plan.steps[-1])

    def _fail(self) -> None:
        """Tell the client what the last tier said that said anything."""
        refused = next((leg for leg in reversed(self._legs) if leg.refused), None)
        if refused is not None:
            self._commit(refused)
            return
        text = f"Every tier failed: {', '.join(step.tier for step in self._plan.steps)}."
        self._refuse(self._refusal or ClientError(text, status=502, code="worker_lost"))

    def _refuse(self, error: ClientError) -> None:
        for leg in self._legs:
            leg.drop()
        self.answer.error(error, self._head())

    def _commit(self, leg: Leg, *, degraded: bool = False) -> None:
        """Show a leg's answer and give up the others."""
        self._chosen, self._degraded = leg, degraded
        self._owed -= leg.metered
        for other in self._legs:
            if other is not leg:
                self._figures.count(other.step.tier, _outcome(other))
                other.drop()
        outcome = "failed" if leg.failed else "degraded" if degraded else "committed"
        self._figures.shown(leg.step.tier, outcome, self._held_s(leg))
        leg.choose(self._head())
        if self._paused:
            leg.exchange.pause()
        self._settle()

    def _held_s(self, leg: Leg) -> float:
        return 0.0 if leg.first_s is None else self._hub.now_s() - leg.first_s

    def _head(self) -> bytes:
        tried = (*self._plan.passed, *(leg.step.tier for leg in self._legs))
        mark = f"{HEADER_DEGRADED}: true\r\n" if self._degraded else ""
        return f"{HEADER_TIER}: {','.join(tried)}\r\n{mark}".encode()

    # --- what legs tell -------------------------------------------------------------------------------------

    def began(self, leg: Leg) -> None:
        """Stop what the gate doubts: a better tier has begun to answer."""
        self._figures.timing.began(leg.step.tier, self._hub.now_s() - leg.started_s)
        if self._chosen is not None:
            return
        for other in self._legs:
            if other is leg:
                return
            if other.doubted and not other.complete and not other.failed:
                other.drop()

    def ending(self, leg: Leg) -> None:
        """A leg's answer is complete."""
        if self._chosen is None:
            self.review()
        elif leg is self._chosen:
            if leg.step is not self._plan.steps[-1] and self._plan.rules.doubts(leg.evidence):
                self._figures.count(leg.step.tier, "doubted")
            self._settle()

    def billed(self, bill: Bill | None) -> None:
        """Keep what another leg cost; the chosen one's end may have waited for it."""
        if bill is not None:
            self._owed -= 1
            if bill.cost.total:
                self._bills.append(bill)
            self._settle()

    def _settle(self) -> None:
        """Let the end of the chosen answer go, once all that it cost is known."""
        leg = self._chosen
        if leg is not None and leg.complete and not self._owed:
            leg.settle(tuple(self._bills), degraded=self._degraded)

    # --- from the client ------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Let the answer wait in the worker; what is not shown yet is small, or whole."""
        self._paused = True
        if self._chosen is not None:
            self._chosen.exchange.pause()

    def resume(self) -> None:
        """The client has caught up."""
        self._paused = False
        if self._chosen is not None:
            self._chosen.exchange.resume()

    def cancel(self) -> None:
        """The client has left."""
        if self._chosen is None and self._legs:
            self._chosen = self._legs[-1]
            self._chosen.chosen = True  # its line in the ledger is the request's
        for leg in self._legs:
            leg.exchange.cancel()

    def sweep(self, now_s: float) -> None:
        """Pass over a tier that does not begin in time; show what there is at the deadline."""
        for leg in list(self._legs):
            leg.exchange.sweep(now_s)
        if self._chosen is not None or not self._legs:
            return
        last = self._legs[-1]
        if not last.late and last.first_s is None and now_s - last.started_s > self._plan.timeout_s:
            last.late = True
            self.review()
        elif self._hurried:
            self.review()


def _outcome(leg: Leg) -> str:
    if leg.failed:
        return "failed"
    if leg.doubted:
        return "escalated"
    return "late" if leg.late else "unneeded"
