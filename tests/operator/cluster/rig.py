"""The operator in this process, as kopf runs it, on a real API server whose pods run nothing."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import kopf
from tests.operator.cluster.loop import eventually

import headrace_operator.handlers  # noqa: F401 - kopf finds its handlers by the import
from headrace_operator.errors import ProbeError
from headrace_operator.http.probe import Handoff
from headrace_operator.kubernetes.credentials import load
from headrace_operator.kubernetes.kinds import CHILDREN, EVENTS, LLM_DEPLOYMENTS, LLM_ROUTERS, Kind
from headrace_operator.kubernetes.session import Request, Session
from headrace_operator.settings import OperatorSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from e2e.cluster.kubectl import Kubectl

    from headrace_operator.desired import Template
    from headrace_operator.kubernetes.errors import UnavailableError
    from headrace_operator.kubernetes.operator import Operator
    from headrace_operator.observed import Worker

WRITES = {"apply", "post", "patch", "scale", "delete"}


@dataclass
class Calls:
    """What the operator writes, one word for each call; `fault` may raise before or hold after one."""

    made: list[str] = field(default_factory=list)
    fault: Callable[[int, Request], Any] | None = None
    dies_after: int | None = None
    died: asyncio.Event = field(default_factory=asyncio.Event)

    def session(self, *arguments: Any, **options: Any) -> Session:
        calls = self

        class Counted(Session):
            async def send(self, request: Request) -> bytes:
                if request.verb not in WRITES:
                    return await super().send(request)
                if calls.died.is_set():
                    await asyncio.Event().wait()
                subresource = request.target.partition("?")[0].rpartition("/")[2]
                mark = "/status" if subresource == "status" else ""
                calls.made.append(f"{request.verb} {request.kind}{mark}")
                if calls.fault is not None and (raised := calls.fault(len(calls.made), request)) is not None:
                    raise raised
                [answer] = await asyncio.gather(super().send(request), return_exceptions=True)
                if calls.dies_after is not None and len(calls.made) >= calls.dies_after:
                    calls.died.set()
                    await asyncio.Event().wait()
                if isinstance(answer, BaseException):
                    raise answer
                return answer

        return Counted(*arguments, **options)


class Trials:
    """Takes the place of real requests to workers; `broken` says which do not work."""

    def __init__(self) -> None:
        self.tried: list[tuple[str, str]] = []
        self.broken: Callable[[Worker, Worker], bool] = lambda *_: False

    async def probe(self, prefill: Worker, decode: Worker, template: Template) -> Handoff:
        assert template.model
        self.tried.append((prefill.name, decode.name))
        if self.broken(prefill, decode):
            raise ProbeError(f"{decode.name} saw no KV of {prefill.name}")
        return Handoff(4096, 0.01)


class Rig:
    """One operator at work in one namespace."""

    def __init__(self, namespace: str, kubectl: Kubectl, session: Session, calls: Calls, trials: Trials) -> None:
        self.namespace = namespace
        self.calls = calls
        self.trials = trials
        self.session = session
        self.operator: Operator
        self._kubectl = kubectl

    async def kubectl(self, *arguments: str) -> str:
        return await asyncio.to_thread(self._kubectl, "-n", self.namespace, *arguments)

    async def apply(self, name: str = "chat", kind: str = "LLMDeployment", **spec: Any) -> None:
        """Apply a resource as a user does; a deployment's model is a file unless the spec says otherwise."""
        if kind == "LLMDeployment":
            spec = {"model": {"uri": "file:///models/m"}, **spec}
        await asyncio.to_thread(
            self._kubectl.apply,
            [
                {
                    "apiVersion": "serving.headrace.dev/v1alpha1",
                    "kind": kind,
                    "metadata": {"name": name, "namespace": self.namespace},
                    "spec": spec,
                }
            ],
        )

    async def whole(self, kind: Kind[Any], name: str) -> Any:
        return await self.session.read_whole(kind, self.namespace, name)

    async def status(self, name: str = "chat", kind: Kind[Any] = LLM_DEPLOYMENTS) -> dict[str, Any]:
        status: dict[str, Any] = (await self.whole(kind, name)).get("status", {})
        return status

    async def condition(self, of: str = "Ready", name: str = "chat", kind: Kind[Any] = LLM_DEPLOYMENTS) -> Any:
        told = (await self.status(name, kind)).get("conditions", [])
        return next((one for one in told if one["type"] == of), {"status": None, "reason": "", "message": ""})

    async def until(
        self, of: str = "Ready", holds: str = "True", name: str = "chat", kind: Kind[Any] = LLM_DEPLOYMENTS
    ) -> Any:
        """Wait for a condition that was told of the newest generation."""

        async def turned() -> Any:
            whole = await self.whole(kind, name)
            told = [one for one in whole.get("status", {}).get("conditions", []) if one["type"] == of]
            fresh = whole.get("status", {}).get("observedGeneration") == whole["metadata"]["generation"]
            return told[0] if told and fresh and told[0]["status"] == holds else None

        try:
            return await eventually(turned, timeout_s=60)
        except TimeoutError:
            raise AssertionError(
                f"{of} is not {holds}: {json.dumps(await self.status(name, kind), indent=1)}"
            ) from None

    async def names(self, kind: Kind[Any]) -> list[str]:
        listed = json.loads(await self.kubectl("get", kind.plural, "-o", "json"))["items"]
        return sorted(one["metadata"]["name"] for one in listed)

    async def settle(self, timeout_s: float = 20.0) -> None:
        """Wait until the operator has nothing to do and no news come for a moment."""

        async def still() -> bool:
            before = len(self.calls.made)
            for _ in range(10):
                await asyncio.sleep(0.05)
                if not self.operator.queue.is_idle or len(self.calls.made) != before:
                    return False
            return True

        await eventually(still, timeout_s)

    async def events(self) -> list[tuple[str, str]]:
        listed = json.loads(await self.kubectl("get", EVENTS.plural + ".events.k8s.io", "-o", "json"))["items"]
        return [(one["reason"], one["note"]) for one in listed if one["reportingController"].startswith("serving.")]


