"""Everything that the chart renders, judged by a real API server: strict about fields, strict about pods."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pytest
import yaml
from e2e.cluster.api import ApiCluster
from e2e.cluster.errors import CommandError
from e2e.cluster.golang import module_folder
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.versions import Module
from tests.charts.cases import EVERYTHING, NAMESPACED, SNAPSHOTS
from tests.charts.chart import CHART, Helm, Object, pods

pytestmark = pytest.mark.processes
NAMESPACE: Final = "chart-strict"
OTHERS: Final = {name: f"{NAMESPACE}-{name}" for name in ("team", "other", "more")}
RESTRICTED: Final = {"pod-security.kubernetes.io/enforce": "restricted"}
PROMETHEUS: Final = Module("prometheus", "github.com/prometheus-operator/prometheus-operator", "v0.85.0")
PROMETHEUS_KINDS: Final = ("servicemonitor", "podmonitor", "prometheusrule")
_DRY: Final = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")


@pytest.fixture(scope="module")
def kubectl(api_cluster: ApiCluster) -> Iterator[Kubectl]:
    kubectl = Kubectl(api_cluster.kubectl, api_cluster.kubeconfig)
    names = [NAMESPACE, *OTHERS.values()]
    accounts = ("headrace-operator", "headrace-resources", "operator", "serving-resources")
    kubectl.apply(
        [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n, "labels": RESTRICTED}} for n in names]
    )
    kubectl.apply(
        [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}}
            for name in accounts
        ]
    )
    yield kubectl
    kubectl("delete", "namespace", *names, "--wait=false")


def rendered(helm: Helm, values: Object) -> list[Object]:
    """Return what is rendered into the namespaces of this test, but for kinds that the cluster does not know."""
    text = json.dumps(values)
    for name, own in OTHERS.items():
        text = text.replace(f'"{name}"', f'"{own}"')
    objects = helm.template(json.loads(text), namespace=NAMESPACE)
    return [one for one in objects if not one["apiVersion"].startswith("monitoring.")]


def ask(kubectl: Kubectl, objects: list[Object]) -> list[str]:
    """Return what the server would store, without storing it."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    return kubectl(*_DRY, "-o", "name", stdin=text, timeout_s=120).split()


@pytest.mark.parametrize("case", SNAPSHOTS)
def test_the_api_server_takes_every_object_as_it_is(helm: Helm, kubectl: Kubectl, case: str) -> None:
    objects = rendered(helm, SNAPSHOTS[case])
    assert len(ask(kubectl, objects)) == len(objects)


@pytest.mark.parametrize("values", [EVERYTHING, NAMESPACED], ids=["everything", "namespaced"])
def test_every_pod_is_let_into_a_restricted_namespace(helm: Helm, kubectl: Kubectl, values: Object) -> None:
    for name, pod in pods(rendered(helm, values)).items():
        one = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "one", "namespace": NAMESPACE, "labels": pod["metadata"]["labels"]},
            "spec": {**pod["spec"], "priorityClassName": ""},
        }
        assert ask(kubectl, [one]) == ["pod/one"], name


def test_a_pod_beyond_the_profile_is_refused_there(kubectl: Kubectl) -> None:
    one = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "namespace": NAMESPACE},
        "spec": {"containers": [{"name": "one", "image": "none"}]},
    }
    with pytest.raises(CommandError, match='violates PodSecurity "restricted'):
        ask(kubectl, [one])


@pytest.fixture
def prometheus(kubectl: Kubectl) -> Iterator[None]:
    """The kinds of Prometheus operator, from its own module."""
    if shutil.which("go") is None:
        pytest.skip("the definitions come as a Go module, and there is no Go here")
    try:
        folder = module_folder(PROMETHEUS) / "example" / "prometheus-operator-crd"
    except CommandError as error:
        pytest.skip(f"the definitions cannot be had: {error}")
    kinds = [str(folder / f"monitoring.coreos.com_{kind}s.yaml") for kind in PROMETHEUS_KINDS]
    files = [word for kind in kinds for word in ("-f", kind)]
    kubectl("apply", "--server-side", *files)
    kubectl.await_served(*files, timeout_s=30)
    yield
    kubectl("delete", "--wait=false", *files)


@pytest.mark.usefixtures("prometheus")
def test_helm_finds_out_that_monitors_are_served_and_they_are_taken(helm: Helm, kubectl: Kubectl) -> None:
    values = {"crds": {"create": False}, "monitors": {"interval": "15s", "labels": {"release": "prometheus"}}}
    there = replace(helm, kubeconfig=kubectl.kubeconfig)

    answer = there(
        "install", "headrace", str(CHART), "-n", OTHERS["more"], "--dry-run=server", "-o", "json", values=values
    )

    objects = yaml.safe_load_all(json.loads(answer)["manifest"])
    monitors = [one for one in objects if one["apiVersion"].startswith("monitoring.")]
    assert {one["kind"] for one in monitors} == {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
    assert len(ask(kubectl, monitors)) == 3
