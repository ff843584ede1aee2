"""The operator as a process beside KEDA's kinds, with exactly the rights of its role."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster.api import ApiCluster
from e2e.cluster.kubectl import Kubectl
from tests.operator.cluster.loop import eventually, run
from tests.operator.cluster.test_process import ACCOUNT, calls_of, deployment, operator

from headrace_operator.rbac import KEDA, NAMESPACED_CALLS, UNSEEN, manifests

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("keda")]


@pytest.fixture
def kubeconfig(api_cluster: ApiCluster, kubectl: Kubectl, namespace: str, tmp_path: Path) -> Path:
    """Make the operator's account with the rights of its role in one namespace and return a kubeconfig of it."""
    kubectl("-n", namespace, "create", "serviceaccount", ACCOUNT)
    kubectl.apply(json.loads(json.dumps(manifests(namespaced=True, namespace=namespace, account=ACCOUNT))))
    config = json.loads(api_cluster.kubeconfig.read_text())
    token = kubectl("-n", namespace, "create", "token", ACCOUNT).strip()
    config["users"] = [{"name": "admin", "user": {"token": token}}]
    config["contexts"][0]["context"]["namespace"] = namespace
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def foreign(namespace: str) -> dict[str, Any]:
    """Return a ScaledObject of somebody else under the name of one of ours."""
    target = {"name": "other", "apiVersion": "apps/v1", "kind": "Deployment"}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "chat-prefill", "namespace": namespace},
        "spec": {"scaleTargetRef": target, "triggers": [{"type": "cpu", "metadata": {"value": "50"}}]},
    }


def test_beside_keda_it_makes_the_calls_of_its_role_and_no_others(
    kubeconfig: Path, api_cluster: ApiCluster, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    def listed() -> list[str]:
        return kubectl("-n", namespace, "get", "scaledobjects", "-o", "name").split()

    def planned() -> str:
        whole = json.loads(kubectl("-n", namespace, "get", "llm", "chat", "-o", "json"))
        told = whole.get("status", {}).get("conditions", [])
        return next((one["message"] for one in told if one["type"] == "Planned"), "")

    async def main() -> None:
        kubectl("-n", namespace, "run", ACCOUNT, "--image=operator")
        uid = json.loads(kubectl("-n", namespace, "get", "pod", ACCOUNT, "-o", "json"))["metadata"]["uid"]
        kubectl.apply([foreign(namespace)])
        pod = ("--pod", ACCOUNT, "--pod-uid", uid, "--pod-ip", "10.0.0.7", "--scaler-port", "0")
        with operator(kubeconfig, tmp_path / "log", "--namespaces", namespace, *pod) as process:
            await eventually(process.leads, timeout_s=40)
            kubectl.apply([deployment(namespace, scaling={})])
            await eventually(lambda: "ScaledObject" in planned() and "is there already" in planned(), timeout_s=40)
            kubectl("-n", namespace, "delete", "scaledobject", "chat-prefill")
            await eventually(lambda: len(listed()) == 2, timeout_s=40)
            kubectl.apply([deployment(namespace)])
            await eventually(lambda: not listed(), timeout_s=40)
            assert await asyncio.to_thread(process.end) == 0, process.log
            assert "Traceback" not in process.log

    run(main(), 240)
    seen, forbidden = calls_of(api_cluster.audit_log, namespace)
    assert forbidden == []
    assert seen - NAMESPACED_CALLS == set()
    assert KEDA - UNSEEN - seen == set()
