"""Decode workers hear of prefill pods that have ended, until each of them has taken note."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.operator.cluster.loop import run

from headrace_operator.desired import DeploymentName, WorkerName
from headrace_operator.http.client import Client
from headrace_operator.kubernetes import vouch
from headrace_operator.kubernetes.cache import Key
from headrace_operator.kubernetes.memory import Memory
from headrace_operator.observed import Phase, Worker

CHAT = DeploymentName("chat")


@dataclass
class Listener:
    """A decode worker that notes what it is told, and answers as it is set."""

    status: int = 200
    url: str = ""
    told: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = next(int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:"))
        secret = next(line for line in head.split("\r\n") if line.lower().startswith("authorization"))
        self.told.append((secret.partition(": ")[2], json.loads(await reader.readexactly(size))))
        writer.write(f"HTTP/1.1 {self.status} X\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def listening(*listeners: Listener) -> AsyncIterator[None]:
    servers = []
    for listener in listeners:
        server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
        listener.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        servers.append(server)
    yield
    for server in servers:
        server.close()
        await server.wait_closed()


def decode(listener: Listener, incarnation: str, phase: Phase = Phase.READY) -> Worker:
    return Worker(WorkerName(incarnation), CHAT, "decode", phase, incarnation, listener.url)


def test_each_decode_worker_is_told_once_and_again_where_it_did_not_take_note() -> None:
    async def main() -> None:
        first, second = Listener(), Listener(status=503)
        async with listening(first, second):
            workers = [decode(first, "d1/0"), decode(second, "d2/0")]
            memory = Memory(ended={"p-uid": vouch.listeners(workers)})
            client = Client(2.0)

            assert not await vouch.tell(memory, workers, client, "s3cret")
            second.status = 200
            assert await vouch.tell(memory, workers, client, "s3cret")
            assert await vouch.tell(memory, workers, client, "s3cret")

        assert first.told == [("Bearer s3cret", {"pod": "p-uid"})]
        assert second.told == [("Bearer s3cret", {"pod": "p-uid"})] * 2

    run(main())


def test_who_has_ended_or_started_anew_need_not_be_told() -> None:
    async def main() -> None:
        listener = Listener()
        async with listening(listener):
            memory = Memory(ended={"p-uid": {"d1/0", "d2/0"}})
            workers = [decode(listener, "d1/1"), decode(listener, "d2/0", Phase.DEAD)]

            assert await vouch.tell(memory, workers, Client(2.0), "s3cret")

        assert listener.told == []
        assert memory.ended == {}

    run(main())


def test_secrets_differ_between_deployments_and_not_between_operators() -> None:
    chat = Key("LLMDeployment", "default", "chat")
    secrets = {
        vouch.shared_secret(b"key", chat, "u1"),
        vouch.shared_secret(b"key", chat, "u2"),
        vouch.shared_secret(b"key", chat._replace(namespace="other"), "u1"),
        vouch.shared_secret(b"another", chat, "u1"),
    }
    assert len(secrets) == 4
    assert vouch.shared_secret(b"key", chat, "u1") in secrets
