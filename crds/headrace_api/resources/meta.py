"""What every resource has: the strict base, the metadata, the head of a document."""

from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from headrace_api.resources.labels import Annotations, DnsLabel, Labels, Name
from headrace_api.resources.rules import Rule


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
    rules: ClassVar[tuple[Rule, ...]] = ()
    """What must hold between the fields; the generated schema carries the same rules."""

    @model_validator(mode="before")
    @classmethod
    def _read_as_the_api_server(cls, data: Any) -> Any:
        """Take an empty field for one left out, and 1.0 for 1: YAML and JSON write both."""
        if not isinstance(data, dict):
            return data
        known = {name for key, field in cls.model_fields.items() for name in (key, field.alias)}
        return {key: _whole(value) for key, value in data.items() if value is not None or key not in known}

    @model_validator(mode="after")
    def _keep_the_rules(self) -> Self:
        for rule in self.rules:
            if not rule.holds(self):
                raise ValueError(rule.sentence(self.model_dump(by_alias=True)))
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the rules to the schema of the mapping."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        if cls.rules:
            schema["x-kubernetes-validations"] = [rule.schema() for rule in cls.rules]
        return schema


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Metadata(Part):
    """Who the resource is, as the API server keeps it for every object."""

    name: Name = Field(examples=["smollm2"])
    """Name of the resource: a lower-case letter, then letters, digits and dashes, at most 63 in all. Clients use it as
    the model id."""
    namespace: DnsLabel = "default"
    """Kubernetes namespace; local mode ignores it."""
    labels: Labels = {}
    """Labels for the user's own selectors; not interpreted."""
    annotations: Annotations = {}
    """Notes for other tools; not interpreted."""
    finalizers: tuple[str, ...] | None = Field(default=None, strict=False)
    """What must be done by others before the object goes; not interpreted."""
    owner_references: tuple[dict[str, Any], ...] | None = Field(default=None, strict=False)
    """Objects with which this one goes; set by whoever made it."""
    uid: str | None = None
    """Written by the API server: tells apart two objects that had the same name."""
    resource_version: str | None = None
    """Written by the API server: changes with every write."""
    generation: int | None = None
    """Written by the API server: counts the changes of `spec`."""
    creation_timestamp: str | None = None
    """Written by the API server."""
    deletion_timestamp: str | None = None
    """Written by the API server once the object is being deleted."""
    deletion_grace_period_seconds: int | None = None
    """Written by the API server once the object is being deleted."""
    generate_name: str | None = None
    """The prefix of a name that the API server completed."""
    self_link: str | None = None
    """Written by old API servers; not interpreted."""
    managed_fields: tuple[dict[str, Any], ...] | None = Field(default=None, strict=False)
    """Written by the API server: who owns which field."""


class Resource(Part):
    """The head of every document."""

    plural: ClassVar[str]
    short_name: ClassVar[str]
    categories: ClassVar[tuple[str, ...]] = ("headrace",)
    """Words for `kubectl get` that list this kind among others."""
    columns: ClassVar[tuple[tuple[str, str, str], ...]] = ()
    """What `kubectl get` shows as (head, type, path), before the age; a head that ends in `*` shows with `-o wide`."""
    scale: ClassVar[dict[str, str] | None] = None
    """Paths of the `scale` subresource, None where nothing scales this kind."""

    api_version: Literal["serving.headrace.dev/v1alpha1"] = "serving.headrace.dev/v1alpha1"
    """Group and version of the schema."""
    kind: str
    """Which resource this is."""
    metadata: Metadata
    """Who the resource is."""
