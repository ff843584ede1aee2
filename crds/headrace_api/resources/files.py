"""Reads resources from YAML files and turns every fault into a sentence with its file and line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from headrace_api.names import API_VERSION
from headrace_api.resources.deployment import LLMDeployment
from headrace_api.resources.errors import ManifestError
from headrace_api.resources.loader import Loader
from headrace_api.resources.meta import Resource
from headrace_api.resources.pool import LLMPool
from headrace_api.resources.router import LLMRouter
from headrace_api.resources.sentences import Location, sentence

KINDS: Final[dict[str, type[Resource]]] = {"LLMDeployment": LLMDeployment, "LLMRouter": LLMRouter}
"""What users write; an LLMPool is the operator's own."""
MAX_FILE_BYTES: Final = 4 * 1024 * 1024
"""A resource is a page of text; a larger file is some other file."""


def load_manifests(path: str | Path) -> list[Resource]:
    """Return the resources in the file at `path`, one per YAML document; raise ManifestError naming every fault."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise ManifestError(f"{path}: is larger than {MAX_FILE_BYTES} bytes; this is no file of resources")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: is no UTF-8 text (byte {error.start})") from error
    return parse_manifests(text, str(path))


def parse_manifests(text: str, source: str) -> list[Resource]:
    """Return the resources in `text`; `source` names it in the sentences of ManifestError."""
    resources = []
    faults: list[str] = []
    for node in _documents(text, source):
        try:
            resources.append(_resource(node, source))
        except ManifestError as error:
            faults.append(str(error))
    faults += _duplicates(resources, source) if not faults else []
    if not faults and not resources:
        faults.append(f"{source}: holds no resource; write one with apiVersion: {API_VERSION} and a kind")
    if faults:
        raise ManifestError("\n".join(faults))
    return resources


def _documents(text: str, source: str) -> list[yaml.Node]:
    """Return the root node of each document that is not empty."""
    try:
        nodes = list(yaml.compose_all(text, Loader=Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{source}:{mark.line + 1}" if mark else source
        raise ManifestError(f"{place}: is no valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ManifestError(f"{source}: is no valid YAML: {error}") from error
    return [node for node in nodes if node.tag != "tag:yaml.org,2002:null"]


def _resource(node: yaml.Node, source: str) -> Resource:
    """Return the resource in one document."""
    if not isinstance(node, yaml.MappingNode):
        raise ManifestError(f"{_place(node, (), source)}: a resource is a mapping with apiVersion, kind and spec")
    if repeated := list(_repeated_keys(node)):
        raise ManifestError("\n".join(f"{source}:{line}: {key!r} is written twice" for key, line in repeated))
    document = _construct(node, source)
    model = _model(document, node, source)
    try:
        return model.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        lines = [
            f"{_place(node, fault['loc'], source)}: {sentence(model, fault)}"
            for fault in _deepest(error.errors(include_url=False))
        ]
        raise ManifestError("\n".join(lines)) from error


def _deepest(faults: list[ErrorDetails]) -> list[ErrorDetails]:
    """Return the faults without those that only follow from another fault further inside."""
    places = [fault["loc"] for fault in faults]
    return [
        fault
        for fault in faults
        if not any(len(place) > len(fault["loc"]) and place[: len(fault["loc"])] == fault["loc"] for place in places)
    ]


def _construct(node: yaml.MappingNode, source: str) -> dict[object, object]:
    """Return the plain data of a document."""
    loader = Loader("")
    try:
        document = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise ManifestError(f"{_place(node, (), source)}: is no valid YAML: {error.problem}") from error
    finally:
        loader.dispose()
    assert isinstance(document, dict)
    return document


def _model(document: dict[object, object], node: yaml.Node, source: str) -> type[Resource]:
    """Return the class that the document's apiVersion and kind name."""
    version = document.get("apiVersion")
    if version != API_VERSION:
        found = "is missing" if version is None else f"is {version!r}"
        raise ManifestError(f"{_place(node, ('apiVersion',), source)}: apiVersion {found}; known is {API_VERSION}")
    kind = document.get("kind")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if kind == LLMPool.__name__:
        raise ManifestError(
            f"{_place(node, ('kind',), source)}: kind LLMPool is the operator's own, made for each role of an "
            "LLMDeployment; write an LLMDeployment, and set its prefill.replicas and decode.replicas"
        )
    if model is None:
        found = "is missing" if kind is None else f"is {kind!r}"
        raise ManifestError(f"{_place(node, ('kind',), source)}: kind {found}; known are {' and '.join(KINDS)}")
    return model


def _repeated_keys(node: yaml.Node) -> Iterator[tuple[str, int]]:
    """Yield each key that a mapping below `node` has twice, with its line; YAML would keep the last one silently."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    yield key.value, key.start_mark.line + 1
                seen.add(key.value)
            yield from _repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated_keys(item)


def _place(node: yaml.Node, location: Location, source: str) -> str:
    """Return `source:line` of the deepest node on the way to `location`."""
    line = node.start_mark.line + 1
    for step in location:
        found = _child(node, step)
        if found is None:
            break
        node, line = found
    return f"{source}:{line}"


def _child(node: yaml.Node, step: str | int) -> tuple[yaml.Node, int] | None:
    """Return the child of `node` under `step` and the line of its key, None where there is none."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step].start_mark.line + 1
    return None


def _duplicates(resources: list[Resource], source: str) -> list[str]:
    """Return a sentence for each (kind, name) that occurs twice."""
    seen: set[tuple[str, str]] = set()
    faults = []
    for resource in resources:
        identity = (resource.kind, resource.metadata.name)
        if identity in seen:
            faults.append(f"{source}: has two resources {identity[0]} {identity[1]}; give each its own name")
        seen.add(identity)
    return faults
