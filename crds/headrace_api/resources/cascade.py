"""The cascade: cheap tiers answer first, and what decides when the next one is asked."""

from typing import ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from headrace_api.resources.labels import DnsLabel, Name, ObjectName
from headrace_api.resources.meta import Part
from headrace_api.resources.money import Money
from headrace_api.resources.quantity import Duration, parse_duration
from headrace_api.resources.rules import Rule

Policy = Literal["pinned", "cheapest-first", "predict", "predict-then-check", "best-of-k", "ask"]
JUDGING: Final = ("cheapest-first", "predict-then-check")
"""Policies that need a gate."""
PREDICTING: Final = ("predict", "predict-then-check")
"""Policies that need a predictor."""
_HOUR_S = 3600.0
KEY_PATTERN = r"^[-._a-zA-Z0-9]+$"


class ModelMap(Part):
    """A model file in a ConfigMap."""

    name: ObjectName = Field(examples=["headrace-gate"])
    """The ConfigMap, in the router's namespace."""
    key: str = Field(default="gate.json", pattern=KEY_PATTERN, max_length=253, examples=["gate.json"])
    """Where in it the file is."""


class ModelFile(Part):
    """A model file that `headrace cascade train` wrote."""

    rules: ClassVar = (
        Rule(
            "has(self.file) != has(self.configMap)",
            lambda model: (model.file is None) != (model.config_map is None),
            "name either file or configMap",
            "configMap",
        ),
    )

    file: str | None = Field(default=None, min_length=1, max_length=4096, examples=["gate.json"])
    """Its path, for local mode. It is read again when it changes."""
    config_map: ModelMap | None = Field(default=None, examples=[{"name": "headrace-gate", "key": "gate.json"}])
    """The ConfigMap that has it."""


class Commit(Part):
    """When a stream that the gate lets pass begins to flow."""

    tokens: int | None = Field(default=None, ge=1, le=4096, examples=[16])
    """After so many tokens of the cheap tier the gate judges. Left out: as many as the gate was trained on."""
    after: Duration | None = Field(default=None, examples=["500ms"])
    """It judges after this time from the first token, when the tokens come more slowly."""


class Task(Part):
    """What is different for requests that name a task, in the field `task` or the header `x-headrace-task`."""

    name: DnsLabel = Field(examples=["extraction"])
    """As requests name it. Requests of tasks that are not listed go by what holds for all."""
    policy: Policy | None = Field(default=None, examples=["best-of-k"])
    """In place of the cascade's."""
    target: float | None = Field(default=None, ge=0.01, le=1, examples=[0.99])
    """In place of the cascade's."""
    commit: Commit | None = Field(default=None, examples=[{"tokens": 32}])
    """In place of the cascade's, as a whole."""
    max_cost: Money | None = Field(default=None, examples=[0.002])
    """In place of the cascade's."""


