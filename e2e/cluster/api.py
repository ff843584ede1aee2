"""The provider `api`: a control plane of plain processes with simulated nodes, up in seconds, without containers."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from e2e.cluster import control, processes
from e2e.cluster.base import Cluster, Status
from e2e.cluster.command import Progress, capture
from e2e.cluster.deadline import wait_until
from e2e.cluster.errors import ClusterError, StartError
from e2e.cluster.golang import ensure_programs, module_folder
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.state import State, read_state, write_state
from e2e.cluster.versions import API_PROGRAMS, KWOK_MODULE
from filelock import FileLock
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from e2e.cluster.home import Home

_LOCK_TIMEOUT_S: Final = 7200.0
_READY_TIMEOUT_S: Final = 60.0
_GRACE_S: Final = 5.0
_STAGES: Final = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)


class ApiCluster(Cluster):
    """etcd, API server, controller manager, scheduler and kwok, each a process of its own on 127.0.0.1.

    Args:
        home: Where parts and data lie; a test that wants a cluster of its own gives a `run` folder of its own.
        progress: Takes lines for the person who waits.
        nodes: Number of simulated nodes.
        audit: Keep an audit log, `audit_log`.
    """

    def __init__(self, home: Home, progress: Progress, *, nodes: int = 4, audit: bool = False) -> None:
        self._home = home
        self._progress = progress
        self._nodes = nodes
        self._audit = audit

    @property
    def kubeconfig(self) -> Path:
        return self._home.run / "kubeconfig"

    @property
    def kubectl(self) -> Path:
        return self._home.programs / "kubectl"

    @property
    def audit_log(self) -> Path:
        """One JSON object for each request, where `audit` was asked for."""
        return self._home.run / "audit.log"

    def up(self) -> None:
        self._home.root.mkdir(parents=True, exist_ok=True)
        self._home.run.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._home.run_lock, timeout=_LOCK_TIMEOUT_S):
            self._clear()
            programs = ensure_programs(self._home, API_PROGRAMS, self._progress)
            stages = self._ensure_stages()
            try:
                self._start(programs, stages)
            except BaseException:
                self._end()
                raise

    def down(self) -> None:
        if self._home.run.exists():
            with FileLock(self._home.run_lock, timeout=_LOCK_TIMEOUT_S):
                self._clear()
        self._home.run_lock.unlink(missing_ok=True)

    def status(self) -> Status:
        state = read_state(self._home.state)
        daemons = state.daemons if state else ()
        lines = tuple(
            f"{each.name}: {'runs' if processes.is_alive(each) else 'has ended'}, process {each.pid}, log {each.log}"
            for each in daemons
        )
        running = bool(state and state.ready and daemons and all(processes.is_alive(each) for each in daemons))
        return Status("api", running, self.kubeconfig, lines)

    def load(self, image: str) -> None:
        raise ClusterError(
            f"The image {image!r} cannot be loaded: nodes of the provider 'api' are simulated and run no containers. "
            "Use the provider 'kind'."
        )

    def _start(self, programs: dict[str, Path], stages: Path) -> None:
        plan = self._plan()
        write_state(self._home.state, State("api", str(plan.kubeconfig)))
        self._daemon("etcd", programs, control.etcd_arguments(plan))
        self._daemon("kube-apiserver", programs, control.apiserver_arguments(plan))
        kubectl = Kubectl(programs["kubectl"], plan.kubeconfig)
        self._wait(lambda: plan.certificate.exists() and kubectl.answers(), "The API server was not ready")
        self._daemon("kube-controller-manager", programs, control.controllers_arguments(plan))
        self._daemon("kube-scheduler", programs, control.scheduler_arguments(plan))
        self._daemon("kwok", programs, control.kwok_arguments(plan, stages))
        kubectl.apply([control.node(f"kwok-{number}") for number in range(self._nodes)])
        self._wait(lambda: _is_settled(kubectl, self._nodes), "The nodes and the default service account did not come")
        state = read_state(self._home.state)
        assert state is not None
        write_state(self._home.state, replace(state, ready=True))

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
        file = self._home.parts / "kwok-stages.yaml"
        if not file.exists():
            source = module_folder(KWOK_MODULE) / "kustomize" / "stage"
            fresh = file.with_suffix(".new")
            fresh.write_text(control.stages_text([(source / name).read_text() for name in _STAGES]))
            fresh.replace(file)
        return file

    def _daemon(self, name: str, programs: dict[str, Path], arguments: Sequence[str]) -> None:
        state = read_state(self._home.state)
        assert state is not None
        daemon = processes.start(name, [str(programs[name]), *arguments], log=self._home.logs / f"{name}.log")
        write_state(self._home.state, replace(state, daemons=(*state.daemons, daemon)))

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        def holds() -> bool:
            state = read_state(self._home.state)
            assert state is not None
            for daemon in state.daemons:
                if not processes.is_alive(daemon):
                    last = "\n".join(Path(daemon.log).read_text(errors="replace").splitlines()[-10:])
                    raise StartError(f"{daemon.name} has ended; the last lines of its log:\n{last}")
            return condition()

        wait_until(holds, timeout_s=_READY_TIMEOUT_S, what=what)

    def _clear(self) -> None:
        state = read_state(self._home.state)
        if state is not None and state.provider != "api":
            raise ClusterError(
                f"A cluster of the provider {state.provider!r} uses {self._home.run}; "
                f"take it away first: make cluster-down CLUSTER={state.provider}."
            )
        self._end()

    def _end(self) -> None:
        state = read_state(self._home.state)
        for daemon in reversed(state.daemons if state else ()):
            processes.stop(daemon, grace_s=_GRACE_S)
        shutil.rmtree(self._home.run, ignore_errors=True)


def _is_settled(kubectl: Kubectl, nodes: int) -> bool:
    ready = 'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'
    if kubectl("get", "nodes", "-o", ready).split() != ["True"] * nodes:
        return False
    return kubectl("get", "serviceaccount", "default", "--ignore-not-found", "-o", "name").strip() != ""
