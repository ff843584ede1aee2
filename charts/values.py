"""The schema of the chart's values: `schema.yaml` with its shorthands written out and every object closed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from headrace_api.generate import schema as structural_schema
from headrace_api.resources import LLMDeployment, LLMRouter, Resource

Node = dict[str, Any]

SOURCE: Final = Path(__file__).with_name("schema.yaml")
_SPECS: Final[dict[str, type[Resource]]] = {"LLMDeployment": LLMDeployment, "LLMRouter": LLMRouter}
_NAME: Final = "^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"
_DIGEST: Final = "^(sha256:[0-9a-f]{64})?$"
_QUANTITY: Final = "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
_KUBERNETES: Final = "x-kubernetes-"


@dataclass(frozen=True, slots=True)
class Value:
    """One value that a user can set: the path with dots, and its node of the schema."""

    path: str
    node: Node


def schema() -> Node:
    """Return the schema as JSON Schema draft 7, which every helm 3 understands; references are written out."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart headrace",
        **_written_out(yaml.safe_load(SOURCE.read_text())),
    }


def settable(node: Node, path: str = "") -> Iterator[Value]:
    """Yield the values below `node`, in the order of the file; an object with properties is not one, they are."""
    if "properties" not in node:
        yield Value(path, node)
        return
    for name, inner in node["properties"].items():
        yield from settable(inner, f"{path}.{name}".removeprefix("."))


def default(node: Node) -> Any:
    """Return the value that holds where a user sets none."""
    if "properties" in node:
        return {name: default(inner) for name, inner in node["properties"].items()}
    return node["default"]


def _written_out(node: Node) -> Node:
    if "$use" in node:
        node = dict(node)
        return _SHORTHANDS[node.pop("$use")](**node)
    whole = dict(node)
    if "properties" in node:
        whole["properties"] = {name: _written_out(inner) for name, inner in node["properties"].items()}
        whole["additionalProperties"] = False
    if isinstance(node.get("items"), dict):
        whole["items"] = _written_out(node["items"])
    return whole


def _text(description: str, pattern: str, example: str, value: str = "") -> Node:
    return {"description": description, "type": "string", "pattern": pattern, "default": value, "examples": [example]}


def _image(description: str, repository: str) -> Node:
    name = "^[a-z0-9]([A-Za-z0-9.:/_-]*[A-Za-z0-9])?$"
    return _closed(
        description,
        repository=_text(
            "Its name. What `global.imageRegistry` says stands before it.", name, f"mine/{repository}", repository
        ),
        tag=_text(
            "Its tag. Left empty, the version of the chart's application.",
            "^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$",
            "1.2.3",
        ),
        digest=_text("Its digest, which goes before the tag.", _DIGEST, f"sha256:{'0' * 64}"),
    )


def _resources(description: str, requests: Node, limits: Node) -> Node:
    def amounts(text: str, value: Node, example: Node) -> Node:
        quantity = {"type": ["string", "number"], "pattern": _QUANTITY}
        return {
            "description": text,
            "type": "object",
            "additionalProperties": quantity,
            "default": value,
            "examples": [example],
        }

    return _closed(
        description,
        requests=amounts("What a node must have free.", requests, {"cpu": "1", "memory": "1Gi"}),
        limits=amounts("What it never gets more of.", limits, {"memory": "2Gi"}),
    )


def _resource(kind: str) -> Node:
    """Return the schema of one resource: its spec is the custom resource's own, so that helm refuses what is wrong."""
    spec = _own(structural_schema(_SPECS[kind])["properties"]["spec"])
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    closed = _closed(
        f"One {kind}.",
        name={"description": "Its name.", "type": "string", "pattern": _NAME},
        namespace={"description": "Its namespace. Left out, the release's.", "type": "string", "pattern": _NAME},
        labels={"description": "Its labels.", **texts},
        annotations={"description": "Its annotations.", **texts},
        spec={**spec, "description": f"Its spec: `kubectl explain {kind.lower()}.spec`, docs/reference/resources.md."},
    )
    return {**closed, "required": ["name", "spec"]}


_SHORTHANDS: Final[dict[str, Callable[..., Node]]] = {"image": _image, "resources": _resources, "resource": _resource}


def _closed(description: str, **properties: Node) -> Node:
    return {"description": description, "type": "object", "properties": properties, "additionalProperties": False}


def _own(node: Node) -> Node:
    """Return a node of a custom resource's schema as JSON Schema: the API server prunes what is unknown, this refuses.

    Defaults are left to the API server, and rules that span fields too.
    """
    kept = {key: value for key, value in node.items() if not key.startswith(_KUBERNETES) and key != "default"}
    if "example" in kept:
        kept["examples"] = [kept.pop("example")]
    if "properties" in node:
        kept["properties"] = {name: _own(inner) for name, inner in node["properties"].items()}
        kept["additionalProperties"] = bool(node.get(f"{_KUBERNETES}preserve-unknown-fields"))
    elif isinstance(node.get("additionalProperties"), dict):
        kept["additionalProperties"] = _own(node["additionalProperties"])
    if "items" in node:
        kept["items"] = _own(node["items"])
    return kept
