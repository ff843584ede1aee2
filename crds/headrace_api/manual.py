"""The reference page of the resources, from the same schemas that the API server gets."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from headrace_api.names import API_VERSION
from headrace_api.resources.cascade import KEY_PATTERN
from headrace_api.resources.kv import RDMA_PATTERN
from headrace_api.resources.labels import LABEL_PATTERN, NAME_PATTERN, OBJECT_PATTERN, VALUE_PATTERN
from headrace_api.resources.model import MODEL_URI_PATTERN
from headrace_api.resources.money import CURRENCY_PATTERN, TENANT_PATTERN
from headrace_api.resources.percent import PERCENT_PATTERN
from headrace_api.resources.quantity import AMOUNT_PATTERN, DURATION_PATTERN, QUANTITY_PATTERN
from headrace_api.resources.scaling import ADDRESS_PATTERN, RATIO_PATTERN

_HEAD: Final = f"""\
<!-- Generated from crds/headrace_api/resources by `python -m headrace_api.generate`; edit those. -->

# Resources

Every field of `{API_VERSION}`. A field that is neither required nor has a default may be left out; its meaning says
what holds then. Unknown fields are refused. `kubectl explain llm.spec.kv` shows the same words, and
`headrace render FILE` prints a file with all its defaults. The rules between fields need Kubernetes 1.29 or newer.
"""
_WORDS: Final[Mapping[str, str]] = {
    ADDRESS_PATTERN: "`http://` or `https://`, a host, perhaps a port and a path",
    CURRENCY_PATTERN: "three capital letters",
    AMOUNT_PATTERN: "such as `2`, `500m`, `1.5Gi`",
    DURATION_PATTERN: "such as `500ms`, `30s`, `1h30m`",
    KEY_PATTERN: "letters, digits, dashes, points, underscores",
    LABEL_PATTERN: "lower-case letters, digits, dashes",
    MODEL_URI_PATTERN: "one of the forms that the meaning tells",
    NAME_PATTERN: "a lower-case letter, then letters, digits, dashes",
    OBJECT_PATTERN: "lower-case letters, digits, dashes, points",
    PERCENT_PATTERN: "or `0%` to `100%`",
    QUANTITY_PATTERN: "such as `1048576`, `512Mi`, `2G`",
    RATIO_PATTERN: "two whole numbers, such as `1:3`",
    RDMA_PATTERN: "`domain/name`",
    TENANT_PATTERN: "letters, digits, dashes, points, underscores, `@`",
    VALUE_PATTERN: "letters, digits, dashes, points, underscores",
}
"""What a pattern says, for people."""
_UNITS: Final = {"Length": "characters", "Items": "entries", "Properties": "entries"}
_Node = dict[str, Any]


def page(schemas: Mapping[str, _Node]) -> str:
    """Return the page, given the structural schema of each kind."""
    return "\n".join([_HEAD, *(_kind(name, schema) for name, schema in schemas.items())])


def _kind(name: str, schema: _Node) -> str:
    """Return all mappings of one kind; those that are equal, such as those of both roles, are told once."""
    places: dict[str, list[str]] = {}
    for part in ("spec", "status"):
        for path, node in _mappings(part, schema["properties"][part]):
            places.setdefault(_section(node), []).append(path)
    sections = (f"### {', '.join(paths)}\n\n{text}" for text, paths in places.items())
    return "\n".join([f"## {name}\n\n{schema['description']}\n", *sections])


def _mappings(path: str, node: _Node) -> Iterator[tuple[str, _Node]]:
    """Yield the mapping at `path` and all those inside it, in the order of the fields."""
    if "properties" in node:
        yield path, node
        for name, field in node["properties"].items():
            yield from _mappings(f"{path}.{name}", field)
    elif "items" in node:
        yield from _mappings(f"{path}[]", node["items"])


def _section(node: _Node) -> str:
    """Return a mapping and the fields that stand directly in it, as Markdown."""
    required = node.get("required", ())
    rows = [_row(name, field, name in required) for name, field in node["properties"].items()]
    head = ["| field | type | default | bounds | meaning | example |", "|---|---|---|---|---|---|"]
    rules = [_rule(rule) for rule in node.get("x-kubernetes-validations", ())]
    pieces = [node["description"], "\n".join([*head, *rows])]
    return "\n\n".join([*pieces, *(["Refused where:", "\n".join(rules)] if rules else [])]) + "\n"


def _row(name: str, field: _Node, required: bool) -> str:  # noqa: FBT001 (a cell of the row)
    default = "required" if required else _value(field["default"]) if field.get("default", {}) != {} else ""
    cells = (f"`{name}`", _type(field), default, _bounds(field), field["description"], _value(field.get("example")))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _rule(rule: _Node) -> str:
    """Return what a rule demands; an expression is shown by the texts in it."""
    text = rule.get("message") or rule["messageExpression"].partition("'.format(")[0].strip("'").replace("%s", "…")
    return f"- {text}"


def _type(field: _Node) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if "items" in field:
        return f"list of {_type(field['items'])}"
    if "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}"
    return str(field["type"])


def _bounds(field: _Node) -> str:
    """Return all that limits the value, in words."""
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    words = [*_limits(field), *_limits(field.get("additionalProperties", {}))]
    return "; ".join(words)


def _limits(field: _Node) -> Iterator[str]:
    if "maximum" in field:
        yield f"{field['minimum']} to {field['maximum']}"
    for key, unit in _UNITS.items():
        if f"max{key}" in field and "x-kubernetes-int-or-string" not in field:
            least = f"{field[f'min{key}']} to" if f"min{key}" in field else "at most"
            yield f"{least} {field[f'max{key}']} {unit}"
    if "pattern" in field:
        yield _WORDS[field["pattern"]]


def _value(value: Any) -> str:
    """Return a value as it stands in YAML, on one line."""
    if value is None:
        return ""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"
