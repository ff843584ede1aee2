"""A router on a real socket in front of fake workers that speak frames, all in the test's own event loop."""

import asyncio
import contextlib
import dataclasses
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import uvloop

from headrace_api.frames import FrameHead, Resume, Token, Usage, decode_head, encode_frame
from headrace_router.discovery.file import FileDiscovery
from headrace_router.process import RouterProcess
from headrace_router.settings import RouterSettings

T = TypeVar("T")
DEADLINE_S = 40.0


def run(main: Coroutine[Any, Any, T], loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop) -> T:
    """Run a test's coroutine on the loop that the router uses, with a deadline."""

    async def limited() -> T:
        async with asyncio.timeout(3 * DEADLINE_S):
            return await main

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(limited())


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds; fail after the deadline."""
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end_s, f"never came true: {what}"
        await asyncio.sleep(0.005)


# --- the worker ----------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Seen:
    """One request as a fake worker received it."""

    path: str
    headers: dict[str, str]
    body: bytes
    resume: Resume | None = None
    gone: bool = False
    """Whether the router closed the connection before the answer ended."""

    @property
    def fields(self) -> dict[str, Any]:
        """The client's JSON."""
        found = json.loads(self.resume.body if self.resume else self.body)
        assert isinstance(found, dict)
        return found


def words(count: int) -> list[str]:
    """The text every fake worker generates: replays must continue it exactly."""
    return [f"w{index} " for index in range(count)]


class Listener:
    """A server whose requests subclasses read and answer; `stop` is a death."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0, *, context: ssl.SSLContext | None = None, prefix: str = "") -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port, ssl=context)
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{prefix}"

    async def stop(self) -> None:
        """Close the listener and every connection."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read a request and answer it; False ends the connection."""
        raise NotImplementedError


