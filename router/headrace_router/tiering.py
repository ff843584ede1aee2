"""Sends requests through the tiers: from what is known of a request to the cascade that runs."""

import functools
import random
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from headrace_router.cascading import Cascading
from headrace_router.choose.tier import Choice, Tiers
from headrace_router.cost.account import Account
from headrace_router.cost.budget import purse_of_one
from headrace_router.cost.money import to_nano
from headrace_router.cost.tenants import AUDIT
from headrace_router.errors import ClientError
from headrace_router.openai.embedding import embeddings_of, read_vectors
from headrace_router.openai.peek import PEEKS, peek_sizes, splice, unstreamed
from headrace_router.openai.verification import verification
from headrace_router.seen import Seen
from headrace_router.server.answer import Answer
from headrace_router.server.audits import Audits
from headrace_router.server.call import Call
from headrace_router.server.cascade import Cascade, Plan
from headrace_router.server.client import Running
from headrace_router.server.exchange import Hub
from headrace_router.server.inquiry import Finding
from headrace_router.server.judges import Judge
from headrace_router.server.leg import Leg, Step
from headrace_router.server.predicting import Predicting
from headrace_router.way import Way


class Desk(Hub, Protocol):
    """What turns requests into calls."""

    tiers: Tiers

    def call(self, seen: Seen, choice: Choice) -> Call:
        """Return a request as it goes to a deployment; raise ClientError."""

    def account(self, seen: Seen, call: Call, suffix: str = "") -> Account | None:
        """Return the account of a call, one of several where it has a suffix; raise ClientError."""

    def choose(self, model: str | None) -> Choice:
        """Return where a request for a model goes; raise ClientError."""

    def serves(self, model: str) -> bool:
        """Whether a deployment has a worker that can be chosen now."""


class Tiering:
    """Of one router.

    Args:
        desk: the router.
        cascading: what its resource says.
        chance: decides which answers are audited.
    """

    def __init__(self, desk: Desk, cascading: Cascading, chance: random.Random) -> None:
        self._desk = desk
        self._cascading = cascading
        self._chance = chance
        self._audits = Audits(desk, cascading.figures)

    def start(self, answer: Answer, seen: Seen) -> Running:
        """Send a request through the tiers; where its prompt is judged, its embedding is asked for first."""
        way = self._cascading.way(seen.wishes.task)
        seen = _bounded(seen, way)
        judge = way.judge(seen.wishes, indivisible=peek_sizes(seen.request.body).indivisible)
        question = seen.peek.question() if way.needs_text else ""

        def made(finding: Finding | None) -> Cascade:
            vector = None if finding is None else read_vectors(finding.body)
            hard = bool(question) and way.hard(question, vector, seen.wishes)
            return Cascade(self._desk, answer, self._plan(seen, way, judge, hard=hard), self._cascading.figures)

        running = self._first(seen, way.encoder, question, made)
        running.start()
        return running

    def _first(
        self, seen: Seen, encoder: str | None, question: str, made: Callable[[Finding | None], Cascade]
    ) -> Predicting | Cascade:
        if not question or encoder is None or not self._desk.serves(encoder):
            return made(None)
        return Predicting(self._desk, self._embed(seen, encoder, [question]), made)

    def _embed(self, seen: Seen, encoder: str, texts: Sequence[str]) -> tuple[Call, Account | None]:
        """Return a request for embeddings; the encoder is nobody's tier, and on nobody's bill."""
        asked = embeddings_of(texts)
        own = Seen(asked, PEEKS[asked.path](asked.body), seen.identity, seen.tenant)
        return self._desk.call(own, Choice(encoder, ())), None

    def _plan(self, seen: Seen, way: Way, judge: Judge, *, hard: bool) -> Plan:
        passed, steps = self._desk.tiers.ladder(self._desk.serves)
        if hard and len(steps) > 1:
            passed, steps = (*passed, steps[0][0]), steps[1:]
        return Plan(
            steps=[Step(name, functools.partial(self._step, seen, name, deployment)) for name, deployment in steps],
            passed=passed,
            judge=judge,
            prompt_bytes=len(seen.peek.text()),
            timeout_s=way.timeout_s,
            deadline_s=seen.wishes.deadline,
            question=self._compare_by(way.comparer, seen) or self._verify(way.verifier, seen),
            audit=self._audit(seen, way.audit, steps),
            strict=seen.wishes.min_quality is not None,
        )

    def _step(self, seen: Seen, tier: str, deployment: str, sample: int) -> tuple[Call, Account | None]:
        """Return a request as it goes to one of several tiers, and its account there; raise ClientError.

        Each sample of a tier has a seed of its own, whatever the client's.
        """
        call = self._desk.call(seen, Choice(deployment, ()))
        if sample:
            body = splice(call.body, seed=(seen.identity.seed + sample) % 2**63)
            call = msgspec.structs.replace(call, body=body)
        return call, self._desk.account(seen, call, f"~{tier}.{sample}" if sample else f"~{tier}")

    def _audit(self, seen: Seen, share: float, steps: Sequence[tuple[str, str]]) -> Callable[[Leg], None] | None:
        """Return what puts a shown answer beside the next tier's; None for most requests."""
        if self._audits.full or self._chance.random() >= share:
            return None
        following = dict(zip([name for name, _ in steps], steps[1:], strict=False))
        return lambda leg: self._compare(seen, leg, *following[leg.step.tier])

    def _compare(self, seen: Seen, leg: Leg, tier: str, deployment: str) -> None:
        if not self._desk.serves(deployment):
            return  # no sleeping tier is woken for it
        whole = msgspec.structs.replace(seen, tenant=AUDIT, purse=None)
        try:
            call = self._desk.call(whole, Choice(deployment, ()))
            call = msgspec.structs.replace(call, body=unstreamed(call.body), stream=False)
            account = self._desk.account(whole, call, f"~{tier}~audit")
        except ClientError:
            return
        exact = peek_sizes(seen.request.body).indivisible
        self._audits.begin((call, account), leg.step.tier, leg.text, exact=exact)

    def _compare_by(
        self, encoder: str | None, seen: Seen
    ) -> Callable[[Sequence[str]], tuple[Call, Account | None]] | None:
        """Return what asks the encoder for the sense of answers; None where it cannot be asked."""
        if encoder is None or not self._desk.serves(encoder):
            return None
        return lambda answers: self._embed(seen, encoder, answers)

    def _verify(self, tier: str | None, seen: Seen) -> Callable[[Sequence[str]], tuple[Call, Account | None]] | None:
        """Return what asks the verifier about an answer; None where there is none."""
        if tier is None:
            return None

        def ask(answers: Sequence[str]) -> tuple[Call, Account | None]:
            question = verification(seen.request.path, seen.peek.question(), answers[0])
            own = Seen(question, PEEKS[question.path](question.body), seen.identity, seen.tenant, purse=seen.purse)
            call = self._desk.call(own, self._desk.choose(tier))
            return call, self._desk.account(own, call, f"~{tier}~verify")

        return ask

    def sweep(self, now_s: float) -> None:
        """Check the deadlines of what no client waits for."""
        self._audits.sweep(now_s)


def _bounded(seen: Seen, way: Way) -> Seen:
    """Return a request with a purse of what its task may cost, where it does not state less itself."""
    most, own = way.max_cost, seen.wishes.max_cost
    if most is None or (own is not None and own <= most):
        return seen
    return msgspec.structs.replace(seen, purse=purse_of_one(seen.identity.request_id.decode(), to_nano(most)))
