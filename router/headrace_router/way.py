"""How requests of one task go through the tiers: the resource's rules, the model files and a request's own wishes."""

import dataclasses
import sys

from headrace_api.resources.cascade import JUDGING, PREDICTING
from headrace_api.resources.cascade import Cascade as CascadeSpec
from headrace_api.resources.quantity import parse_duration
from headrace_router.cascade.errors import CascadeError
from headrace_router.cascade.figures import TierFigures
from headrace_router.cascade.file import DifficultyFile
from headrace_router.cascade.gate import Gate
from headrace_router.cascade.linear import Floats
from headrace_router.cascade.policy import Rules, rules
from headrace_router.cascade.shelf import Shelf
from headrace_router.errors import ClientError
from headrace_router.openai.wishes import Wishes
from headrace_router.server.judges import AgreementJudge, GateJudge, Judge, VerifierJudge


class Way:
    """Of one task, or of all requests that name none.

    Args:
        spec: what holds for it.
        gate: the gate's file, where any task has one.
        predictor: the predictor's.
        figures: told what was judged.
    """

    def __init__(
        self,
        spec: CascadeSpec,
        gate: Shelf[Gate] | None,
        predictor: Shelf[DifficultyFile] | None,
        figures: TierFigures,
    ) -> None:
        self._spec = spec
        self._gate = gate if spec.policy in JUDGING else None
        self._predictor = predictor if spec.policy in PREDICTING else None
        self._figures = figures
        self.timeout_s = parse_duration(spec.timeout)

    @property
    def audit(self) -> float:
        """Share of shown answers that are put beside the next tier's."""
        return self._spec.audit

    @property
    def max_cost(self) -> float | None:
        """Most that a request may cost, in the router's currency."""
        return self._spec.max_cost

    @property
    def needs_text(self) -> bool:
        """Whether prompts are judged."""
        return self._predictor is not None

    @property
    def verifier(self) -> str | None:
        """Name of the tier that is asked about answers."""
        return self._spec.verifier if self._spec.policy == "ask" else None

    @property
    def encoder(self) -> str | None:
        """Deployment whose embeddings of prompts the predictor reads."""
        return self._spec.encoder if self._predictor is not None else None

    @property
    def comparer(self) -> str | None:
        """Deployment whose embeddings of answers tell whether these agree."""
        return self._spec.encoder if self._spec.policy == "best-of-k" else None

    def judge(self, wishes: Wishes, *, indivisible: bool) -> Judge:
        """Return who judges a request's answers; raise ClientError where what it wishes cannot be had.

        Args:
            wishes: the request's own.
            indivisible: whether its answer keeps to a form, and is judged only when it is complete.
        """
        spec = self._spec
        if spec.policy == "best-of-k":
            return AgreementJudge(spec.samples, spec.agreement, exact=indivisible)
        if spec.policy == "ask":
            return VerifierJudge(spec.least_yes, accept=spec.when_gate_away == "accept")
        return GateJudge(self._rules(wishes, indivisible=indivisible), self._figures)

    def hard(self, question: str, vector: Floats | None, wishes: Wishes) -> bool:
        """Whether a prompt should go to the second tier at once.

        Args:
            question: what is asked.
            vector: its embedding, (1, size); None where there is no encoder. Of another size it is left out.
            wishes: the request's.
        """
        model = None if self._predictor is None else self._predictor.model
        if model is None or not question:
            return False
        if vector is not None and vector.shape[1] != model.predictor.embedding_size:
            vector = None
        gain = float(model.predictor.predict([question], vector).gain[0])
        return gain >= _threshold(model, wishes.min_quality or self._spec.target)

    def _rules(self, wishes: Wishes, *, indivisible: bool) -> Rules:
        """Return what the gate judges by; raise ClientError where it knows nothing of the quality that is asked for."""
        gate = None if self._gate is None else self._gate.model
        try:
            found = rules(self._spec, gate, wishes.min_quality)
        except CascadeError as error:
            raise ClientError(f"min_quality: {error}.", param="min_quality", code="invalid_wish") from error
        return dataclasses.replace(found, tokens=sys.maxsize, after_s=None) if indivisible else found


def _threshold(model: DifficultyFile, target: float) -> float:
    """Return the gain from which the prompt is hard: that of the least target in the file that is high enough."""
    known = sorted(model.thresholds, key=lambda one: one.target)
    if not known:
        return 0.0
    return next((one.gain for one in known if one.target >= target - 1e-9), known[-1].gain)
