"""The provider `api`: a control plane of plain processes with simulated nodes, up in seconds, without containers."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Final

from e2e.cluster import control, processes
from e2e.cluster.base import Status
from e2e.cluster.command import Progress, capture
from e2e.cluster.deadline import wait_until
from e2e.cluster.errors import ClusterError
from e2e.cluster.golang import ensure_programs, module_folder
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.owned import OwnedCluster
from e2e.cluster.state import State, read_state, write_state
from e2e.cluster.versions import API_PROGRAMS, KWOK_MODULE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from e2e.cluster.home import Home

_READY_TIMEOUT_S: Final = 60.0
_GRACE_S: Final = 1.0
"""Little, for all data is thrown away, and an API server that lost its etcd would wait for it for long."""
_STAGES: Final = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)


class ApiCluster(OwnedCluster):
    """etcd, API server, controller manager, scheduler and kwok, each a process of its own on 127.0.0.1.

    Args:
        home: Where parts and data lie; a test that wants a cluster of its own gives a `run` folder of its own.
        progress: Takes lines for the person who waits.
        nodes: Number of simulated nodes.
        audit: Keep an audit log, `audit_log`.
    """

    provider = "api"

    def __init__(self, home: Home, progress: Progress, *, nodes: int = 4, audit: bool = False) -> None:
        super().__init__(home, progress)
        self._nodes = nodes
        self._audit = audit

    @property
    def audit_log(self) -> Path:
        """One JSON object for each request, where `audit` was asked for."""
        return self._home.run / "audit.log"

    def status(self) -> Status:
        state = read_state(self._home.state)
        if state is None:
            return Status("api", running=False, kubeconfig=self.kubeconfig)
        running = state.ready and all(processes.is_alive(each) for each in state.daemons)
        return Status("api", running, self.kubeconfig, tuple(self._daemon_lines(state)))

    def load(self, *images: str) -> None:
        raise ClusterError(
            f"{' and '.join(images)} cannot be loaded: nodes of the provider 'api' are simulated and run no "
            "containers. Use the provider 'kind'."
        )

    def _start(self) -> None:
        programs = ensure_programs(self._home, API_PROGRAMS, self._progress)
        stages = self._ensure_stages()
        plan = self._plan()
        write_state(self._home.state, State("api", str(plan.kubeconfig)))
        self._daemon(programs["etcd"], control.etcd_arguments(plan))
        self._daemon(programs["kube-apiserver"], control.apiserver_arguments(plan))
        kubectl = Kubectl(programs["kubectl"], plan.kubeconfig)
        self._wait(lambda: plan.certificate.exists() and kubectl.answers(), "The API server was not ready")
        self._daemon(programs["kube-controller-manager"], control.controllers_arguments(plan))
        self._daemon(programs["kube-scheduler"], control.scheduler_arguments(plan))
        self._daemon(programs["kwok"], control.kwok_arguments(plan, stages))
        kubectl.apply([control.node(f"kwok-{number}") for number in range(self._nodes)])
        self._wait(lambda: _is_settled(kubectl, self._nodes), "The nodes and the default service account did not come")

    def _end(self, state: State) -> None:
        for daemon in reversed(state.daemons):
            processes.stop(daemon, grace_s=_GRACE_S)

    def _plan(self) -> control.Plan:
        folder = self._home.run
        folder.mkdir(parents=True, exist_ok=True)
        etcd, peer, api = processes.free_ports(3)
        plan = control.Plan(folder, etcd, peer, api, secrets.token_urlsafe(24), self._audit)
        plan.tokens.write_text(control.tokens_text(plan))
        plan.tokens.chmod(0o600)
        plan.kubeconfig.touch(mode=0o600)
        plan.kubeconfig.write_text(json.dumps(control.kubeconfig(plan), indent=2))
        plan.audit_policy.write_text(json.dumps(control.audit_policy()))
        capture(["openssl", "genrsa", "-out", str(plan.signing_key), "2048"], timeout_s=60)
        return plan

    def _ensure_stages(self) -> Path:
        file = self._home.parts / "kwok-stages-2.yaml"
        if not file.exists():
            source = module_folder(KWOK_MODULE) / "kustomize" / "stage"
            fresh = file.with_suffix(".new")
            fresh.write_text(control.stages_text([(source / name).read_text() for name in _STAGES]))
            fresh.replace(file)
        return file

    def _daemon(self, program: Path, arguments: Sequence[str]) -> None:
        name = program.name
        daemon = processes.start(name, [str(program), *arguments], log=self._home.logs / f"{name}.log")
        self._record(daemons=(*self._state().daemons, daemon))

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        def holds() -> bool:
            for daemon in self._state().daemons:
                processes.require_alive(daemon)
            return condition()

        wait_until(holds, timeout_s=_READY_TIMEOUT_S, what=what)


def _is_settled(kubectl: Kubectl, nodes: int) -> bool:
    ready = 'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'
    if kubectl("get", "nodes", "-o", ready).split() != ["True"] * nodes:
        return False
    return kubectl("get", "serviceaccount", "default", "--ignore-not-found", "-o", "name").strip() != ""
