"""What a user may say about the pods of workers: resources, nodes, and whatever else a pod can have."""

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field

from headrace_api.resources.labels import LabelValue, PodAnnotations, PodLabels, without_nulls
from headrace_api.resources.meta import Part
from headrace_api.resources.quantity import Amount, parse_amount
from headrace_api.resources.rules import Rule

_FREE_FORM: Final[dict[str, Any]] = {"x-kubernetes-preserve-unknown-fields": True}

Amounts = Annotated[dict[str, Amount], Field(max_length=16), BeforeValidator(without_nulls)]


class Requirements(Part):
    """How much of a node each worker is given."""

    rules: ClassVar = (
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) || "
            "quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)",
            lambda own: all(
                parse_amount(amount) <= parse_amount(own.limits.get(name, amount))
                for name, amount in own.requests.items()
            ),
            "requests are larger than limits; lower the request or raise the limit of the same name",
            "requests",
        ),
    )

    requests: Amounts = Field(default={}, examples=[{"cpu": "4", "memory": "8Gi"}])
    """What is set aside on the node, by resource: `cpu` in processors (`500m` is half of one), `memory` in bytes,
    others in pieces. Left out: what threads and KV memory need."""
    limits: Amounts = Field(default={}, examples=[{"memory": "8Gi"}])
    """What a worker may use at most, by resource; beyond its memory a worker is killed. Left out: no limit."""


class Toleration(Part):
    """A taint of nodes that does not keep workers away; the fields are those of a pod's toleration."""

    rules: ClassVar = (
        Rule(
            "self.?operator.orValue('Equal') != 'Exists' || self.?value.orValue('') == ''",
            lambda own: own.operator != "Exists" or not own.value,
            "operator Exists takes any value; leave value out or use operator Equal",
            "value",
        ),
        Rule(
            "self.?key.orValue('') != '' || self.?operator.orValue('Equal') == 'Exists'",
            lambda own: bool(own.key) or own.operator == "Exists",
            "a toleration without key is for every taint; write operator Exists, or name the key",
            "key",
        ),
        Rule(
            "!has(self.tolerationSeconds) || self.?effect.orValue('') == 'NoExecute'",
            lambda own: own.toleration_seconds is None or own.effect == "NoExecute",
            "tolerationSeconds goes with effect NoExecute only",
            "tolerationSeconds",
        ),
    )

    key: str | None = Field(default=None, max_length=317, examples=["nvidia.com/gpu"])
    """The taint's key. Left out: every taint (with operator `Exists`)."""
    operator: Literal["Exists", "Equal"] | None = Field(default=None, examples=["Exists"])
    """`Equal`: the taint's value must be `value`; `Exists`: any value. Left out: `Equal`."""
    value: LabelValue | None = Field(default=None, examples=["present"])
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(default=None, examples=["NoSchedule"])
    """The taint's effect. Left out: every effect."""
    toleration_seconds: int | None = Field(default=None, ge=0, le=2147483647, examples=[300])
    """For effect `NoExecute`: seconds that a worker stays once the taint is there. Left out: for good."""


Tolerations = Annotated[tuple[Toleration, ...], Field(max_length=32, strict=False)]


class TemplateMetadata(Part):
    """Labels and annotations added to worker pods."""

    labels: PodLabels = Field(default={}, examples=[{"team": "search"}])
    """Added to the pods' labels; those that Headrace itself sets stay."""
    annotations: PodAnnotations = Field(default={}, examples=[{"prometheus.io/scrape": "true"}])
    """Added to the pods' annotations."""


class PodTemplate(Part):
    """Part of a pod template that is laid over the one that Headrace makes; it wins, but for labels and selectors.

    Mappings merge, lists of named objects merge by `name`, other lists are replaced.
    """

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations added to worker pods."""
    spec: dict[str, Any] = Field(default={}, json_schema_extra=_FREE_FORM, examples=[{"priorityClassName": "serving"}])
    """Fields of a pod's spec, kept as they are written; the API server checks them once the pods are made."""

    @property
    def manifest(self) -> dict[str, Any]:
        """The template as a plain mapping, without what was left out."""
        return self.model_dump(by_alias=True, exclude_defaults=True)


class Workers(Part):
    """What prefill and decode workers have in common."""

    threads: int | None = Field(default=None, ge=1, le=1024, examples=[4])
    """Compute threads of each worker on a CPU. Left out: the node's processors shared evenly by its workers; in a
    cluster, what the worker's processor limit allows."""
    resources: Requirements = Requirements()
    """How much of a node each worker is given. Local mode ignores it."""
    node_selector: PodLabels = Field(default={}, examples=[{"topology.kubernetes.io/zone": "a"}])
    """Labels that a node must have to get these workers. Local mode ignores it."""
    tolerations: Tolerations = Field(default=(), examples=[[{"key": "nvidia.com/gpu", "operator": "Exists"}]])
    """Taints of nodes that do not keep these workers away. Local mode ignores it."""
    template: PodTemplate = PodTemplate()
    """Laid over the pod template of these workers, after `spec.template`. Local mode ignores it."""
