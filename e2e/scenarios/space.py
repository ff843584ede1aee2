"""A namespace of a cluster as a scenario sees it: objects put in, looked at and waited for."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from e2e.cluster.errors import CommandError, StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from e2e.cluster.kubectl import Kubectl

Object = dict[str, Any]
T = TypeVar("T")

POLL_S: Final = 0.5
PORTS: Final = {"worker": 8000, "router": 8080}
"""Where each container serves its metrics."""
DEPLOYMENT: Final = "llmdeployments.serving.headrace.dev"
OWNED_KINDS: Final = (
    "pods,deployments,replicasets,statefulsets,jobs,services,endpointslices,configmaps,secrets,serviceaccounts,roles,"
    "rolebindings,persistentvolumeclaims,poddisruptionbudgets,networkpolicies,llmpools.serving.headrace.dev"
)
"""Every kind that is made for a resource."""


@dataclass(frozen=True, slots=True)
class Space:
    """One namespace."""

    kubectl: Kubectl
    name: str

    def run(self, *arguments: str, timeout_s: float = 60.0, stdin: str | None = None) -> str:
        """Run one kubectl command in this namespace."""
        return self.kubectl("--namespace", self.name, *arguments, timeout_s=timeout_s, stdin=stdin)

    def apply(self, *objects: Object) -> None:
        """Apply objects as a user does; those without a namespace come into this one."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.run("apply", "--server-side", "--validate=strict", "-f", "-", stdin=text)

    def patch(self, name: str, change: Object) -> int:
        """Change an LLMDeployment and return its new generation."""
        self.run("patch", DEPLOYMENT, name, "--type=merge", "--patch", json.dumps(change))
        found = self.find(DEPLOYMENT, name)
        assert found is not None, f"{name} is gone"
        return int(found["metadata"]["generation"])

    def find(self, kind: str, name: str) -> Object | None:
        """Return an object, None where there is none."""
        text = self.run("get", kind, name, "--ignore-not-found", "-o", "json")
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def listed(self, kinds: str, selector: str = "") -> list[Object]:
        """Return the objects of some kinds that have these labels."""
        items: list[Object] = json.loads(self.run("get", kinds, "--selector", selector, "-o", "json"))["items"]
        return items

    def pods(self, name: str, role: str | None = None) -> list[Object]:
        """Return the worker pods of a deployment, or those of one role, that are not on their way out."""
        role_part = f",serving.headrace.dev/role={role}" if role else ",serving.headrace.dev/role"
        found = self.listed("pods", f"serving.headrace.dev/deployment={name}{role_part}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def condition(self, name: str, kind: str) -> Object:
        """Return a condition of an LLMDeployment that was told of its newest generation; empty where there is none."""
        found = self.find(DEPLOYMENT, name)
        if found is None:
            return {}
        status = found.get("status", {})
        if status.get("observedGeneration", 0) < found["metadata"]["generation"]:
            return {}
        matching = [one for one in status.get("conditions", []) if one["type"] == kind]
        return matching[0] if matching else {}

    def wait_ready(self, name: str, timeout_s: float) -> None:
        """Wait until an LLMDeployment is Ready in its newest generation."""
        self.wait_condition(name, "Ready", "True", timeout_s=timeout_s)

    def wait_condition(self, name: str, kind: str, status: str, *, says: str = "", timeout_s: float) -> Object:
        """Wait until a condition has a status and its message holds a text; return the condition."""
        last: Object = {}

        def holds() -> Object | None:
            nonlocal last
            last = self.condition(name, kind)
            return last if last.get("status") == status and says in last.get("message", "") else None

        try:
            return wait_for(holds, timeout_s, f"{kind} of {name} is not {status}{f' with {says!r}' if says else ''}")
        except StartError as error:
            raise StartError(f"{error} It is {last or 'not told'}.") from None

    def metric(self, pod: str, name: str, *, container: str = "worker", **labels: str) -> float:
        """Return the sum of a metric's samples with these labels, as the pod tells it on its own HTTP port."""
        url = f"http://127.0.0.1:{PORTS[container]}/metrics"
        program = f"import urllib.request as u; print(u.urlopen({url!r}, timeout=20).read().decode())"
        text = self.run("exec", pod, f"--container={container}", "--", "python", "-c", program, timeout_s=60)
        lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(part in line for part in wanted))

    def delete(self, *arguments: str, timeout_s: float = 120.0) -> None:
        """Delete what the arguments name and wait until it is gone."""
        self.run("delete", *arguments, "--ignore-not-found", f"--timeout={timeout_s:.0f}s", timeout_s=timeout_s + 10)

    def wait_gone(self, name: str, timeout_s: float) -> None:
        """Wait until nothing is left of what was made for an LLMDeployment."""
        left: Sequence[str] = ()

        def gone() -> bool:
            nonlocal left
            found = self.listed(OWNED_KINDS, f"serving.headrace.dev/deployment={name}")
            left = [f"{one['kind']}/{one['metadata']['name']}" for one in found]
            return not left

        try:
            wait_for(gone, timeout_s, f"Objects of {name} are left")
        except StartError as error:
            raise StartError(f"{error} {', '.join(left)}") from None

    def report(self, product: str = "headrace") -> str:
        """Return what a person wants to see of a scenario that failed, with the logs of one product's pods."""
        parts = [
            ("get", "llm,pods,jobs,pvc", "-o", "wide"),
            ("get", DEPLOYMENT, "-o", "jsonpath={range .items[*]}{.metadata.name}{.status}{'\\n'}{end}"),
            (
                "get",
                "events",
                "--sort-by=.lastTimestamp",
                "-o",
                "custom-columns=:.involvedObject.name,:.reason,:.message",
            ),
            ("logs", f"--selector=app.kubernetes.io/part-of={product}", "--all-containers", "--prefix", "--tail=25"),
        ]
        return "\n\n".join(f"$ kubectl {' '.join(part)}\n{self._try(*part)}" for part in parts)

    def _try(self, *arguments: str) -> str:
        try:
            return "\n".join(self.run(*arguments).splitlines()[-120:])
        except CommandError as error:
            return str(error)


def wait_for(probe: Callable[[], T | None], timeout_s: float, what: str) -> T:
    """Wait until `probe` returns something true, and return it.

    Raises:
        StartError: It did not within `timeout_s`; `what` is told as the thing that was waited for.
    """
    deadline_s = time.monotonic() + timeout_s
    while not (found := probe()):
        if time.monotonic() > deadline_s:
            raise StartError(f"{what} after {timeout_s:.0f} s.")
        time.sleep(POLL_S)
    return found
