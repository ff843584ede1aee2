"""LLMRouter: several deployments behind one address."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from headrace_api.resources.labels import DnsLabel, Name
from headrace_api.resources.meta import Part, Resource
from headrace_api.resources.status import RouterStatus


class Tier(Part):
    """One deployment that the router may send requests to."""

    name: DnsLabel = Field(examples=["small"])
    """Name of the tier, unique in the router."""
    deployment: Name = Field(examples=["smollm2"])
    """`metadata.name` of the LLMDeployment that serves this tier."""


class RouterSpec(Part):
    """Which deployments the router serves."""

    tiers: tuple[Tier, ...] = Field(
        min_length=1,
        max_length=64,
        strict=False,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        examples=[[{"name": "small", "deployment": "smollm2"}]],
    )
    """The deployments behind this router; it serves no others."""
    replicas: int = Field(default=1, ge=1, le=64, examples=[2])
    """Number of router pods; any of them takes any request. Local mode starts one process."""

    @model_validator(mode="after")
    def _name_tiers_apart(self) -> Self:
        if len({tier.name for tier in self.tiers}) < len(self.tiers):
            raise ValueError("two tiers have the same name; give each its own")
        return self


class LLMRouter(Resource):
    """One OpenAI-compatible address for several deployments."""

    plural: ClassVar = "llmrouters"
    short_name: ClassVar = "llmrouter"
    categories: ClassVar = ("headrace", "all")
    columns: ClassVar = (
        ("Replicas", "integer", ".spec.replicas"),
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Endpoint", "string", ".status.endpoint"),
        ("Reason*", "string", '.status.conditions[?(@.type=="Ready")].reason'),
    )

    kind: Literal["LLMRouter"] = "LLMRouter"
    """Which resource this is."""
    spec: RouterSpec
    """Which deployments the router serves."""
    status: RouterStatus | None = None
    """What the operator reports on it."""
