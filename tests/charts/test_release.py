"""The life of a release on a bare cluster, with the real helm: install, upgrade, rollback, uninstall."""

import base64
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from e2e.cluster.api import ApiCluster
from e2e.cluster.deadline import wait_until
from e2e.cluster.errors import CommandError
from e2e.cluster.home import user_home
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.versions import API_PROGRAMS
from tests.charts.cases import MODEL
from tests.charts.chart import CHART, Helm, Object, pick
from tests.charts.script import run, start_operator

from headrace_api.names import API_VERSION, GROUP

pytestmark = pytest.mark.processes
NAMESPACE: Final = "headrace-system"
CRDS: Final = tuple(f"{plural}.{GROUP}" for plural in ("llmdeployments", "llmpools", "llmrouters"))
USERS: Final[Object] = {
    "apiVersion": API_VERSION,
    "kind": "LLMDeployment",
    "metadata": {"name": "theirs", "namespace": "default"},
    "spec": MODEL["spec"],
}
"""A resource that no release made."""
MOST_BYTES: Final = 400_000
"""Of the Secret in which helm keeps a release; the API server takes 1 MiB."""


@pytest.fixture
def kubectl(tmp_path: Path) -> Iterator[Kubectl]:
    """A cluster of the test's own that knows nothing of ours; it starts sooner than another is cleaned."""
    home = user_home(os.environ, Path.home())
    if not all((home.programs / name).exists() for name in API_PROGRAMS):
        pytest.skip("the control plane's programs are not built yet: make cluster-up CLUSTER=api")
    cluster = ApiCluster(replace(home, run=tmp_path / "run"), print, nodes=1)
    try:
        cluster.up()
        kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig)
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}])
        yield kubectl
    finally:
        cluster.down()


@pytest.fixture
def bare(helm: Helm, kubectl: Kubectl) -> Helm:
    """Helm on that cluster."""
    return replace(helm, kubeconfig=kubectl.kubeconfig)


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The chart's next version, with a column more."""
    chart = tmp_path / "headrace"
    shutil.copytree(CHART, chart)
    file = chart / "files" / "crds" / "llmrouters.yaml"
    definition = yaml.safe_load(file.read_text())
    column = {"name": "Newer", "type": "string", "jsonPath": ".spec.newer"}
    definition["spec"]["versions"][0]["additionalPrinterColumns"].append(column)
    file.write_text(yaml.safe_dump(definition))
    about = chart / "Chart.yaml"
    about.write_text(about.read_text().replace("\nversion: ", "\nversion: 9"))
    return chart


def install(helm: Helm, values: Object | None = None, *flags: str) -> None:
    wait = ("--wait", "--timeout=60s")
    helm("install", "headrace", str(CHART), "-n", NAMESPACE, *wait, *flags, values=values or {})


def upgrade(helm: Helm, chart: Path = CHART, values: Object | None = None) -> None:
    helm("upgrade", "headrace", str(chart), "-n", NAMESPACE, "--wait", "--timeout=60s", values=values or {})


def columns(kubectl: Kubectl) -> list[str]:
    definition = get(kubectl, "crd", CRDS[-1])
    return [one["name"] for one in definition["spec"]["versions"][0]["additionalPrinterColumns"]]


def get(kubectl: Kubectl, kind: str, name: str, namespace: str = NAMESPACE) -> Object:
    found: Object = json.loads(kubectl("get", kind, name, "-n", namespace, "-o", "json"))
    return found


def exists(kubectl: Kubectl, kind: str, name: str, namespace: str = NAMESPACE) -> bool:
    return kubectl("get", kind, name, "-n", namespace, "--ignore-not-found", "-o", "name") != ""


def apply_resources(helm: Helm, kubectl: Kubectl, folder: Path) -> None:
    """Do what the hook's Job did: it has ended by now, though no process ran on its simulated node."""
    hooks: list[Any] = list(yaml.safe_load_all(helm("get", "hooks", "headrace", "-n", NAMESPACE)))
    status, _, complained = run(pick(hooks, "Job", "headrace-resources"), kubectl, folder)
    assert (status, complained) == (0, "")


def test_one_command_brings_a_ready_operator_and_the_custom_resources(bare: Helm, kubectl: Kubectl) -> None:
    install(bare)

    assert get(kubectl, "deployment", "headrace-operator")["status"]["readyReplicas"] == 2
    kubectl.await_served(*(f"crd/{name}" for name in CRDS), timeout_s=30)
    secret = get(kubectl, "secret", "sh.helm.release.v1.headrace.v1")
    assert len(base64.b64decode(secret["data"]["release"])) < MOST_BYTES


