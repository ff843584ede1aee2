"""The operator as a process of its own, with exactly the rights of its role."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from e2e.cluster.api import ApiCluster
from e2e.cluster.kubectl import Kubectl
from tests.operator.cluster.loop import eventually, run

from headrace_operator.kubernetes.kinds import LEASES
from headrace_operator.rbac import CALLS, KEDA, NAMESPACED_CALLS, UNSEEN, Call, manifests

pytestmark = pytest.mark.processes

FOLDERS = [Path(__file__).parents[3] / name for name in ("crds", "operator")]
ACCOUNT = "headrace-operator"
SPANNING = {"tensor": 2, "nodes": 2}


class Process:
    """One operator process; `address` is where it answers."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def address(self) -> str:
        return self.log.split("health and figures are at ")[1].split()[0]

    def leads(self) -> bool:
        assert self._process.poll() is None, self.log
        return "leads from now" in self.log and "health and figures" in self.log

    def end(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)


@contextmanager
def operator(kubeconfig: Path, log: Path, *flags: str) -> Iterator[Process]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, FOLDERS))}
    own = ["--kubeconfig", str(kubeconfig), "--host", "127.0.0.1", "--port", "0", "--lease-duration", "4", *flags]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "headrace_operator", *own], env=environment, stdout=file, stderr=file
        )
        try:
            yield Process(process, log)
        except TimeoutError:
            raise AssertionError(log.read_text()[-4000:]) from None
        finally:
            process.kill()
            process.wait(10)


@pytest.fixture
def account(api_cluster: ApiCluster, kubectl: Kubectl, namespace: str, tmp_path: Path) -> Callable[..., Path]:
    """Make the operator's account with the rights of its role and return a kubeconfig of it."""

    def make(*, namespaced: bool) -> Path:
        kubectl("-n", namespace, "create", "serviceaccount", ACCOUNT)
        documents = json.loads(json.dumps(manifests(namespaced=namespaced, namespace=namespace, account=ACCOUNT)))
        for document in documents:
            # Bindings of one test must not be those of another.
            for one in (document["metadata"], document.get("roleRef", {})):
                if one and document["kind"].startswith("Cluster"):
                    one["name"] = f"{one['name']}-{namespace}"
        kubectl.apply(documents)
        config = json.loads(api_cluster.kubeconfig.read_text())
        config["users"] = [
            {"name": "admin", "user": {"token": kubectl("-n", namespace, "create", "token", ACCOUNT).strip()}}
        ]
        config["contexts"][0]["context"]["namespace"] = namespace
        path = tmp_path / f"kubeconfig-{namespaced}"
        path.write_text(json.dumps(config))
        return path

    return make


def deployment(namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.headrace.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": "chat", "namespace": namespace},
        "spec": {"model": {"uri": "file:///models/m"}, **spec},
    }


def router(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "serving.headrace.dev/v1alpha1",
        "kind": "LLMRouter",
        "metadata": {"name": "front", "namespace": namespace},
        "spec": {"tiers": [{"name": "one", "deployment": "chat"}]},
    }


def calls_of(log: Path, namespace: str) -> tuple[set[Call], list[str]]:
    """Return the calls that the operator's account made, and those that were forbidden."""
    seen, forbidden = set(), []
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        if entry["user"]["username"] != f"system:serviceaccount:{namespace}:{ACCOUNT}":
            continue
        target = entry.get("objectRef", {})
        if "resource" not in target:
            continue
        resource = "/".join(part for part in (target["resource"], target.get("subresource")) if part)
        call = Call(target.get("apiGroup", ""), resource, entry["verb"])
        seen.add(call)
        # A namespace that is being deleted answers 403 too, and the log then keeps no message: the decision tells.
        if entry["annotations"]["authorization.k8s.io/decision"] == "forbid":
            forbidden.append(f"{call}: {entry['responseStatus'].get('message')}")
    return seen, forbidden


async def ready(kubectl: Kubectl, namespace: str, kind: str = "llm", name: str = "chat") -> None:
    await asyncio.to_thread(
        kubectl, "-n", namespace, "wait", f"{kind}/{name}", "--for=condition=Ready", "--timeout=60s"
    )


async def live_through_everything(kubectl: Kubectl, namespace: str) -> None:
    """Bring about every call that the operator can make."""

    def apply(**spec: Any) -> None:
        kubectl.apply([deployment(namespace, **spec)])

    fetched = {"uri": "hf://org/name", "cache": {"size": "1Gi"}}
    apply(model=fetched, disaggregation="never", parallelism=SPANNING)
    names = (
        "serviceaccounts,persistentvolumeclaims,jobs,configmaps,deployments,statefulsets,services,poddisruptionbudgets"
    )
    names += ",networkpolicies,roles,rolebindings,llmpools"
    await eventually(
        lambda: (
            "chat-router" in kubectl("-n", namespace, "get", "pdb", "-o", "name")
            and "job" in kubectl("-n", namespace, "get", "jobs", "-o", "name")
        )
    )
    selector = "serving.headrace.dev/deployment=chat"
    made = json.loads(kubectl("-n", namespace, "get", names, "-l", selector, "-o", "json"))["items"]
    apply(disaggregation="never")
    await ready(kubectl, namespace)
    await eventually(lambda: "selector" in told(kubectl, namespace).get("status", {}), timeout_s=60)
    kubectl.apply([router(namespace)])
    await ready(kubectl, namespace, "llmrouter", "front")
    apply(disaggregation="never", engine={"maxRunning": 32}, decode={"replicas": 2})
    await ready(kubectl, namespace)
    apply(router={"enabled": False})
    await eventually(lambda: "chat-unified" not in kubectl("-n", namespace, "get", "llmpools"))
    await eventually(lambda: "chat-router" not in kubectl("-n", namespace, "get", "deployments,roles,rolebindings"))
    kubectl("-n", namespace, "delete", "llm,llmrouter", "--all", "--cascade=foreground", "--timeout=60s")
    await occupied(kubectl, namespace, made, fetched)


