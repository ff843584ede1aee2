"""When a tier's answer is shown, and when the next tier is asked instead (pure)."""

import enum
from dataclasses import dataclass

from headrace_api.resources.cascade import JUDGING, Cascade
from headrace_api.resources.quantity import parse_duration
from headrace_router.cascade.errors import CascadeError
from headrace_router.cascade.evidence import Evidence
from headrace_router.cascade.gate import Gate


class Verdict(enum.Enum):
    """What becomes of an answer."""

    WAIT = "wait"
    COMMIT = "commit"
    ESCALATE = "escalate"


@dataclass(frozen=True, slots=True)
class Rules:
    """What one request's answers are judged by."""

    gate: Gate | None
    """None: its file cannot be used, or the policy has none."""
    accept: bool
    """Whether answers are taken as they are where there is no gate; otherwise they all go up."""
    prefix: float = 0.0
    """Expected gain from which to escalate, judged by the first tokens."""
    whole: float = 0.0
    """The same, judged by the whole answer."""
    usual: tuple[float, float] = (0.0, 0.0)
    """Share of answers that escalated when the thresholds were chosen: judged by first tokens, and whole."""
    tokens: int = 0
    """How many tokens make a prefix."""
    after_s: float | None = None
    """Since the first token; fewer tokens than that must do then."""

    def judge(self, evidence: Evidence, *, waited_s: float, complete: bool) -> Verdict:
        """Return what becomes of an answer.

        Args:
            evidence: its tokens so far.
            waited_s: since its first token.
            complete: whether it has ended; engines that answer without frames give no evidence before.
        """
        if self.gate is None:
            return Verdict.COMMIT if self.accept else Verdict.ESCALATE
        if not complete and not self._enough(evidence.tokens, waited_s):
            return Verdict.WAIT
        # The gate chooses its model by the same question, so that threshold and gain belong together.
        threshold = self.whole if evidence.finished else self.prefix
        return Verdict.ESCALATE if self.gate.gain(evidence) > threshold else Verdict.COMMIT

    def doubts(self, evidence: Evidence) -> bool:
        """Whether a whole answer, shown already, would not have passed."""
        return self.gate is not None and evidence.finished and self.gate.gain(evidence) > self.whole

    def _enough(self, tokens: int, waited_s: float) -> bool:
        late = self.after_s is not None and waited_s >= self.after_s
        return tokens >= self.tokens or (late and tokens > 0)


def rules(spec: Cascade, gate: Gate | None, target: float | None = None) -> Rules:
    """Return the rules of a request.

    Args:
        spec: of the LLMRouter.
        gate: as its file has it, where it can be used.
        target: share of the quality gap that this request wants kept, in place of the resource's.

    Raises:
        CascadeError: the gate has no threshold for that share.
    """
    if spec.policy not in JUDGING:
        return Rules(None, accept=True)
    if gate is None:
        return Rules(None, accept=spec.when_gate_away == "accept")
    share = spec.target if target is None else target
    return Rules(
        gate,
        accept=True,
        prefix=gate.threshold(share, prefix=True),
        whole=gate.threshold(share),
        usual=(gate.escalated(share, prefix=True), gate.escalated(share)),
        tokens=spec.commit.tokens or gate.commit_tokens,
        after_s=None if spec.commit.after is None else parse_duration(spec.commit.after),
    )


def usable(spec: Cascade, gate: Gate) -> str | None:
    """Return why a gate does not suit the resource, None where it does."""
    try:
        rules(spec, gate)
    except CascadeError as error:
        return str(error)
    return None
