"""The real KEDA beside the operator, both as processes on a real API server whose pods run nothing."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster.api import ApiCluster
from e2e.cluster.home import user_home
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.versions import PROGRAMS
from e2e.keda.certificate import make_certificate
from e2e.keda.objects import names
from tests.operator.cluster.loop import eventually, run
from tests.operator.cluster.rig import Calls, Rig, operating
from tests.operator.scaling.test_cluster import FAST, World, until_replicas

from headrace_operator.kubernetes.scaling.endpoint import Offer
from headrace_operator.settings import OperatorSettings

pytestmark = pytest.mark.processes

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where KEDA reads the name of its namespace; a mount that only its process sees takes the place of a pod's."""


@pytest.fixture
def keda(
    api_cluster: ApiCluster, kubectl: Kubectl, keda_module: Path, namespace: str, tmp_path: Path
) -> Iterator[Path]:
    """Run KEDA for one namespace; its value is KEDA's log."""
    program = user_home(os.environ, Path.home()).program(PROGRAMS["keda"])
    if not program.is_file():
        pytest.skip("KEDA is not built yet: the scenarios of e2e do that")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not have mounts of its own")
    definitions = sorted(keda_module.glob("*.yaml"))
    kubectl.define(definitions, timeout_s=60)
    account, certificates, log = tmp_path / "account", tmp_path / "certificates", tmp_path / "keda.log"
    account.mkdir()
    (account / "namespace").write_text(namespace)
    certificates.mkdir()
    made = make_certificate(names())
    for name, content in (("ca.crt", made.authority), ("tls.crt", made.certificate), ("tls.key", made.key)):
        (certificates / name).write_bytes(content)
    flags = ["--cert-dir", str(certificates), "--metrics-service-bind-address", "127.0.0.1:0"]
    flags += ["--metrics-bind-address", "127.0.0.1:0", "--health-probe-bind-address", "127.0.0.1:0"]
    script = 'mkdir -p "$1" && mount --bind "$2" "$1" && shift 2 && exec "$@"'
    environment = {
        **os.environ,
        "KUBECONFIG": str(api_cluster.kubeconfig),
        "WATCH_NAMESPACE": namespace,
        "POD_NAMESPACE": namespace,
        "KEDA_CLUSTER_OBJECT_NAMESPACE": namespace,
    }
    command = ["unshare", "-m", "sh", "-c", script, "sh", _ACCOUNT, str(account), str(program), *flags]
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        try:
            yield log
            kubectl("-n", namespace, "delete", "scaledobjects", "--all", "--timeout=30s")
        finally:
            process.terminate()
            process.wait(30)
            for path in definitions:
                kubectl("delete", "--ignore-not-found", "--timeout=30s", "-f", str(path))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> int:
    """Have KEDA reach the operator on this machine; the value is the port."""
    site = OperatorSettings.site
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]

    def nearby(self: OperatorSettings, namespace: str) -> Any:
        return replace(site(self, namespace), scaler_address=f"127.0.0.1:{port}")

    monkeypatch.setattr(OperatorSettings, "site", nearby)
    return port


def test_keda_puts_pools_to_sleep_and_wakes_them_as_soon_as_a_request_waits(
    api_cluster: ApiCluster, kubectl: Kubectl, namespace: str, keda: Path, here: int
) -> None:
    async def main() -> None:
        world, calls = World(), Calls()
        offer = Offer(namespace=namespace, interval_s=1.0, visits=world.visits, grpc_port=here)
        async with operating(str(api_cluster.kubeconfig), kubectl, namespace, calls=calls, offer=offer) as rig:
            world.rig = rig
            none = {"minReplicas": 0}
            await rig.apply(scaling={**FAST, "prefill": none, "decode": none, "idleAfter": "5s"})
            assert (await rig.until("ScalingActive"))["reason"] == "Keda"
            for role in ("prefill", "decode"):
                await until_replicas(rig, role, 0)
            assert await metric(rig) == ("s0-workers", {"type": "AverageValue", "averageValue": "1"})

            began = time.monotonic()
            world.held = {"chat": 1}
            for role in ("prefill", "decode"):
                await until_replicas(rig, role, 1)
            assert time.monotonic() - began < 5, "KEDA looks by itself every 15 s only"
            assert calls.made.count("scale llmpools") == 2, "the operator writes the first number of each pool"
            world.held = {"chat": 0}
            await rig.apply()

            async def released() -> bool:
                return await rig.kubectl("get", "scaledobjects", "-o", "name") == ""

            await eventually(released)

    try:
        run(main(), 180)
    except (TimeoutError, AssertionError):
        print(keda.read_text()[-3000:])  # noqa: T201 - pytest shows it with the failure
        raise


async def metric(rig: Rig) -> tuple[str, dict[str, str]]:
    """Return the metric and the target of the autoscaler that KEDA made."""

    async def made() -> list[Any]:
        listed: list[Any] = json.loads(await rig.kubectl("get", "hpa", "-o", "json"))["items"]
        return [one for one in listed if one["spec"]["scaleTargetRef"]["name"] == "chat-decode"]

    (autoscaler,) = await eventually(made)
    assert autoscaler["spec"]["scaleTargetRef"]["kind"] == "LLMPool"
    (told,) = autoscaler["spec"]["metrics"]
    return told["external"]["metric"]["name"], told["external"]["target"]
