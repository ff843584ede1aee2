"""The external scaler, called by a real client of gRPC."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.operator.cluster.loop import run

from headrace_operator.kubernetes.scaling.scaler import Scaler, ScalerError
from headrace_operator.kubernetes.scaling.wants import Want, Wants
from headrace_operator.scaling.load import PoolLoad
from headrace_operator.scaling.wire import SERVICE, MetricsQuestion, Reference, metric_spec, metric_value

CHAT = Reference("chat-decode", "team", {"scalerAddress": "x", "pool": "chat-decode"})
PLACE = ("team", "chat-decode")


class Client:
    """KEDA's side: the bytes of questions and answers."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def ask(self, method: str, question: Reference | MetricsQuestion) -> bytes:
        call: Any = self._channel.unary_unary(f"/{SERVICE}/{method}")
        answer: bytes = await call(question.encode(), timeout=30)
        return answer

    def stream(self, question: Reference) -> Any:
        call: Any = self._channel.unary_stream(f"/{SERVICE}/StreamIsActive")
        return call(question.encode())


@asynccontextmanager
async def talking(wants: Wants) -> AsyncIterator[Client]:
    async with Scaler(wants).serving("127.0.0.1", 0) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Client(channel)


def want(replicas: int) -> Want:
    return Want(replicas, PoolLoad())


def test_it_answers_with_the_workers_that_are_wanted_and_a_target_of_one() -> None:
    async def main() -> None:
        wants = Wants()
        wants.put({PLACE: want(7)})
        async with talking(wants) as client:
            assert await client.ask("GetMetricSpec", CHAT) == metric_spec("workers", 1)
            assert await client.ask("GetMetrics", MetricsQuestion(CHAT, "workers")) == metric_value("workers", 7)
            assert await client.ask("IsActive", CHAT) == b"\x08\x01"
            wants.put({PLACE: want(0)})
            assert await client.ask("IsActive", CHAT) == b""

    run(main())


def test_a_pool_that_nobody_looked_at_is_unavailable_and_so_left_alone() -> None:
    async def main() -> None:
        async with talking(Wants()) as client:
            for method, question in (("IsActive", CHAT), ("GetMetrics", MetricsQuestion(CHAT, "workers"))):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await client.ask(method, question)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
                assert "team/chat-decode" in (caught.value.details() or "")

    run(main())


def test_what_is_no_message_is_refused_and_the_next_call_is_answered() -> None:
    async def main() -> None:
        wants = Wants()
        wants.put({PLACE: want(1)})
        async with talking(wants) as client:
            call: Any = client._channel.unary_unary(f"/{SERVICE}/IsActive")
            with pytest.raises(grpc.aio.AioRpcError):
                await call(b"\x0a\x7f", timeout=30)
            assert await client.ask("IsActive", CHAT) == b"\x08\x01"

    run(main())


def test_a_stream_tells_at_once_when_a_pool_is_to_wake() -> None:
    async def main() -> None:
        wants = Wants()
        async with talking(wants) as client:
            stream = client.stream(CHAT)
            first = asyncio.ensure_future(stream.read())
            await client.ask("GetMetricSpec", CHAT)
            assert not first.done()
            wants.put({PLACE: want(0)})
            assert await first == b""
            second = asyncio.ensure_future(stream.read())
            wants.put({PLACE: want(0), ("team", "other"): want(3)})
            await client.ask("GetMetricSpec", CHAT)
            assert not second.done()
            began = time.perf_counter()
            wants.put({PLACE: want(1)})
            assert await second == b"\x08\x01"
            assert time.perf_counter() - began < 0.5
            stream.cancel()

    run(main())


def test_streams_end_when_this_operator_leads_no_more() -> None:
    async def main() -> None:
        wants = Wants()
        async with Scaler(wants).serving("127.0.0.1", 0) as port:
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            stream = Client(channel).stream(CHAT)
            reading = asyncio.ensure_future(stream.read())
            await Client(channel).ask("GetMetricSpec", CHAT)
        with pytest.raises(grpc.aio.AioRpcError):
            await reading
        await channel.close()

    run(main())


def test_a_port_that_is_taken_is_a_sentence() -> None:
    async def main() -> None:
        async with Scaler(Wants()).serving("127.0.0.1", 0) as port:
            with pytest.raises(ScalerError, match=f"cannot listen on 127.0.0.1:{port}"):
                async with Scaler(Wants()).serving("127.0.0.1", port):
                    pass

    run(main())


def test_raw_signals_are_told_only_where_all_workers_said_theirs() -> None:
    known = Want(2, PoolLoad(2, running=3, busy=2, waiting=1, waiting_tokens=70, used=0.5), held=2)
    assert known.raw() == {
        "requestsWaiting": 3,
        "promptTokensWaiting": 70,
        "workersBusy": 2,
        "requestsRunning": 3,
        "kvUsed": 0.5,
    }
    assert Want(2, PoolLoad(is_known=False)).raw() is None
