"""The chart's generated files, and the schema that they come from."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from charts.generate import MARK, main, rules
from charts.values import default, schema, settable
from tests.charts.chart import CHART, ROOT

from headrace_operator.rbac import CLUSTER_NEEDS, LEADER_NEEDS, NEEDS

FOREIGN: Final = {"namespaceSelector", "podSelector", "ipBlock", "affinity", "template", "spec"}
"""Objects of Kubernetes' own API; what is in them the API server judges."""
VALUES: Final = {value.path: value.node for value in settable(schema())}


def nodes(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, inner in node.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")


def test_the_files_in_the_tree_are_up_to_date() -> None:
    assert main(["--check", str(ROOT)]) == 0


def test_a_stale_file_is_named_and_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(tmp_path)])
    assert main(["--check", str(tmp_path)]) == 0
    chart = tmp_path / "charts" / "headrace"
    written = sorted(path.relative_to(chart) for path in chart.rglob("*") if path.is_file())
    assert len(written) == 7
    for name in written:
        text = (chart / name).read_text()
        (chart / name).write_text(text + "more")

        assert main(["--check", str(tmp_path)]) == 1
        assert f"{name} is out of date" in capsys.readouterr().err

        main([str(tmp_path)])
        assert (chart / name).read_text() == text


def test_what_a_person_wrote_in_the_manual_stays(tmp_path: Path) -> None:
    page = tmp_path / "charts" / "headrace" / "README.md"
    page.parent.mkdir(parents=True)
    page.write_text(f"written by hand\n\n{MARK}\nold")

    main([str(tmp_path)])

    assert page.read_text().startswith(f"written by hand\n\n{MARK}\n| value |")
    assert "from here on" in page.read_text()
    assert not page.read_text().endswith("old")


def test_the_values_are_the_defaults_of_the_schema() -> None:
    assert yaml.safe_load((CHART / "values.yaml").read_text()) == default(schema())


def test_every_value_is_in_the_table() -> None:
    told = [line.split("`")[1] for line in (CHART / "README.md").read_text().splitlines() if line.startswith("| `")]
    assert told == list(VALUES)


@pytest.mark.parametrize("path", VALUES)
def test_every_value_has_meaning_default_and_example(path: str) -> None:
    node = VALUES[path]
    assert node["description"].rstrip().endswith(".")
    assert node["examples"], path
    assert node["examples"][0] != node["default"] or path == "monitors.create"


def test_every_object_is_closed_or_a_map_or_foreign() -> None:
    written = json.loads((CHART / "values.schema.json").read_text())
    for path, node in nodes(written, "values"):
        if node.get("type") != "object":
            assert "properties" not in node, path
            continue
        if "properties" in node:
            closed = node.get("additionalProperties") is False
            assert closed or path.rpartition(".")[2] in FOREIGN, path
        elif not isinstance(node.get("additionalProperties"), dict):
            assert path.rpartition(".")[2] in FOREIGN, path


def test_no_reference_and_no_rule_of_the_api_server_is_left_in_the_schema() -> None:
    text = (CHART / "values.schema.json").read_text()
    assert "$ref" not in text
    assert "$use" not in text
    assert "x-kubernetes" not in text


def test_each_right_stands_below_its_reason() -> None:
    lines = rules().splitlines()
    told = [lines[number - 1] for number, line in enumerate(lines) if line.startswith("- apiGroups")]
    assert told == [f"# {need.why}" for need in (*NEEDS, *CLUSTER_NEEDS, *LEADER_NEEDS)]


def test_the_chart_has_the_version_of_the_distribution() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == project["version"]
    assert chart["version"] == project["version"]
