"""A real API server and the models give the same verdict on the same manifests."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import yaml
from e2e.cluster.api import ApiCluster
from pydantic import ValidationError
from tests.api.manifests import EVERYTHING, INVALID, ODD, VALID, Case
from tests.api.server import Server, asking

from headrace_api.generate import MODELS, schema
from headrace_api.resources import LLMDeployment, LLMPool, ManifestError, Resource, parse_manifests

pytestmark = pytest.mark.processes
Path = tuple[str | int, ...]


@pytest.fixture(scope="module")
def server(api_cluster: ApiCluster) -> Iterator[Server]:
    with asking(api_cluster.kubeconfig) as server:
        yield server


def read(case: Case) -> Resource:
    """Return the manifest as Python reads it; raise ValueError where it is refused."""
    if case.kind == "LLMPool":
        return LLMPool.model_validate(case.manifest, by_alias=True, by_name=False)
    (resource,) = parse_manifests(yaml.safe_dump(case.manifest), "x.yaml")
    return resource


@pytest.mark.parametrize("case", VALID, ids=str)
def test_both_take_what_is_valid_and_fill_in_the_same_defaults(server: Server, case: Case) -> None:
    ours = read(case)
    for way in case.ways:
        answer = server.ask(case.manifest, way)
        assert answer.is_success, answer.text
        theirs = answer.json()
        assert type(ours).model_validate(theirs).model_dump(include={"spec"}) == ours.model_dump(include={"spec"})
        assert leaves(theirs["spec"]) == leaves(ours.model_dump(by_alias=True, mode="json")["spec"])


def leaves(value: object, place: str = "spec") -> set[str]:
    """Return where there is a value; a mapping or a list without any says nothing."""
    if isinstance(value, dict):
        return {leaf for key, inner in value.items() for leaf in leaves(inner, f"{place}.{key}")}
    if isinstance(value, list):
        return {leaf for number, inner in enumerate(value) for leaf in leaves(inner, f"{place}[{number}]")}
    return set() if value is None else {place}


@pytest.mark.parametrize("case", INVALID, ids=str)
def test_both_refuse_what_is_invalid_and_the_server_names_the_field(server: Server, case: Case) -> None:
    assert case.named is not None
    for way in case.ways:
        refusal = server.verdict(case.manifest, way)
        assert refusal is not None
        assert case.named in refusal
    with pytest.raises((ManifestError, ValueError)):
        read(case)


@pytest.mark.parametrize("kind", MODELS)
def test_both_think_alike_of_odd_values_in_every_field(server: Server, kind: type[Resource]) -> None:
    differences = []
    for path in paths(schema(kind)["properties"]["spec"], ("spec",)):
        for value in ODD:
            manifest = replaced(kind, path, value)
            refusal = server.verdict(manifest, "create")
            if (refusal is None) != is_valid(kind, manifest):
                differences.append((path, value, refusal))
    assert differences == []


def paths(node: dict[str, Any], place: Path) -> Iterator[Path]:
    """Yield the place of each field, of the first entry of each list and of a key in each mapping."""
    yield place
    for name, field in node.get("properties", {}).items():
        yield from paths(field, (*place, name))
    if "items" in node:
        yield from paths(node["items"], (*place, 0))
    if "additionalProperties" in node:
        yield from paths(node["additionalProperties"], (*place, "key"))


def replaced(kind: type[Resource], path: Path, value: object) -> dict[str, Any]:
    """Return a valid manifest, with all fields where there are many, but for one value."""
    manifest = Case("", EVERYTHING if kind is LLMDeployment else {}, kind=kind.__name__).manifest
    place: Any = manifest
    for step, following in pairwise(path):
        if step not in place and not isinstance(place, list):
            place[step] = [{}] if following == 0 else {}
        place = place[step]
    place[path[-1]] = value
    return manifest


def is_valid(kind: type[Resource], manifest: dict[str, Any]) -> bool:
    try:
        kind.model_validate(manifest, by_alias=True, by_name=False)
    except ValidationError:
        return False
    return True


def test_every_title_is_used_once() -> None:
    titles = [case.title for case in (*VALID, *INVALID)]
    assert len(titles) == len(set(titles))