@pytest.mark.parametrize("watched", [[], ["default", "kube-public"]], ids=["everywhere", "in two namespaces"])
def test_the_operator_leads_and_serves_with_what_the_release_gives_it(
    bare: Helm, kubectl: Kubectl, tmp_path: Path, watched: list[str]
) -> None:
    install(bare, {"watchNamespaces": watched})
    deployment = get(kubectl, "deployment", "headrace-operator")
    operator = start_operator(deployment, kubectl, tmp_path)

    def holder() -> str | None:
        name: str | None = get(kubectl, "lease", "headrace-operator").get("spec", {}).get("holderIdentity")
        return name

    def served() -> bool:
        assert operator.poll() is None, (tmp_path / "operator.log").read_text()
        return exists(kubectl, "deployment", "theirs-router", "default")

    try:
        kubectl.apply([USERS])
        wait_until(served, timeout_s=60, what="The operator made nothing of an LLMDeployment")
        assert holder() is not None
        router = get(kubectl, "deployment", "theirs-router", "default")["spec"]["template"]["spec"]["containers"]
        assert [one["image"] for one in router] == ["headrace-router:0.1.0"]
    finally:
        operator.terminate()
        assert operator.wait(30) == 0
    log = (tmp_path / "operator.log").read_text()
    assert holder() is None
    assert "forbidden" not in log.lower(), log


def test_an_upgrade_renews_the_custom_resources_and_a_rollback_brings_them_back(
    bare: Helm, kubectl: Kubectl, newer: Path
) -> None:
    install(bare)
    key = get(kubectl, "secret", "headrace-operator-key")["data"]
    pods = kubectl("get", "pods", "-n", NAMESPACE, "-o", "name")
    assert "Newer" not in columns(kubectl)
    leader = json.dumps({"spec": {"holderIdentity": "one"}})
    kubectl("patch", "lease", "headrace-operator", "-n", NAMESPACE, "--type=merge", "-p", leader)

    upgrade(bare, newer)
    assert "Newer" in columns(kubectl)
    bare("rollback", "headrace", "1", "-n", NAMESPACE, "--wait")
    assert "Newer" not in columns(kubectl)

    assert get(kubectl, "lease", "headrace-operator")["spec"] == {"holderIdentity": "one"}
    assert get(kubectl, "secret", "headrace-operator-key")["data"] == key
    assert kubectl("get", "pods", "-n", NAMESPACE, "-o", "name") == pods


def test_an_uninstall_leaves_what_users_made_and_an_install_finds_it_again(bare: Helm, kubectl: Kubectl) -> None:
    install(bare)
    kubectl.apply([USERS])
    uid = get(kubectl, "llm", "theirs", "default")["metadata"]["uid"]

    bare("uninstall", "headrace", "-n", NAMESPACE, "--wait")

    left = kubectl("get", "all,cm,sa,secret,pdb,netpol,role,rolebinding,lease", "-n", NAMESPACE, "-o", "name").split()
    assert set(left) <= {"configmap/kube-root-ca.crt", "serviceaccount/default"}
    assert not exists(kubectl, "clusterrole", "headrace-operator")
    assert get(kubectl, "llm", "theirs", "default")["metadata"]["uid"] == uid
    install(bare)
    assert get(kubectl, "llm", "theirs", "default")["metadata"]["uid"] == uid


def test_resources_of_the_values_follow_them_and_go_with_the_release(
    bare: Helm, kubectl: Kubectl, tmp_path: Path
) -> None:
    code = {**MODEL, "name": "code"}
    install(bare, {"deployments": [MODEL, code]})
    apply_resources(bare, kubectl, tmp_path)
    uid = get(kubectl, "llm", "chat")["metadata"]["uid"]

    larger = {"name": "chat", "spec": {**MODEL["spec"], "decode": {"replicas": 2}}}
    upgrade(bare, values={"deployments": [larger]})
    apply_resources(bare, kubectl, tmp_path)
    wait_until(lambda: not exists(kubectl, "llm", "code"), timeout_s=90, what="The resource stayed")
    chat = get(kubectl, "llm", "chat")
    assert (chat["metadata"]["uid"], chat["spec"]["decode"]["replicas"]) == (uid, 2)

    bare("rollback", "headrace", "1", "-n", NAMESPACE, "--wait")
    apply_resources(bare, kubectl, tmp_path)
    chat = get(kubectl, "llm", "chat")
    assert (chat["metadata"]["uid"], "replicas" in chat["spec"].get("decode", {})) == (uid, False)
    assert exists(kubectl, "llm", "code")

    bare("uninstall", "headrace", "-n", NAMESPACE, "--wait")
    wait_until(lambda: not exists(kubectl, "llm", "chat"), timeout_s=90, what="The resource stayed")


def test_custom_resources_of_others_are_taken_over_on_demand_only(bare: Helm, kubectl: Kubectl) -> None:
    files = [word for path in sorted((CHART / "files" / "crds").glob("*.yaml")) for word in ("-f", str(path))]
    kubectl("apply", "--server-side", *files)

    with pytest.raises(CommandError, match="invalid ownership metadata"):
        install(bare)
    install(bare, {}, "--take-ownership")

    assert get(kubectl, "crd", CRDS[0])["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