class Cascade(Part):
    """How `model: auto` goes through the tiers, in their order."""

    rules: ClassVar = (
        Rule(
            "!(self.?policy.orValue('cheapest-first') in ['cheapest-first', 'predict-then-check']) || has(self.gate)",
            lambda own: own.policy not in JUDGING or own.gate is not None,
            "policy {policy} judges answers; give it a gate",
            "gate",
        ),
        Rule(
            "!(self.?policy.orValue('cheapest-first') in ['predict', 'predict-then-check']) || has(self.predictor)",
            lambda own: own.policy not in PREDICTING or own.predictor is not None,
            "policy {policy} judges prompts; give it a predictor",
            "predictor",
        ),
        Rule(
            "self.?policy.orValue('cheapest-first') != 'ask' || has(self.verifier)",
            lambda own: own.policy != "ask" or own.verifier is not None,
            "policy ask asks a tier about answers; name it as verifier",
            "verifier",
        ),
        Rule(
            "!has(self.tasks) || has(self.gate) || !self.tasks.exists(task, "
            "task.?policy.orValue('') in ['cheapest-first', 'predict-then-check'])",
            lambda own: own.gate is not None or not any(task.policy in JUDGING for task in own.tasks),
            "a task's policy judges answers; give the cascade a gate",
            "tasks",
        ),
        Rule(
            "!has(self.tasks) || has(self.predictor) || !self.tasks.exists(task, "
            "task.?policy.orValue('') in ['predict', 'predict-then-check'])",
            lambda own: own.predictor is not None or not any(task.policy in PREDICTING for task in own.tasks),
            "a task's policy judges prompts; give the cascade a predictor",
            "tasks",
        ),
        Rule(
            "!has(self.tasks) || has(self.verifier) || !self.tasks.exists(task, task.?policy.orValue('') == 'ask')",
            lambda own: own.verifier is not None or not any(task.policy == "ask" for task in own.tasks),
            "a task's policy ask asks a tier about answers; name it as verifier",
            "tasks",
        ),
        Rule(
            "duration(self.?timeout.orValue('30s')) >= duration('100ms') && "
            "duration(self.?timeout.orValue('30s')) <= duration('1h')",
            lambda own: 0.1 <= parse_duration(own.timeout) <= _HOUR_S,
            "timeout is {timeout}; write at least 100ms and at most 1h",
            "timeout",
        ),
    )

    policy: Policy = Field(default="cheapest-first", examples=["cheapest-first"])
    """`cheapest-first`: the first tier answers, the gate judges its answer, the next tier is asked where that is worth
    it. `predict`: the prompt alone decides where to begin, and that answer stands. `predict-then-check`: both.
    `best-of-k`: a tier answers several times, and its answer stands where enough of them agree. `ask`: another tier is
    asked whether the answer is right. `pinned`: the first tier that has a worker answers."""
    gate: ModelFile | None = Field(default=None, examples=[{"file": "gate.json"}])
    """Judges answers."""
    predictor: ModelFile | None = Field(default=None, examples=[{"file": "difficulty.json"}])
    """Judges prompts."""
    encoder: Name | None = Field(default=None, examples=["minilm"])
    """LLMDeployment behind whose `/v1/embeddings` an encoder is. It tells the predictor what prompts are about, and
    `best-of-k` whether answers mean the same. Left out, or while it is away: lengths and words must do."""
    target: float = Field(default=0.95, ge=0.01, le=1, examples=[0.9])
    """Share of the quality between the cheapest and the best tier that answers should keep; a request may state its own
    as `min_quality`."""
    max_cost: Money | None = Field(default=None, examples=[0.01])
    """Most that one request may cost over all tiers; it may state less itself, as `max_cost`."""
    commit: Commit = Commit()
    """When streams begin to flow. Whole answers, and such with tools or a schema, are judged when they are complete."""
    audit: float = Field(default=0, ge=0, le=1, examples=[0.01])
    """Share of the shown answers of cheaper tiers for which the next tier is asked as well, unseen by the client; the
    metric `headrace_cascade_audits_total` says how often the two agree. It is nobody's bill but the router's own."""
    timeout: Duration = Field(default="30s", examples=["10s"])
    """A tier without a first token after this time is passed over, where there is another tier or an answer already."""
    samples: int = Field(default=3, ge=2, le=16, examples=[3])
    """With `best-of-k`: how many answers a tier gives, all at once. Requests at temperature 0 always agree."""
    agreement: float = Field(default=0.6, ge=0.01, le=1, examples=[0.6])
    """With `best-of-k`: share that must agree; structured ones in every character, others in words and numbers."""
    verifier: DnsLabel | None = Field(default=None, examples=["large"])
    """With `ask`: name of the tier that is asked."""
    least_yes: float = Field(default=0.5, ge=0.01, le=1, examples=[0.7])
    """With `ask`: how probable its yes must be."""
    when_gate_away: Literal["accept", "escalate"] = Field(default="accept", examples=["escalate"])
    """What happens to answers while the gate's file is missing or broken, or the verifier does not reply: they are
    taken as they are, or go up to the next tier."""
    tasks: tuple[Task, ...] = Field(
        default=(),
        max_length=32,
        strict=False,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        examples=[[{"name": "extraction", "target": 0.8}]],
    )
    """What is different for some requests."""

    @property
    def policies(self) -> frozenset[str]:
        """All policies that requests may go by."""
        return frozenset((self.policy, *(task.policy for task in self.tasks if task.policy is not None)))

    def of(self, task: Task) -> Self:
        """Return what holds for requests of a task."""
        changed = {name: value for name in _PER_TASK if (value := getattr(task, name)) is not None}
        return self.model_copy(update={**changed, "tasks": ()})

    @model_validator(mode="after")
    def _name_tasks_apart(self) -> Self:
        if len({task.name for task in self.tasks}) < len(self.tasks):
            raise ValueError("two tasks have the same name; give each its own")
        return self


_PER_TASK: Final = ("policy", "target", "commit", "max_cost")