class FakeWorker(Listener):
    """Answers with `count` tokens; the knobs say how it misbehaves."""

    def __init__(self, name: str, role: str = "decode", deployment: str = "chat") -> None:
        super().__init__()
        self.name = name
        self.role = role
        self.deployment = deployment
        self.count = 8
        self.die_after: int | None = None
        """Close the connection behind so many tokens, in the middle of the next frame; then behave."""
        self.hold = asyncio.Event()
        self.hold.set()
        self.hold_after = 0
        """With `hold` cleared: wait behind so many tokens."""
        self.refuse: tuple[int, bytes] | None = None
        """Answer with this status and JSON body."""
        self.refused: str | None = None
        """Say why, where it refuses."""
        self.plain: bytes | None = None
        """Write these bytes as they are; the connection stays open."""
        self.plain_then_die = False
        self.padding = 0
        """Bytes added to each token's text."""
        self.sent_bytes = 0
        self.prefill = "local"
        self.cached_tokens = 0
        self.logprob = -0.5
        """Of each token."""
        self.says: Callable[[Seen], str] | None = None
        """Answer with this text, in one token and in OpenAI's shape."""
        self.metered: tuple[float, float] | None = None
        """State usage, and GPU-seconds: of the prompt, and of each token."""

    def entry(self, pid: int = 1) -> dict[str, Any]:
        """This worker's line in a state file."""
        return {
            "deployment": self.deployment,
            "role": self.role,
            "url": self.url,
            "pid": pid,
            "worker": self.name,
        }

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)}
        body = await reader.readexactly(int(headers["content-length"]))
        seen = Seen(line.split(" ")[1], headers, body)
        if "resume" in headers["content-type"]:
            seen.resume = msgspec.msgpack.decode(body, type=Resume)
        self.seen.append(seen)
        watch = asyncio.create_task(self._watch(reader, seen))
        try:
            return await self._answer(seen, writer)
        except ConnectionError:
            seen.gone = True
            raise
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _watch(self, reader: asyncio.StreamReader, seen: Seen) -> None:
        """Note that the router has left; it sends nothing more before its answer has ended."""
        while not reader.at_eof():  # noqa: ASYNC110 - a StreamReader has no event for its end
            await asyncio.sleep(0.005)
        seen.gone = True

    async def _answer(self, seen: Seen, writer: asyncio.StreamWriter) -> bool:
        if self.refuse is not None:
            status, body = self.refuse
            why = "" if self.refused is None else f"x-headrace-refused: {self.refused}\r\n"
            length = f"content-length: {len(body)}\r\n"
            head = f"HTTP/1.1 {status} No\r\ncontent-type: application/json\r\n{why}{length}\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
            return True
        if self.plain is not None:
            writer.write(self.plain)
            await writer.drain()
            return not self.plain_then_die
        return await self._frames(seen, writer)

    async def _frames(self, seen: Seen, writer: asyncio.StreamWriter) -> bool:
        def piece(data: bytes) -> bytes:
            return b"%x\r\n%b\r\n" % (len(data), data)

        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.headrace.frames\r\ntransfer-encoding: chunked\r\n"
            + f"x-headrace-prefill: {self.prefill}\r\nx-headrace-decode: {self.name}\r\n\r\n".encode()
        )
        if self.says is not None:
            for frame in self._said(seen, self.says(seen)):
                writer.write(piece(frame))
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            return True
        done = seen.resume.heads if seen.resume else ()
        start = sum(len(decode_head(head).tokens) for head in done)
        for index in range(start, self.count):
            if index >= self.hold_after:
                await self.hold.wait()
            frame = self._frame(seen, index)
            if self.die_after == index:
                self.die_after = None
                writer.write(piece(frame[: len(frame) - 3]))
                await writer.drain()
                return False
            writer.write(piece(frame))
            self.sent_bytes += len(frame)
            await writer.drain()
        writer.write(piece(self._final(seen)) + b"0\r\n\r\n")
        await writer.drain()
        return True

    def _said(self, seen: Seen, text: str) -> tuple[bytes, bytes]:
        token = FrameHead(tokens=(Token(0, self.logprob, 0.1),), prefill=self.prefill, prompt_tokens=100)
        end = FrameHead(finish="stop", final=True, usage=Usage(100, 1, 0))
        if seen.fields.get("stream"):
            event = {"choices": [{"index": 0, "delta": {"content": text}}]}
            first = f"data: {json.dumps(event)}\n\n".encode()
            return encode_frame(token, first), encode_frame(end, b"data: [DONE]\n\n")
        usage = {"prompt_tokens": 100, "completion_tokens": 1}
        whole = json.dumps({"choices": [{"index": 0, "message": {"content": text}}], "usage": usage}).encode()
        return encode_frame(token), encode_frame(end, whole)

    def _frame(self, seen: Seen, index: int) -> bytes:
        text = words(self.count)[index] + "x" * self.padding
        payload = f"data: {text}\n\n".encode() if seen.fields.get("stream") else b""
        first = index == 0
        prefill_s, decode_s = self.metered or (0.0, 0.0)
        replayed = seen.resume is not None and index == sum(len(decode_head(head).tokens) for head in seen.resume.heads)
        head = FrameHead(
            tokens=(Token(index, self.logprob, 0.1),),
            prefill=self.prefill if first else None,
            prompt_tokens=100 if first and self.metered else 0,
            cached_tokens=self.cached_tokens if first else 0,
            prefill_s=prefill_s if first or replayed else 0.0,
            decode_s=decode_s,
        )
        return encode_frame(head, payload)

    def _final(self, seen: Seen) -> bytes:
        usage = Usage(100, self.count, self.cached_tokens)
        told = {"usage": {"prompt_tokens": 100, "completion_tokens": self.count}} if self.metered else {}
        whole = json.dumps({"text": "".join(words(self.count))} | told).encode()
        event = f"data: {json.dumps({'choices': []} | told)}\n\n".encode()
        asked = told and seen.fields.get("stream_options", {}).get("include_usage")
        done = (event if asked else b"") + b"data: [DONE]\n\n"
        payload = done if seen.fields.get("stream") else whole
        return encode_frame(FrameHead(finish="stop", final=True, usage=usage), payload)


def stream_bytes(count: int, padding: int = 0) -> bytes:
    """The stream that clients must get, whatever happens to workers."""
    return "".join(f"data: {word}{'x' * padding}\n\n" for word in words(count)).encode() + b"data: [DONE]\n\n"


