"""Where kopf meets the operator: `kopf run -m headrace_operator.handlers`, or `python -m headrace_operator`.

kopf watches the resources that users write and hands each event on; it keeps nothing in them and asks for no finalizer,
since it has event handlers only. Everything else is the operator's own: the queue, leadership, and what is done.
"""

# mypy: disable-error-code="untyped-decorator"
# kopf's decorators are left untyped by the project's settings: its own types refuse handlers with fewer arguments.
import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import kopf

from headrace_api.names import GROUP, VERSION
from headrace_operator.kubernetes.credentials import Credentials, load
from headrace_operator.kubernetes.election import Terms
from headrace_operator.kubernetes.lease import Candidate
from headrace_operator.kubernetes.operator import Operator
from headrace_operator.kubernetes.scaling.endpoint import Offer
from headrace_operator.kubernetes.surface import surface
from headrace_operator.settings import OperatorSettings, parse_settings
from headrace_operator.unstored import NoDifference, NoProgress

logger = logging.getLogger(__name__)

_RELOGIN: Final = timedelta(minutes=10)
"""Service account tokens live for an hour and are renewed in their file well before."""


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    """Bring the operator up beside kopf."""
    given: OperatorSettings = memo.get("settings") or parse_settings([])
    configure(settings, given)
    credentials = await load(given.kubeconfig)
    memo.credentials = credentials
    memo.operator = build(given, credentials, **memo.get("options", {}))
    stack = memo.stack = AsyncExitStack()
    memo.task = asyncio.create_task(memo.operator.run(), name="operator")
    memo.task.add_done_callback(_tell_end)
    address = await stack.enter_async_context(
        surface(
            given.host, given.port, lambda: not memo.task.done(), memo.operator.metrics, memo.operator.scaling.signals
        )
    )
    memo.address = address
    logger.info("the operator %s is up; health and figures are at %s", given.identity, address)


@kopf.on.cleanup()
async def stop(memo: kopf.Memo, **_: Any) -> None:
    """End the operator, which gives its leadership back."""
    task: asyncio.Task[None] | None = memo.get("task")
    if task is not None:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
        await memo.stack.aclose()


@kopf.on.login()
async def login(memo: kopf.Memo, **_: Any) -> kopf.ConnectionInfo:
    """Give kopf the credentials that the operator uses."""
    await memo.credentials.authorization()
    return memo.credentials.for_kopf(datetime.now(UTC) + _RELOGIN)


@kopf.on.event(GROUP, VERSION, "llmdeployments")
@kopf.on.event(GROUP, VERSION, "llmrouters")
async def hand_on(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> None:
    """Hand a resource on to the operator."""
    body = event["object"]
    memo.operator.take(str(body["kind"]), body, gone=event["type"] == "DELETED")


def configure(settings: kopf.OperatorSettings, given: OperatorSettings) -> None:
    """Tell kopf to write nothing, and to leave leadership to the Lease."""
    settings.persistence.diffbase_storage = NoDifference()
    settings.persistence.progress_storage = NoProgress()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = bool(given.served)
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = 90
    settings.networking.request_timeout = 20


def build(given: OperatorSettings, credentials: Credentials, **options: Any) -> Operator:
    """Return an operator as the settings describe it; `options` are for tests."""
    namespace = given.operator_namespace or credentials.namespace
    duration_s = given.lease_duration_s
    if given.key_file is None:
        logger.warning("no --key-file is given: what an earlier operator knew of workers' secrets is lost to this one")
    terms = Terms(duration_s, renew_s=duration_s * 2 / 3, retry_s=duration_s / 8)
    return Operator(
        credentials,
        Candidate(given.identity, namespace, given.lease_name, terms),
        site=given.site(namespace),
        namespaces=given.served,
        key=given.key(),
        nodes=given.gpus == "auto" and not given.served,
        **{"offer": _offer(given, namespace), **options},
    )


def _offer(given: OperatorSettings, namespace: str) -> Offer:
    """Return where KEDA can reach this operator; `namespace` is the operator's own."""
    return Offer(
        service=given.scaler_service,
        namespace=namespace,
        host=given.host,
        grpc_port=given.scaler_port,
        http_port=given.port,
        pod=given.pod,
        pod_uid=given.pod_uid,
        pod_ip=given.pod_ip,
        interval_s=given.scaling_interval_s,
    )


def _tell_end(task: "asyncio.Task[None]") -> None:
    """Log why the operator ended by itself; its health turns, and whoever supervises it starts it anew."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the operator ended: %s", error, exc_info=error)
