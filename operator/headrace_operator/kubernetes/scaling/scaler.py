"""The external scaler that KEDA calls: gRPC over the policy's newest answers.

It answers from memory, so that no call waits for a worker. grpcio carries it: it is kept by those who keep gRPC, speaks
to asyncio, and needs no generated code. It listens only while this operator leads; whoever does not is not asked.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc
import grpc.aio

from headrace_operator.errors import OperatorError
from headrace_operator.kubernetes.scaling.wants import Want, Wants
from headrace_operator.objects.scaledobject import METRIC
from headrace_operator.scaling import wire
from headrace_operator.scaling.wire import MetricsQuestion, Reference

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[object, bytes]

logger = logging.getLogger(__name__)

_OPTIONS: Final = (
    # Two operators on one port would share its callers in silence.
    ("grpc.so_reuseport", 0),
    # A caller whose node has gone leaves no word, and its stream would stay for good.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 65_536),
)
_AT_ONCE: Final = 8192
"""Calls, most of them one stream for each pool."""
_GRACE_S: Final = 0.5


class ScalerError(OperatorError):
    """The scaler cannot listen."""


class Scaler:
    """Answers KEDA.

    Args:
        wants: the policy's answers.
    """

    def __init__(self, wants: Wants) -> None:
        self._wants = wants

    @asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[int]:
        """Listen while the context lasts; its value is the port, a free one where `port` is 0.

        Raises:
            ScalerError: the port is taken.
        """
        server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_AT_ONCE)
        server.add_generic_rpc_handlers((self._handlers(),))
        try:
            bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except RuntimeError as error:
            raise ScalerError(f"the scaler cannot listen on {host}:{port}: {error}") from error
        await server.start()
        try:
            yield bound
        finally:
            await server.stop(_GRACE_S)

    async def is_active(self, reference: Reference, context: "Context") -> bytes:
        """Return whether a pool should have any worker."""
        return wire.activity(is_active=(await self._want(reference, context)).is_active)

    async def stream_is_active(self, reference: Reference, _: "Context") -> AsyncIterator[bytes]:
        """Yield whether a pool should have any worker, now and whenever that turns; nothing while it is not known."""
        before: bool | None = None
        while True:
            version = self._wants.version
            want = self._wants.get(*_place(reference))
            if want is not None and want.is_active != before:
                before = want.is_active
                yield wire.activity(is_active=before)
            await self._wants.changed(version)

    async def get_metric_spec(self, _: Reference, __: "Context") -> bytes:
        """Return the one metric: the workers that are wanted, where each is worth one."""
        return wire.metric_spec(METRIC, 1)

    async def get_metrics(self, question: MetricsQuestion, context: "Context") -> bytes:
        """Return how many workers are wanted."""
        return wire.metric_value(question.metric or METRIC, (await self._want(question.reference, context)).replicas)

    async def _want(self, reference: Reference, context: "Context") -> Want:
        """Return the answer for a pool; one that is not known ends the call, and KEDA then leaves the pool alone."""
        want = self._wants.get(*_place(reference))
        if want is None:
            await _refuse(context, "/".join(_place(reference)))
        return want

    def _handlers(self) -> grpc.GenericRpcHandler:
        unary = grpc.unary_unary_rpc_method_handler
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "IsActive": unary(self.is_active, Reference.decode),
            "StreamIsActive": grpc.unary_stream_rpc_method_handler(self.stream_is_active, Reference.decode),
            "GetMetricSpec": unary(self.get_metric_spec, Reference.decode),
            "GetMetrics": unary(self.get_metrics, MetricsQuestion.decode),
        }
        return grpc.method_handlers_generic_handler(wire.SERVICE, handlers)


def _place(reference: Reference) -> tuple[str, str]:
    """Return namespace and name of the LLMPool; a ScaledObject is named like its pool."""
    return reference.namespace, reference.metadata.get("pool") or reference.name


async def _refuse(context: "Context", pool: str) -> NoReturn:
    await context.abort(grpc.StatusCode.UNAVAILABLE, f"LLMPool {pool} is not scaled, or was not looked at yet")
    raise asyncio.CancelledError
