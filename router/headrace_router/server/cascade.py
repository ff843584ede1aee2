"""One request over several tiers: the first answer that is good enough is shown, and nothing of the others.

Each answer of a tier is a leg with an exchange of its own; several samples of one tier make a rung. Whatever happens
to a leg leads to one question, `review`: is an answer of the cheapest tier that is still in it to be shown, to be
waited for, or is the next tier to be asked?

    ask the first ──► tokens, end ──► judge passes ──► commit: its bytes flow, the other legs are given up
                          │
                          ├─ judge doubts, tier fails, nothing in time ──► ask the next
                          └─ no tier is left ──► the best answer so far, marked as degraded
"""

from collections.abc import Callable, Sequence

import msgspec

from headrace_api.names import HEADER_DEGRADED, HEADER_TIER
from headrace_router.cascade.figures import TierFigures
from headrace_router.cascade.policy import Verdict
from headrace_router.cost.account import Account
from headrace_router.cost.bill import Bill
from headrace_router.errors import ClientError
from headrace_router.server.answer import Answer
from headrace_router.server.call import Call
from headrace_router.server.exchange import RETRY_AFTER_S, Hub
from headrace_router.server.inquiry import Finding, Inquiry
from headrace_router.server.judges import Judge
from headrace_router.server.leg import Leg, Step


class Plan(msgspec.Struct, frozen=True):
    """How one request goes through the tiers."""

    steps: Sequence[Step]
    """Cheapest first."""
    passed: tuple[str, ...]
    """Tiers in front of them that have no worker, or that the prompt is too hard for."""
    judge: Judge
    prompt_bytes: int
    """Size of the prompt's text."""
    timeout_s: float
    deadline_s: float | None = None
    """So long after its start the best answer so far is shown, whatever the gate says of it."""
    question: Callable[[Sequence[str]], tuple[Call, Account | None]] | None = None
    """Return what the judge asks somebody else about answers, and its account; raise ClientError."""
    audit: Callable[[Leg], None] | None = None
    """Told of the answer that was shown, at its end, where it shall be put beside the next tier's."""
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
        "_inquiry",
        "_next",
        "_owed",
        "_paused",
        "_plan",
        "_refusal",
        "_rungs",
        "_started_s",
        "answer",
        "prompt_bytes",
        "reads",
    )

    def __init__(self, hub: Hub, answer: Answer, plan: Plan, figures: TierFigures) -> None:
        self._hub = hub
        self._plan = plan
        self._figures = figures
        self._rungs: list[list[Leg]] = []
        self._inquiry: Inquiry | None = None
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
        self.reads = plan.judge.reads or plan.audit is not None

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
        if self._hurried and any(leg.answers for leg in self._legs):
            self._make_do()
            return
        blaming = next((leg for leg in self._legs if leg.blames), None)
        if blaming is not None and not any(leg.answers for leg in self._legs):
            self._commit(blaming)
            return
        for rung in self._rungs:
            samples = [leg for leg in rung if leg.runs]
            if not samples:
                continue
            verdict, leg = self._judge(samples)
            if verdict is Verdict.COMMIT:
                self._commit(leg)
            if verdict is not Verdict.ESCALATE:
                return
            for doubtful in samples:
                doubtful.doubted = True
        self._climb()

    def _judge(self, samples: Sequence[Leg]) -> tuple[Verdict, Leg]:
        begun = next((leg for leg in samples if leg.answers), None)
        if begun is None:
            return Verdict.WAIT, samples[0]
        if begun.step is self._plan.steps[-1]:
            return Verdict.COMMIT, begun
        verdict, leg = self._plan.judge.judge(samples, self)
        if verdict is not Verdict.WAIT:
            self._figures.timing.judged(leg.step.tier, self._hub.now_s() - leg.started_s)
        return verdict, leg

    @property
    def _legs(self) -> list[Leg]:
        return [leg for rung in self._rungs for leg in rung]

    def inquire(self, answers: Sequence[str], told: Callable[[Finding | None], None]) -> Inquiry | None:
        """Ask a verifier, or an encoder, about answers; None where it cannot be asked."""
        if self._plan.question is None:
            return None
        try:
            opened = self._plan.question(answers)
        except ClientError:
            return None
        self._inquiry = Inquiry(self._hub, opened, told, self.billed)
        self._owed += opened[1] is not None
        self._inquiry.exchange.start()
        return self._inquiry

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
            rung = self._open(step)
            if rung:
                self._rungs.append(rung)
                for leg in rung:
                    leg.exchange.start()
                return
            self._figures.count(step.tier, "refused")
        self._make_do()

    def _open(self, step: Step) -> list[Leg]:
        """Return the legs of a tier, none of them started; fewer, or none, where there is no money for all."""
        rung: list[Leg] = []
        last = step is self._plan.steps[-1]
        try:
            for number in range(1 if last else self._plan.judge.samples):
                leg = Leg(self, self._hub, step, step.open(number))
                self._owed += leg.metered
                rung.append(leg)
        except ClientError as error:
            self._refusal = error
        return rung

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
        self._figures.shown(leg.step.tier, outcome, leg.waited_s)
        if self._inquiry is not None:
            self._inquiry.cancel()
        leg.choose(self._head())
        if leg.complete:
            self._look_back(leg)
        if self._paused:
            leg.exchange.pause()
        self._settle()

    def _head(self) -> bytes:
        tried = (*self._plan.passed, *(rung[0].step.tier for rung in self._rungs))
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
            self._look_back(leg)
            self._settle()

    def _look_back(self, leg: Leg) -> None:
        """Learn from an answer that is shown and complete."""
        if leg.failed or self._degraded or leg.step is self._plan.steps[-1]:
            return
        if self._plan.judge.doubts(leg):
            self._figures.count(leg.step.tier, "doubted")
        if self._plan.audit is not None:
            self._plan.audit(leg)

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
        legs = self._legs
        if self._chosen is None and legs:
            self._chosen = legs[-1]
            self._chosen.chosen = True  # its line in the ledger is the request's
        for leg in legs:
            leg.exchange.cancel()
        if self._inquiry is not None:
            self._inquiry.cancel()

    def sweep(self, now_s: float) -> None:
        """Pass over a tier that does not begin in time; show what there is at the deadline."""
        for leg in self._legs:
            leg.exchange.sweep(now_s)
        if self._inquiry is not None:
            self._inquiry.sweep(now_s, self._plan.timeout_s)
        if self._chosen is not None:
            return
        late = [leg for leg in self._legs if leg.first_s is None and now_s - leg.started_s > self._plan.timeout_s]
        news = [leg for leg in late if not leg.late]
        for leg in news:
            leg.late = True
        if news or self._hurried:
            self.review()


def _outcome(leg: Leg) -> str:
    if leg.doubted:
        return "escalated"  # one that was let go for it has failed too
    if leg.failed:
        return "failed"
    return "late" if leg.late else "unneeded"
