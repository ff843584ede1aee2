"""Names as Kubernetes takes them: of objects, of labels and annotations, and what labels say."""

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field

NAME_PATTERN: Final = r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"
"""What Kubernetes takes as a Service's name (RFC 1035); Services are named like the resource."""
LABEL_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
"""What Kubernetes takes as the name of a namespace, and as one part of a longer name (RFC 1123)."""
OBJECT_PATTERN: Final = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
"""What Kubernetes takes as the name of most objects."""
KEY_PATTERN: Final = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
VALUE_PATTERN: Final = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=63)]
DnsLabel = Annotated[str, Field(pattern=LABEL_PATTERN, max_length=63)]
ObjectName = Annotated[str, Field(pattern=OBJECT_PATTERN, max_length=253)]
LabelValue = Annotated[str, Field(pattern=VALUE_PATTERN, max_length=63)]


def without_nulls(value: Any) -> Any:
    """Return a mapping without the keys that were left empty, as the API server takes them out."""
    return {key: inner for key, inner in value.items() if inner is not None} if isinstance(value, dict) else value


def _check_keys(mapping: dict[str, str]) -> dict[str, str]:
    for key in mapping:
        if re.fullmatch(KEY_PATTERN, key) is None:
            raise ValueError(f"{key!r} is no key of a label or annotation; write one such as team or example.com/team")
    return mapping


_MAX_KEYS: Final = 32
"""Bounds the cost of the rule over keys: the API server refuses a schema whose rules could cost too much."""
_KEYS: Final[dict[str, Any]] = {
    "x-kubernetes-validations": [
        {
            "rule": f"self.all(key, key.matches(r'{KEY_PATTERN}'))",
            "message": "a key of a label or annotation is malformed; write one such as team or example.com/team",
        }
    ]
}

Labels = Annotated[dict[str, LabelValue], BeforeValidator(without_nulls), AfterValidator(_check_keys)]
Annotations = Annotated[dict[str, str], BeforeValidator(without_nulls), AfterValidator(_check_keys)]

PodLabels = Annotated[
    dict[str, LabelValue],
    Field(max_length=_MAX_KEYS, json_schema_extra=_KEYS),
    BeforeValidator(without_nulls),
    AfterValidator(_check_keys),
]
"""Labels inside a spec, which only our own schema checks: of an object's metadata the API server does it itself."""
PodAnnotations = Annotated[
    dict[str, str],
    Field(max_length=_MAX_KEYS, json_schema_extra=_KEYS),
    BeforeValidator(without_nulls),
    AfterValidator(_check_keys),
]
