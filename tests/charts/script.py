"""Runs what pods of a release run, with the rights of their accounts: on simulated nodes no process runs in a pod."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from e2e.cluster.kubectl import Kubectl
from tests.charts.chart import Object


def start_operator(deployment: Object, kubectl: Kubectl, folder: Path) -> "subprocess.Popen[bytes]":
    """Start the operator as its pod would, but for the files of its volumes and a port that may be taken here."""
    pod, namespace = deployment["spec"]["template"]["spec"], deployment["metadata"]["namespace"]
    config: dict[str, Any] = json.loads(kubectl.kubeconfig.read_text())
    token = kubectl("create", "token", pod["serviceAccountName"], "-n", namespace)
    config["users"][0]["user"] = {"token": token.strip()}
    config["contexts"][0]["context"]["namespace"] = namespace
    (folder / "kubeconfig").write_text(json.dumps(config))
    (folder / "key").write_text("k" * 64)
    (container,) = pod["containers"]
    here = (f"--kubeconfig={folder / 'kubeconfig'}", f"--key-file={folder / 'key'}", "--host=127.0.0.1", "--port=0")
    command = [sys.executable, *container["command"][1:], *container["args"], *here]
    with (folder / "operator.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def start(job: Object, kubectl: Kubectl, folder: Path, timeout_s: float = 30.0) -> "subprocess.Popen[str]":
    """Start the Job's container as a process, as the account of its pod."""
    pod, namespace = job["spec"]["template"]["spec"], job["metadata"]["namespace"]
    assert pod["automountServiceAccountToken"]
    cluster: dict[str, Any] = json.loads(kubectl.kubeconfig.read_text())["clusters"][0]["cluster"]
    token = kubectl("create", "token", pod["serviceAccountName"], "-n", namespace)
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_text(Path(cluster["certificate-authority"]).read_text())
    server = urlsplit(cluster["server"])
    address = {"KUBERNETES_SERVICE_HOST": str(server.hostname), "KUBERNETES_SERVICE_PORT": str(server.port)}
    (container,) = pod["containers"]
    assert container["command"][0] == "python3"
    command = [sys.executable, *container["command"][1:], *container["args"]]
    return subprocess.Popen(
        [*command, f"--account={folder}", f"--timeout={timeout_s}"],
        env={**os.environ, **address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(job: Object, kubectl: Kubectl, folder: Path, timeout_s: float = 30.0) -> tuple[int, str, str]:
    """Run it to its end; return the status and what it said on both channels."""
    process = start(job, kubectl, folder, timeout_s)
    said, complained = process.communicate(timeout=timeout_s + 30)
    return process.returncode, said, complained
