"""What every resource has: the strict base, the metadata, the head of a document."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

DNS_LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
"""What Kubernetes takes as a Service's name; names of workers are made from it."""

DnsLabel = Annotated[str, Field(pattern=DNS_LABEL_PATTERN, max_length=63)]


class Part(BaseModel):
    """A mapping in a resource: unknown keys are refused, keys are camelCase, the docstring of a field is its manual."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        strict=True,
        use_attribute_docstrings=True,
    )


class Metadata(Part):
    """Who the resource is."""

    name: DnsLabel = Field(examples=["smollm2"])
    """Name of the resource: lower-case letters, digits and dashes, at most 63. Clients use it as the model id."""
    namespace: DnsLabel = "default"
    """Kubernetes namespace; local mode ignores it."""
    labels: dict[str, str] = {}
    """Labels for the user's own selectors; not interpreted."""
    annotations: dict[str, str] = {}
    """Notes for other tools; not interpreted."""


class Resource(Part):
    """The head of every document."""

    plural: ClassVar[str]
    short_name: ClassVar[str]
    rules: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Cross-field rules of the spec as (CEL expression, message); the model enforces the same ones."""

    api_version: Literal["serving.headrace.dev/v1alpha1"] = "serving.headrace.dev/v1alpha1"
    """Group and version of the schema."""
    kind: str
    """Which resource this is."""
    metadata: Metadata
    """Who the resource is."""
