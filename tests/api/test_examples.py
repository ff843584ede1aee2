"""The examples hold on a real API server as they do in Python, and each stays as small as its feature."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from e2e.cluster.api import ApiCluster
from tests.api.server import Server, asking

from headrace_api.resources import load_manifests

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.fixture(scope="module")
def server(api_cluster: ApiCluster) -> Iterator[Server]:
    with asking(api_cluster.kubeconfig) as server:
        yield server


@pytest.mark.processes
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_api_server_takes_every_example_as_python_reads_it(server: Server, path: Path) -> None:
    resources = load_manifests(path)
    documents = list(yaml.safe_load_all(path.read_text()))
    assert len(documents) == len(resources)
    for document, ours in zip(documents, resources, strict=True):
        stored = server.ask(document, "create")
        assert stored.is_success, stored.text
        assert server.verdict(document, "apply") is None
        assert type(ours).model_validate(stored.json()).model_dump(include={"spec"}) == ours.model_dump(
            include={"spec"}
        )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_page_that_says_what_it_shows(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 35
    assert path.stem == "smollm2" or lines[0].startswith("# ")


def test_examples_of_different_files_can_live_in_one_namespace() -> None:
    named = [(resource.kind, resource.metadata.name) for path in EXAMPLES for resource in load_manifests(path)]
    assert len(named) == len(set(named))
