"""LLMPool: one role of one deployment, the place where its number of workers is set."""

from typing import ClassVar, Literal

from pydantic import Field

from headrace_api.resources.labels import Name
from headrace_api.resources.meta import Part, Resource
from headrace_api.resources.rules import immutable
from headrace_api.resources.status import PoolStatus


class PoolSpec(Part):
    """Which workers the pool holds, and how many."""

    deployment: Name = Field(examples=["chat"], json_schema_extra=immutable("deployment"))
    """`metadata.name` of the LLMDeployment whose workers these are; never changes."""
    role: Literal["prefill", "decode", "unified"] = Field(examples=["decode"], json_schema_extra=immutable("role"))
    """What the workers do; never changes."""
    replicas: int | None = Field(default=None, ge=0, le=1024, examples=[2])
    """Number of workers; written through the `scale` subresource by `kubectl scale`, an autoscaler or the operator."""


class LLMPool(Resource):
    """One role of one deployment; the operator makes it, anything that scales may set its replicas."""

    plural: ClassVar = "llmpools"
    short_name: ClassVar = "llmpool"
    scale: ClassVar = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    columns: ClassVar = (
        ("Deployment", "string", ".spec.deployment"),
        ("Role", "string", ".spec.role"),
        ("Desired", "integer", ".spec.replicas"),
        ("Current", "integer", ".status.replicas"),
        ("Ready", "integer", ".status.readyReplicas"),
        ("Revision*", "string", ".status.revision"),
    )

    kind: Literal["LLMPool"] = "LLMPool"
    """Which resource this is."""
    spec: PoolSpec
    """Which workers the pool holds, and how many."""
    status: PoolStatus | None = None
    """What the operator reports on it."""
