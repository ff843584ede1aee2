"""Writes what follows from the models: `python -m headrace_api.generate [--check] [ROOT]`.

That is the CustomResourceDefinitions (`crds/*.yaml`) and the reference page (`docs/reference/resources.md`).
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from headrace_api.manual import page
from headrace_api.names import GROUP, VERSION
from headrace_api.resources.deployment import LLMDeployment
from headrace_api.resources.labels import NAME_PATTERN
from headrace_api.resources.meta import Resource
from headrace_api.resources.pool import LLMPool
from headrace_api.resources.router import LLMRouter

HEADER: Final = "# Generated from crds/headrace_api/resources by `python -m headrace_api.generate`; edit those.\n"
MODELS: Final[tuple[type[Resource], ...]] = (LLMDeployment, LLMPool, LLMRouter)
_KEPT: Final = frozenset(
    {
        "default",
        "description",
        "enum",
        "format",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
        "type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
    }
)
_NAME_RULE: Final = {
    "rule": f"self.metadata.name.matches('{NAME_PATTERN}')",
    "message": "metadata.name must be a lower-case letter, then letters, digits and dashes, at most 63 in all",
}


_AGE: Final = ("Age", "date", ".metadata.creationTimestamp")


def _column(head: str, kind: str, path: str) -> dict[str, Any]:
    """Return one column of `kubectl get`; what only `-o wide` shows has priority 1."""
    wide = {"priority": 1} if head.endswith("*") else {}
    return {"name": head.removesuffix("*"), "type": kind, "jsonPath": path, **wide}


def definition(model: type[Resource]) -> dict[str, Any]:
    """Return the CustomResourceDefinition of one kind."""
    kind = model.__name__
    singular = kind.lower()
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{model.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": model.plural,
                "singular": singular,
                **({"shortNames": [model.short_name]} if model.short_name != singular else {}),
                "categories": list(model.categories),
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}, **({"scale": model.scale} if model.scale else {})},
                    "additionalPrinterColumns": [_column(*column) for column in (*model.columns, _AGE)],
                    "schema": {"openAPIV3Schema": schema(model)},
                }
            ],
        },
    }


def schema(model: type[Resource]) -> dict[str, Any]:
    """Return the structural schema of one kind; `metadata` is the API server's own."""
    raw = model.model_json_schema(by_alias=True)
    root = _structural(raw, raw.get("$defs", {}))
    root["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    root["required"] = ["spec"]
    root["x-kubernetes-validations"] = [_NAME_RULE]
    return root


def _structural(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a node of JSON schema as Kubernetes takes it: no references, no `anyOf`, no titles."""
    node = _resolved(node, definitions)
    kept = {key: value for key, value in node.items() if key in _KEPT and not (key == "default" and value is None)}
    if "const" in node:
        kept["enum"] = [node["const"]]
    if "description" in kept:
        kept["description"] = " ".join(kept["description"].split())
    if node.get("examples"):
        kept["example"] = node["examples"][0]
    if node.get("x-kubernetes-int-or-string"):
        kept.pop("type", None)
        kept |= {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    if "properties" in node:
        kept["properties"] = {name: _structural(value, definitions) for name, value in node["properties"].items()}
        kept |= {"required": node["required"]} if node.get("required") else {}
    elif isinstance(node.get("additionalProperties"), dict):
        kept["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    if "items" in node:
        kept["items"] = _structural(node["items"], definitions)
    return kept if _fills_in(kept) else {key: value for key, value in kept.items() if key != "default"}


def _fills_in(node: dict[str, Any]) -> bool:
    """Say whether the node's default changes anything; an empty list or mapping does only where a field inside has one.

    The API server would store it in every object all the same.
    """
    inner = node.get("properties", {}).values()
    return node.get("default") not in ({}, []) or any("default" in field for field in inner)


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the node with its reference and its `X | None` replaced by X; the node's own keys win.

    A default of a whole mapping is written `{}`: the API server then fills in the defaults inside.
    """
    own = {key: value for key, value in node.items() if key not in {"$ref", "anyOf"}}
    if reference := node.get("$ref"):
        target = _resolved(definitions[reference.rpartition("/")[2]], definitions)
        if isinstance(own.get("default"), dict):
            own["default"] = {}
        return target | own
    if options := [option for option in node.get("anyOf", ()) if option.get("type") != "null"]:
        return _resolved(options[0], definitions) | own
    return own


def render(model: type[Resource]) -> str:
    """Return the definition of one kind as the text of its file."""
    return HEADER + yaml.safe_dump(definition(model), sort_keys=False, width=120, allow_unicode=True)


def files(root: Path) -> dict[Path, str]:
    """Return the text of every generated file of the tree at `root`."""
    schemas = {model.__name__: schema(model) for model in MODELS}
    definitions = {root / "crds" / f"{model.plural}.yaml": render(model) for model in MODELS}
    return {**definitions, root / "docs" / "reference" / "resources.md": page(schemas)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or with `--check` say which of them differ; return the exit status."""
    return generate(
        files, Path(__file__).resolve().parents[2], arguments, module="headrace_api.generate", about=__doc__
    )


def generate(
    files: Callable[[Path], Mapping[Path, str]],
    root: Path,
    arguments: Sequence[str] | None,
    *,
    module: str,
    about: str | None,
) -> int:
    """Run a generator of files from the command line; return the exit status.

    Args:
        files: returns the text of every file of the tree at a root.
        root: of the tree, where the command line names none.
        arguments: of the command line; None takes the process's own.
        module: that makes them, named in the command that a user is told.
        about: what `--help` says of it.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("root", nargs="?", type=Path, default=root)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    options = parser.parse_args(arguments)
    wanted = files(options.root)
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if options.check:
            sys.stderr.write(f"{path} is out of date; run `python -m {module}`\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path])
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