def told(kubectl: Kubectl, namespace: str) -> dict[str, Any]:
    """Return an LLMPool that has a status where there is one; statuses give way to everything else."""
    pools: list[dict[str, Any]] = json.loads(kubectl("-n", namespace, "get", "llmpools", "-o", "json"))["items"]
    return max(pools, key=lambda pool: "selector" in pool.get("status", {}), default={})


async def occupied(kubectl: Kubectl, namespace: str, made: list[Any], model: dict[str, Any]) -> None:
    """Let every name be taken by somebody else when the resource comes."""
    kubectl.apply([foreign(one) for one in made])
    kubectl.apply([deployment(namespace, model=model, disaggregation="never", parallelism=SPANNING)])

    names = {f"{one['kind']} {namespace}/{one['metadata']['name']}" for one in made}

    def untold() -> set[str]:
        status = json.loads(kubectl("-n", namespace, "get", "llm", "chat", "-o", "json")).get("status", {})
        text = next((one["message"] for one in status.get("conditions", []) if one["type"] == "Planned"), "")
        return {name for name in names if f"{name} is there already" not in text}

    try:
        await eventually(lambda: not untold(), timeout_s=30)
    except TimeoutError:
        raise AssertionError(untold()) from None
    kubectl("-n", namespace, "delete", "llm", "chat")


def foreign(one: dict[str, Any]) -> dict[str, Any]:
    """Return an object of the same name that differs from the operator's in a label."""
    labels = {**one["metadata"]["labels"], "app.kubernetes.io/name": "other", "app.kubernetes.io/managed-by": "hand"}
    metadata = {"name": one["metadata"]["name"], "namespace": one["metadata"]["namespace"], "labels": labels}
    rest = {name: value for name, value in one.items() if name not in {"metadata", "status"}}
    if one["kind"] == "Service":
        rest["spec"] = {name: rest["spec"][name] for name in ("ports", "selector")}
    if one["kind"] == "Job":
        template = one["spec"]["template"]
        rest["spec"] = {"template": {"metadata": {"labels": {"job": "other"}}, "spec": template["spec"]}}
    if one["kind"] == "PersistentVolumeClaim":
        rest["spec"] = {name: rest["spec"][name] for name in ("accessModes", "resources")}
    return {**rest, "metadata": metadata}


@pytest.mark.parametrize("namespaced", [False, True], ids=["cluster", "namespaced"])
def test_it_makes_the_calls_of_its_role_and_no_others(
    account: Callable[..., Path],
    api_cluster: ApiCluster,
    kubectl: Kubectl,
    namespace: str,
    tmp_path: Path,
    *,
    namespaced: bool,
) -> None:
    kubeconfig = account(namespaced=namespaced)
    flags = ("--namespaces", namespace) if namespaced else ()

    async def main() -> None:
        with operator(kubeconfig, tmp_path / "log", *flags) as process:
            await eventually(process.leads, timeout_s=40)
            await live_through_everything(kubectl, namespace)
            figures = await asyncio.to_thread(read, f"{process.address}/metrics")
            assert "headrace_operator_leader 1.0" in figures
            assert 'headrace_operator_reconciles_total{kind="LLMDeployment"' in figures
            assert await asyncio.to_thread(read, f"{process.address}/healthz") == "ok\n"

            assert await asyncio.to_thread(process.end) == 0, process.log
            assert "Traceback" not in process.log
            lease = json.loads(kubectl("-n", namespace, "get", LEASES.plural, "headrace-operator", "-o", "json"))
            assert "holderIdentity" not in lease["spec"]

    run(main(), 240)
    seen, forbidden = calls_of(api_cluster.audit_log, namespace)
    granted = NAMESPACED_CALLS if namespaced else CALLS
    assert forbidden == []
    assert seen - granted == set()
    assert granted - UNSEEN - KEDA - seen == set()


def read(url: str) -> str:
    with urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def test_the_secret_of_workers_is_the_same_for_every_operator_of_one_installation(
    account: Callable[..., Path], kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    kubeconfig = account(namespaced=True)
    key = tmp_path / "key"
    key.write_text("a secret of sixteen bytes or more")

    async def main() -> list[str]:
        values = []
        for number in range(2):
            with operator(
                kubeconfig, tmp_path / f"log-{number}", "--namespaces", namespace, "--key-file", str(key)
            ) as process:
                await eventually(process.leads, timeout_s=40)
                kubectl.apply([deployment(namespace)])
                await eventually(lambda: "chat-handoff" in kubectl("-n", namespace, "get", "secrets", "-o", "name"))
                whole = json.loads(kubectl("-n", namespace, "get", "secret", "chat-handoff", "-o", "json"))
                values.append(base64.b64decode(whole["data"]["secret"]).decode())
                kubectl("-n", namespace, "delete", "secret", "chat-handoff")
                process.end()
        return values

    first, second = run(main(), 120)
    assert first == second
    assert len(first) == 64


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--port", "many"], "--port is 'many': Input should be a valid integer"),
        (["--image-pull-policy", "often"], "--image-pull-policy is 'often': Input should be 'Always'"),
        (["--key-file", "no-such-file"], "--key-file is 'no-such-file', which cannot be read: No such file"),
    ],
)
def test_a_setting_that_cannot_be_taken_ends_it_with_a_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from headrace_operator.__main__ import main  # noqa: PLC0415 - imports kopf

    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err