@asynccontextmanager
async def operating(
    kubeconfig: str,
    kubectl: Kubectl,
    namespace: str,
    *,
    calls: Calls | None = None,
    trials: Trials | None = None,
    lease: str = "operator",
    **options: Any,
) -> AsyncIterator[Rig]:
    """Run the operator for one namespace."""
    calls, trials = calls or Calls(), trials or Trials()
    settings = OperatorSettings(
        namespaces=namespace,
        operator_namespace=namespace,
        kubeconfig=kubeconfig,
        host="127.0.0.1",
        port=0,
        lease_name=lease,
        lease_duration_s=15,
        gpus="no",
    )
    memo = kopf.Memo(settings=settings, options={"probe": trials.probe, "sessions": calls.session, **options})
    stop = asyncio.Event()
    task = asyncio.create_task(
        kopf.operator(memo=memo, namespaces=[namespace], standalone=True, stop_flag=stop, ready_flag=None)
    )
    try:
        async with Session(await load(kubeconfig)) as session:
            rig = Rig(namespace, kubectl, session, calls, trials)
            await eventually(lambda: task.done() or ("operator" in memo and memo.operator.lease.left_s() > 0))
            if task.done():
                task.result()
            rig.operator = memo.operator
            yield rig
    finally:
        stop.set()
        async with asyncio.timeout(30):
            await task


def snapshot_kinds() -> tuple[Kind[Any], ...]:
    """Return the kinds whose objects make up what the operator made."""
    return (*(kind for kind in CHILDREN if kind.plural != "pods"), LLM_DEPLOYMENTS, LLM_ROUTERS)


def fail_with(error: type[UnavailableError] | Callable[[], Exception], *numbers: int) -> Callable[[int, Request], Any]:
    """Return a fault for the calls of these numbers."""
    return lambda number, _: error() if number in numbers else None
