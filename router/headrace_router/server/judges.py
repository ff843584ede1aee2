"""Who judges a cheap tier's answer: the gate, the agreement of several samples, or a verifier."""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from headrace_router.cascade.agreement import majority
from headrace_router.cascade.figures import TierFigures
from headrace_router.cascade.policy import Rules, Verdict
from headrace_router.cost.bill import Bill
from headrace_router.cost.entry import Judged
from headrace_router.openai.embedding import read_vectors
from headrace_router.openai.said import said
from headrace_router.server.inquiry import Finding, Inquiry
from headrace_router.server.leg import Leg

Verdicts = tuple[Verdict, Leg]


class Bench(Protocol):
    """The request whose answers are judged."""

    def review(self) -> None:
        """Ask for the verdict again."""

    def billed(self, bill: Bill | None) -> None:
        """What an inquiry cost."""

    def inquire(self, answers: Sequence[str], told: Callable[[Finding | None], None]) -> Inquiry | None:
        """Ask a verifier, or an encoder, about answers; None where it cannot be asked."""


class Judge(Protocol):
    """One request's; asked whenever more is known of a tier's samples, none of which has failed."""

    samples: int
    """How many answers of a tier it wants."""
    reads: bool
    """Whether it needs their text."""

    def judge(self, samples: Sequence[Leg], bench: Bench) -> Verdicts:
        """Return what becomes of a tier's answers, and which of them is shown."""

    def doubts(self, leg: Leg) -> bool:
        """Whether an answer that was shown would not have passed as a whole."""


class GateJudge:
    """Judges one answer by its tokens' probabilities.

    Args:
        rules: of this request.
        figures: told what was expected.
    """

    samples = 1
    reads = False

    def __init__(self, rules: Rules, figures: TierFigures) -> None:
        self._rules = rules
        self._figures = figures

    def judge(self, samples: Sequence[Leg], bench: Bench) -> Verdicts:
        """Judge as soon as there are enough tokens."""
        del bench
        leg, rules = samples[0], self._rules
        verdict = rules.judge(leg.evidence, waited_s=leg.waited_s, complete=leg.complete)
        if verdict is not Verdict.WAIT and rules.gate is not None:
            gain, whole = rules.gate.gain(leg.evidence), leg.evidence.finished
            leg.note(Judged(gain, "whole" if whole else "prefix"))
            self._figures.judged(
                leg.step.tier,
                gain,
                rules.gate.standing(leg.evidence),
                escalated=verdict is Verdict.ESCALATE,
                usual=rules.usual[whole],
            )
        return verdict, leg

    def doubts(self, leg: Leg) -> bool:
        """Judge the whole of it."""
        return self._rules.doubts(leg.evidence)


class _Question:
    """What somebody else is asked about one tier's answers."""

    def __init__(self) -> None:
        self.answered = False
        self.finding: Finding | None = None

    def ask(self, bench: Bench, answers: Sequence[str]) -> None:
        """Ask; the bench reviews once there is an answer, or will be none."""

        def told(finding: Finding | None) -> None:
            self.answered, self.finding = True, finding
            bench.review()

        if bench.inquire(answers, told) is None:
            self.answered = True


def _asked(questions: dict[str, _Question], samples: Sequence[Leg], bench: Bench) -> _Question:
    """Return the question about a tier's samples; it is asked once, also where it is answered while it is."""
    tier = samples[0].step.tier
    if tier not in questions:
        questions[tier] = _Question()
        questions[tier].ask(bench, [leg.text for leg in samples])
    return questions[tier]


class AgreementJudge:
    """Takes what most of several samples say.

    Args:
        samples: how many are asked.
        share: of them, that must agree.
        exact: see `majority`.
    """

    reads = True

    def __init__(self, samples: int, share: float, *, exact: bool) -> None:
        self.samples = samples
        self._share = share
        self._exact = exact
        self._questions: dict[str, _Question] = {}

    def judge(self, samples: Sequence[Leg], bench: Bench) -> Verdicts:
        """Compare once all of them are complete; an encoder is asked only where letters do not tell already."""
        if not all(leg.complete for leg in samples):
            return Verdict.WAIT, samples[0]
        texts: list[str | None] = [*(leg.text for leg in samples), *[None] * (self.samples - len(samples))]
        found = majority(texts, exact=True)
        if found.share < self._share and not self._exact:
            question = _asked(self._questions, samples, bench)
            if not question.answered:
                return Verdict.WAIT, samples[0]
            vectors = None if question.finding is None else read_vectors(question.finding.body)
            found = majority(texts, exact=False, vectors=vectors)
        agreed = found.share >= self._share
        return Verdict.COMMIT if agreed else Verdict.ESCALATE, samples[found.first]

    def doubts(self, leg: Leg) -> bool:
        """It was compared whole."""
        del leg
        return False


class VerifierJudge:
    """Asks another tier whether an answer is right.

    Args:
        least: probability of a yes from which the answer passes.
        accept: whether it passes where the verifier does not answer.
    """

    samples = 1
    reads = True

    def __init__(self, least: float, *, accept: bool) -> None:
        self._least = least
        self._accept = accept
        self._questions: dict[str, _Question] = {}

    def judge(self, samples: Sequence[Leg], bench: Bench) -> Verdicts:
        """Ask once the answer is complete; wait for the reply."""
        leg = samples[0]
        if not leg.complete:
            return Verdict.WAIT, leg
        question = _asked(self._questions, samples, bench)
        return self._read(question.finding) if question.answered else Verdict.WAIT, leg

    def doubts(self, leg: Leg) -> bool:
        """It was judged whole."""
        del leg
        return False

    def _read(self, finding: Finding | None) -> Verdict:
        right = None if finding is None else chance_of_yes(finding)
        passes = self._accept if right is None else right >= self._least
        return Verdict.COMMIT if passes else Verdict.ESCALATE


def chance_of_yes(finding: Finding) -> float | None:
    """Return how likely a verifier's reply was to be yes; None where it says neither yes nor no."""
    if finding.logprob is None:
        return None
    word = said(finding.body, stream=False).strip(" \t\r\n.,:;!*\"'").casefold()
    likely = math.exp(min(0.0, finding.logprob))
    if word.startswith("yes"):
        return likely
    return 1.0 - likely if word.startswith("no") else None
