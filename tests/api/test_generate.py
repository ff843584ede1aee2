"""The generated CustomResourceDefinitions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace_api.generate import MODELS, definition, main
from headrace_api.resources import LLMDeployment, Resource

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "crds"


def nodes(schema: dict[str, Any], path: str = "spec") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def spec(kind: type[Resource]) -> dict[str, Any]:
    version = definition(kind)["spec"]["versions"][0]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def test_the_files_in_the_tree_are_up_to_date() -> None:
    assert main(["--check", str(ROOT)]) == 0


def test_a_stale_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    for name in ("crds/llmrouters.yaml", "docs/reference/resources.md"):
        (tmp_path / name).write_text("old")
        assert main(["--check", str(tmp_path)]) == 1
        assert f"{name} is out of date" in capsys.readouterr().err
        main([str(tmp_path)])


@pytest.mark.parametrize("kind", MODELS)
def test_every_field_has_a_manual(kind: type[Resource]) -> None:
    assert [path for path, node in nodes(spec(kind)) if not node.get("description") and not path.endswith("[]")] == []


@pytest.mark.parametrize("kind", MODELS)
def test_the_schema_is_structural(kind: type[Resource]) -> None:
    for path, node in nodes(spec(kind)):
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        assert not {"$ref", "title", "const", "oneOf", "allOf"} & node.keys(), path
        assert node.get("x-kubernetes-int-or-string") or "anyOf" not in node, path


def test_defaults_bounds_and_rules_reach_the_schema() -> None:
    deployment = spec(LLMDeployment)
    assert deployment["properties"]["kv"]["properties"]["blockSize"] | {"description": ""} == {
        "description": "",
        "type": "integer",
        "default": 16,
        "minimum": 1,
        "maximum": 256,
        "example": 16,
    }
    assert deployment["properties"]["kv"]["default"] == {}
    assert len(deployment["x-kubernetes-validations"]) == 4


def test_what_something_scales_has_no_default() -> None:
    properties = spec(LLMDeployment)["properties"]
    assert "default" not in properties["prefill"]["properties"]["replicas"]
    assert "default" not in properties["decode"]["properties"]["replicas"]


def test_names_keep_the_group_and_plural_apart() -> None:
    text = yaml.safe_load((FOLDER / "llmdeployments.yaml").read_text())
    assert text["metadata"]["name"] == "llmdeployments.serving.headrace.dev"
    assert text["spec"]["names"]["shortNames"] == ["llm"]
