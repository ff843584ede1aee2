"""What the operator reports on each resource; nobody else writes these fields."""

from typing import Annotated, Literal

from pydantic import Field

from headrace_api.resources.meta import Part


class Condition(Part):
    """One thing that holds, does not hold, or is not known."""

    type: str = Field(max_length=316, examples=["Ready"])
    """What is told: Planned, WeightsReady, PrefillReady, DecodeReady, KVTransferVerified, RouterReady, ScalingActive,
    Ready or Degraded."""
    status: Literal["True", "False", "Unknown"] = Field(examples=["True"])
    """Whether it holds."""
    reason: str = Field(max_length=1024, examples=["HandoffVerified"])
    """Why, in one word for programs."""
    message: str = Field(default="", max_length=32768, examples=["a probe's KV went from chat-prefill to chat-decode"])
    """Why, in a sentence for people, with what to do."""
    last_transition_time: str = Field(json_schema_extra={"format": "date-time"}, examples=["2026-01-31T12:00:00Z"])
    """When `status` last changed."""
    observed_generation: int | None = Field(default=None, examples=[3])
    """The `metadata.generation` that this was told of."""


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        max_length=32,
        strict=False,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class RoleStatus(Part):
    """The workers of one role."""

    replicas: int | None = Field(default=None, examples=[2])
    """Workers that are wanted."""
    ready: int | None = Field(default=None, examples=[1])
    """Workers that may have traffic: their model is loaded and their hand-off was proved."""
    summary: str | None = Field(default=None, examples=["1/2"])
    """`ready` and `replicas` in one text, for `kubectl get`."""


class RevisionStatus(Part):
    """Hash of the newest pod template and settings of each role."""

    prefill: str | None = Field(default=None, examples=["1f0c44ab"])
    """Revision of the prefill workers; absent where prompts have no workers of their own."""
    decode: str | None = Field(default=None, examples=["9b27e610"])
    """Revision of the decode (or unified) workers."""


class DeploymentStatus(Part):
    """What the operator reports on an LLMDeployment."""

    observed_generation: int | None = Field(default=None, examples=[3])
    """The `metadata.generation` that the operator acted on last."""
    conditions: Conditions = ()
    """What holds and what does not, with reasons; `Ready` sums them up."""
    mode: Literal["disaggregated", "unified"] | None = Field(default=None, examples=["disaggregated"])
    """Whether prompts run on workers of their own."""
    prefill: RoleStatus | None = Field(default=None, examples=[{"replicas": 2, "ready": 1, "summary": "1/2"}])
    """The prefill workers."""
    decode: RoleStatus | None = Field(default=None, examples=[{"replicas": 2, "ready": 2, "summary": "2/2"}])
    """The decode (or unified) workers."""
    endpoint: str | None = Field(default=None, examples=["http://chat.default.svc"])
    """Where clients reach the model inside the cluster; absent without a router."""
    revision: RevisionStatus | None = Field(default=None, examples=[{"prefill": "1f0c44ab", "decode": "9b27e610"}])
    """Hash of the newest pod template and settings of each role."""


class PoolStatus(Part):
    """What the operator reports on an LLMPool."""

    observed_generation: int | None = Field(default=None, examples=[2])
    """The `metadata.generation` that the operator acted on last."""
    replicas: int | None = Field(default=None, examples=[2])
    """Workers that exist, of all revisions."""
    ready_replicas: int | None = Field(default=None, examples=[2])
    """Workers that may have traffic."""
    selector: str | None = Field(default=None, examples=["serving.headrace.dev/deployment=chat"])
    """Label selector of the pool's pods, as a text: autoscalers read their load through it."""
    revision: str | None = Field(default=None, examples=["9b27e610"])
    """Hash of the newest pod template and settings."""


class RouterStatus(Part):
    """What the operator reports on an LLMRouter."""

    observed_generation: int | None = Field(default=None, examples=[1])
    """The `metadata.generation` that the operator acted on last."""
    conditions: Conditions = ()
    """What holds and what does not, with reasons; `Ready` sums them up."""
    endpoint: str | None = Field(default=None, examples=["http://front.default.svc"])
    """Where clients reach the router inside the cluster."""
