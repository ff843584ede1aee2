"""One HTTP request on a connection of its own: no pool stands between a client that leaves and the service."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


class CutError(Exception):
    """The connection ended before the answer did, and nobody said why."""


@dataclass(slots=True)
class Answer:
    """An answer whose head has come."""

    status: int
    headers: dict[str, str]
    _reader: asyncio.StreamReader

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield the lines of the body as they come."""
        rest = b""
        async for part in self._parts():
            *whole, rest = (rest + part).split(b"\n")
            for line in whole:
                yield line
        if rest:
            yield rest

    async def body(self) -> bytes:
        """Return the whole body."""
        return b"".join([part async for part in self._parts()])

    async def _parts(self) -> AsyncIterator[bytes]:
        if self.headers.get("transfer-encoding") != "chunked":
            length = self.headers.get("content-length")
            yield await (self._reader.read() if length is None else self._reader.readexactly(int(length)))
            return
        while (size := int(await self._reader.readuntil(b"\r\n"), 16)) > 0:
            yield (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readuntil(b"\r\n")


@contextlib.asynccontextmanager
async def post(url: str, body: dict[str, Any]) -> AsyncIterator[Answer]:
    """Send a JSON body; leaving the block closes the connection, whatever of the answer has come.

    Raises:
        ConnectionRefusedError: nobody listens; nothing was sent.
        CutError: the connection ended within the answer.
    """
    target = urlsplit(url)
    content = json.dumps(body).encode()
    head = f"POST {target.path} HTTP/1.1\r\nhost: {target.netloc}\r\ncontent-length: {len(content)}\r\n"
    try:
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
    except ConnectionRefusedError:
        raise
    except OSError as error:
        raise CutError(f"no connection: {error!r}") from error
    try:
        writer.write(head.encode() + b"content-type: application/json\r\nconnection: close\r\n\r\n" + content)
        await writer.drain()
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.split(":", 1) for line in lines if line)
        yield Answer(int(status.split()[1]), {name.lower(): value.strip() for name, value in pairs}, reader)
    except (asyncio.IncompleteReadError, OSError) as error:
        raise CutError(repr(error)) from error
    finally:
        writer.close()
