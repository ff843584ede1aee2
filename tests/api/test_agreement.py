"""A real API server and the models give the same verdict on the same manifests."""

from collections.abc import Iterator

import pytest
import yaml
from e2e.cluster.api import ApiCluster
from tests.api.manifests import INVALID, VALID, Case
from tests.api.server import Server, asking

from headrace_api.resources import LLMPool, ManifestError, Resource, parse_manifests

pytestmark = pytest.mark.processes


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


def test_every_title_is_used_once() -> None:
    titles = [case.title for case in (*VALID, *INVALID)]
    assert len(titles) == len(set(titles))
