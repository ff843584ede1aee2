"""A control plane of plain processes: the arguments and files of each, as pure functions.

Everything listens on 127.0.0.1. Nodes are simulated: a pod becomes Ready, and nothing runs in it. What holds for the
objects of Kubernetes holds here too (validation, defaults, controllers, garbage collection, RBAC, quotas), in a tenth
of the time that a real node needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SERVICE_RANGE: Final = "10.96.0.0/16"

_API_RATE: Final = ("--kube-api-qps=1000", "--kube-api-burst=2000")
"""An administrator's setting for big clusters; at the default of 20 a second they are all that is measured."""

_GATES: Final = re.compile(r"\{\{ range \.spec\.readinessGates \}\}.*?\{\{ end \}\}", re.DOTALL)

_SYNCS: Final = {
    "deployment": 40,
    "replicaset": 40,
    "statefulset": 40,
    "job": 20,
    "endpoint": 20,
    "service-endpoint": 20,
    "serviceaccount-token": 20,
    "gc": 40,
    "namespace": 20,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the processes of one control plane listen and keep their files."""

    folder: Path
    etcd_port: int
    peer_port: int
    api_port: int
    token: str
    """Bearer token of the administrator."""
    audit: bool
    """Keep a line of every request, with the user and the verb: what RBAC rules are compared with."""

    @property
    def server(self) -> str:
        """Address of the API server."""
        return f"https://127.0.0.1:{self.api_port}"

    @property
    def certificate(self) -> Path:
        """The API server's certificate and the authority that signed it; the server writes it at its first start."""
        return self.folder / "certs" / "apiserver.crt"

    @property
    def signing_key(self) -> Path:
        """Key of the tokens of service accounts."""
        return self.folder / "service-account.key"

    @property
    def tokens(self) -> Path:
        """The administrator's token, in the API server's format."""
        return self.folder / "tokens.csv"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's way in."""
        return self.folder / "kubeconfig"

    @property
    def audit_policy(self) -> Path:
        """What the audit log holds."""
        return self.folder / "audit.yaml"

    @property
    def audit_log(self) -> Path:
        """One JSON object a line."""
        return self.folder / "audit.log"


def etcd_arguments(plan: Plan) -> list[str]:
    """Return etcd's arguments. It need not survive a power cut, so it does not wait for the disk."""
    client, peer = f"http://127.0.0.1:{plan.etcd_port}", f"http://127.0.0.1:{plan.peer_port}"
    return [
        f"--data-dir={plan.folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver_arguments(plan: Plan) -> list[str]:
    """Return the API server's arguments.

    The advertised address is one reserved for documentation: it goes into the endpoints of the service `kubernetes`,
    which no pod here can call, and a loopback address would be refused there.
    """
    arguments = [
        f"--etcd-servers=http://127.0.0.1:{plan.etcd_port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=192.0.2.1",
        "--endpoint-reconciler-type=none",
        f"--secure-port={plan.api_port}",
        f"--cert-dir={plan.certificate.parent}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=RBAC",
        f"--token-auth-file={plan.tokens}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={plan.signing_key}",
        f"--service-account-signing-key-file={plan.signing_key}",
        "--max-requests-inflight=1000",
        "--max-mutating-requests-inflight=500",
        "--profiling=false",
    ]
    if plan.audit:
        arguments += [f"--audit-policy-file={plan.audit_policy}", f"--audit-log-path={plan.audit_log}"]
    return arguments


def controllers_arguments(plan: Plan) -> list[str]:
    """Return the controller manager's arguments, with as many workers as an administrator of a big cluster gives it."""
    return [
        f"--kubeconfig={plan.kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
        "--profiling=false",
        f"--service-account-private-key-file={plan.signing_key}",
        f"--root-ca-file={plan.certificate}",
        *_API_RATE,
        *(f"--concurrent-{name}-syncs={count}" for name, count in _SYNCS.items()),
    ]


def scheduler_arguments(plan: Plan) -> list[str]:
    """Return the scheduler's arguments."""
    return [
        f"--kubeconfig={plan.kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
        "--profiling=false",
        *_API_RATE,
    ]


def kwok_arguments(plan: Plan, stages: Path) -> list[str]:
    """Return the arguments of kwok, which plays all nodes by the `stages` given."""
    return [
        f"--kubeconfig={plan.kubeconfig}",
        f"--config={stages}",
        "--manage-all-nodes=true",
        "--node-lease-duration-seconds=40",
        "--cidr=10.244.0.0/16",
    ]


def tokens_text(plan: Plan) -> str:
    """Return the token file: the administrator, in the group that may do everything."""
    return f"{plan.token},admin,admin,system:masters\n"


def audit_policy() -> dict[str, object]:
    """Return a policy that keeps who did what to which object, once for each request and without bodies."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    }


def kubeconfig(plan: Plan) -> dict[str, object]:
    """Return the administrator's kubeconfig."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "headrace",
        "clusters": [
            {"name": "headrace", "cluster": {"server": plan.server, "certificate-authority": str(plan.certificate)}}
        ],
        "users": [{"name": "admin", "user": {"token": plan.token}}],
        "contexts": [{"name": "headrace", "context": {"cluster": "headrace", "user": "admin"}}],
    }


def stages_text(stages: Sequence[str]) -> str:
    """Return kwok's configuration file out of its stages, each a YAML document.

    Its pods would open their own readiness gates; a kubelet never does, that is for whoever asked for the gate.
    """
    return "\n---\n".join(_GATES.sub("", stage).strip() for stage in stages) + "\n"


def node(name: str, *, cpus: int = 64, memory_gib: int = 256, pods: int = 1000) -> dict[str, object]:
    """Return a simulated node; big by default, so that the scheduler always finds room."""
    room = {"cpu": str(cpus), "memory": f"{memory_gib}Gi", "pods": str(pods)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "type": "kwok",
            },
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "status": {"allocatable": room, "capacity": room},
    }