# --- the client ----------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Reply:
    """One answer as a client read it."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool = True
    """Whether the body ended as its framing says."""

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Connection:
    """A client that writes bytes and reads answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Write."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Reply:
        """Read an answer's head."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)}
        return Reply(int(line.split(" ")[1]), headers, b"")

    async def chunk(self) -> bytes:
        """Read one chunk of a chunked body; empty at its end."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def reply(self, *, bodyless: bool = False) -> Reply:
        """Read a whole answer."""
        reply = await self.head()
        if bodyless or reply.status < 200:
            return reply
        try:
            if reply.headers.get("transfer-encoding") == "chunked":
                while piece := await self.chunk():
                    reply.body += piece
            elif "content-length" in reply.headers:
                reply.body = await self.reader.readexactly(int(reply.headers["content-length"]))
            else:
                reply.body = await self.reader.read()
        except asyncio.IncompleteReadError as error:
            reply.body += error.partial
            reply.whole = False
        return reply

    async def closed(self) -> bool:
        """Whether the router closes the connection within the deadline, having said nothing more."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True

    def leave(self) -> None:
        """Go away without a word."""
        self.writer.transport.abort()


def post(body: bytes | dict[str, Any], path: str = "/v1/chat/completions", headers: str = "") -> bytes:
    """Return a request as bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: t\r\n{headers}Content-Length: {len(data)}\r\n\r\n".encode() + data


def get(path: str, method: str = "GET") -> bytes:
    """Return a request without a body as bytes."""
    return f"{method} {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode()


def chat(content: str = "hello", **fields: Any) -> dict[str, Any]:
    """Return the JSON of a chat request."""
    return {"model": "chat", "messages": [{"role": "user", "content": content}], **fields}


# --- all together --------------------------------------------------------------------------------------------


class Rig:
    """A router, its state file, its workers."""

    def __init__(self, process: RouterProcess, state: Path) -> None:
        self.process = process
        self.router = process.router
        self.state = state
        self.workers: list[FakeWorker] = []
        self.connections: list[Connection] = []

    async def worker(self, name: str, role: str = "decode", *, listed: bool = True, port: int = 0) -> FakeWorker:
        """Start a worker and list it."""
        worker = FakeWorker(name, role)
        await worker.start(port)
        self.workers.append(worker)
        if listed:
            await self.publish(*[one for one in self.workers if one.role != "unlisted"])
        return worker

    async def publish(self, *workers: FakeWorker) -> None:
        """Rewrite the state file and let the router read it."""
        partial = self.state.with_suffix(".part")
        partial.write_text(json.dumps({"router": None, "workers": [worker.entry() for worker in workers]}))
        partial.replace(self.state)
        assert isinstance(self.process.discovery, FileDiscovery)
        self.process.discovery.poll()

    async def connect(self) -> Connection:
        """Open a client connection."""
        host, port = self.process.url.removeprefix("http://").split(":")
        connection = Connection(*await asyncio.open_connection(host, int(port)))
        self.connections.append(connection)
        return connection

    async def ask(self, data: bytes | dict[str, Any]) -> Reply:
        """Send one request on a connection of its own and read its answer."""
        connection = await self.connect()
        await connection.send(data if isinstance(data, bytes) else post(data))
        async with asyncio.timeout(DEADLINE_S):
            reply = await connection.reply(bodyless=isinstance(data, bytes) and data.startswith(b"HEAD"))
        connection.leave()
        return reply

    async def metric(self, line: str) -> float:
        """Return the value of one sample."""
        text = (await self.ask(get("/metrics"))).body.decode()
        found = [one.rpartition(" ")[2] for one in text.splitlines() if one.startswith(line + " ")]
        assert found, f"no {line} in\n{text}"
        return float(found[0])


@contextlib.asynccontextmanager
async def rig(folder: Path, **settings: Any) -> AsyncIterator[Rig]:
    """Run a router with these settings until the block ends; short deadlines unless given."""
    state = folder / "state.json"
    given = {"discovery": f"file:{state}", "port": 0, "drain_deadline_s": 1.0}
    given |= {"hold_deadline_s": 5.0, "replay_deadline_s": 5.0} | settings
    process = RouterProcess(RouterSettings(**given))
    serving = asyncio.create_task(process.run())
    await asyncio.wait([serving, asyncio.create_task(process.listening.wait())], return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        await serving
    made = Rig(process, state)
    try:
        yield made
    finally:
        for connection in made.connections:
            connection.leave()
        process.stop()
        process.stop()
        await serving
        for worker in made.workers:
            await worker.stop()
