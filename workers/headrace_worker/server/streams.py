"""Which request each of the core's messages belongs to."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from headrace_api.names import REFUSED_OVERLOADED
from headrace_worker.errors import RequestError
from headrace_worker.messages import Cancel, Failed, Finish, Generate, Output, ToCore

STALL_S: Final = 1800.0
"""Bound on the wait for the next output: a core that is silent for longer has lost the request."""
STATUS = {"invalid": 400, "overloaded": 503, "internal": 500}


class CoreLostError(Exception):
    """The core has ended, or failed the request in a way that another worker may not: this answer can't go on."""


class ClientGoneError(Exception):
    """The client has closed its connection."""


class Stream:
    """The outputs of one client request, which may be several `Generate`s; each is named in `keys`."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = tuple(keys)
        self._outputs: deque[Output] = deque()
        self._end: Exception | None = None
        self._news = asyncio.Event()

    def put(self, output: Output) -> None:
        """Add an output."""
        self._outputs.append(output)
        self._news.set()

    def fail(self, error: Exception) -> None:
        """End the stream: `take` raises this once; what was not taken before is void."""
        self._end = self._end or error
        self._news.set()

    async def take(self) -> list[Output]:
        """Return all outputs that have come since the last call, at least one; raise what ended the stream."""
        try:
            async with asyncio.timeout(STALL_S):
                await self._news.wait()
        except TimeoutError:
            raise CoreLostError from None
        if self._end is not None:
            raise self._end
        outputs = list(self._outputs)
        self._outputs.clear()
        self._news.clear()
        return outputs


class Streams:
    """All requests that run now."""

    def __init__(self, send: Callable[[ToCore], None]) -> None:
        self._send = send
        self._by_key: dict[str, Stream] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._serial = 0

    def __len__(self) -> int:
        return len({id(stream) for stream in self._by_key.values()})

    def new_keys(self, request_id: str, count: int) -> list[str]:
        """Return names for the parts of a request, unique here even when clients repeat a request id."""
        self._serial += 1
        return [f"{request_id}.{self._serial}.{part}" for part in range(count)]

    def open(self, generates: Sequence[Generate]) -> Stream:
        """Hand a request to the core."""
        stream = Stream([generate.request for generate in generates])
        for generate in generates:
            self._by_key[generate.request] = stream
            self._send(generate)
        self._idle.clear()
        return stream

    def finish(self, key: str, choice: int) -> None:
        """Tell the core that a stop string has ended a choice."""
        self._send(Finish(key, choice))

    def close(self, stream: Stream, *, done: bool) -> None:
        """Forget a request; unless it is done the core frees everything of it within a step."""
        for key in stream.keys:
            if self._by_key.pop(key, None) is not None and not done:
                self._send(Cancel(key))
        if not self._by_key:
            self._idle.set()

    def route(self, outputs: Sequence[Output]) -> None:
        """Give each output to its request; those of requests that have gone are dropped."""
        for output in outputs:
            stream = self._by_key.get(output.request)
            if stream is not None:
                stream.put(output)

    def fail(self, failed: Failed) -> None:
        """End the request that the core gave up."""
        stream = self._by_key.pop(failed.request, None)
        if stream is not None:
            status = STATUS.get(failed.kind, 500)
            code = REFUSED_OVERLOADED if status == 503 else None
            stream.fail(RequestError(failed.message, status=status, code=code))

    def fail_all(self) -> None:
        """End every request: the core is gone."""
        for stream in self._by_key.values():
            stream.fail(CoreLostError())

    async def wait_idle(self) -> None:
        """Return once no request runs."""
        await self._idle.wait()
