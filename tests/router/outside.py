"""An OpenAI-compatible endpoint that somebody else runs, over TLS or not, and a router that has it as a tier."""

import asyncio
import contextlib
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from tests.router.cost.shop import BY_TOKEN, key_file
from tests.router.rig import Listener, Rig, Seen, chat, post, rig

THEIR_MODEL = "large-1"
THEIR_KEY = "sk-theirs"
PROMPT_TOKENS = 100


class FakeEndpoint(Listener):
    """Answers as OpenAI does; the knobs say how it misbehaves."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 8
        """Tokens of an answer."""
        self.refuse: tuple[int, str, str] | None = None
        """Answer with this status, this message and these header lines."""
        self.die_after: int | None = None
        """Close the connection behind so many events of a stream, or in place of a whole answer."""
        self.silent = False
        """Say nothing, until the router has left."""
        self.left = False
        self.pause_after: int | None = None
        """Wait for `go_on` behind so many events."""
        self.go_on = asyncio.Event()
        self.piece_bytes = 0
        """Write answers in pieces of so many bytes, each a chunk."""
        self.states_usage = True

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)}
        seen = Seen(line.split(" ")[1], headers, await reader.readexactly(int(headers["content-length"])))
        self.seen.append(seen)
        if self.silent:
            await reader.read()
            self.left = True
            return False
        if self.refuse is not None:
            status, message, more = self.refuse
            await self._write(writer, f"HTTP/1.1 {status} No", json.dumps({"error": {"message": message}}), more)
            return True
        kind = "text/event-stream" if seen.fields.get("stream") else "application/json"
        text = "".join(self.events(seen.fields)) if seen.fields.get("stream") else self.whole()
        if self.die_after is not None:
            text = "".join(f"{event}\n\n" for event in text.split("\n\n")[: self.die_after])
        await self._write(writer, "HTTP/1.1 200 OK", text, f"content-type: {kind}\r\nset-cookie: them=1\r\n")
        return True

    async def _write(self, writer: asyncio.StreamWriter, line: str, text: str, more: str) -> None:
        names = "openai-organization: org-theirs\r\nx-headrace-tier: theirs\r\nx-headrace-decode: theirs\r\n"
        writer.write(f"{line}\r\ntransfer-encoding: chunked\r\n{names}{more}\r\n".encode())
        data = text.encode()
        if self.pause_after is not None:
            shown = b"".join(b"%b\n\n" % event for event in data.split(b"\n\n")[: self.pause_after])
            writer.write(b"%x\r\n%b\r\n" % (len(shown), shown))
            data = data[len(shown) :]
            await self.go_on.wait()
        size = self.piece_bytes or len(data) or 1
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        if self.die_after is not None:
            raise ConnectionError
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    @property
    def usage(self) -> dict[str, Any]:
        """What an answer states."""
        details = {"prompt_tokens_details": {"cached_tokens": 0}}
        total = PROMPT_TOKENS + self.count
        return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": self.count, "total_tokens": total, **details}

    @property
    def text(self) -> str:
        """What it says to everything."""
        return "".join(f"w{index} " for index in range(self.count))

    def whole(self) -> str:
        """Return the body of an answer that is not streamed."""
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        usage = {"usage": self.usage} if self.states_usage else {}
        return json.dumps({"id": "x", "model": THEIR_MODEL, "choices": [choice], **usage, "system_fingerprint": "fp"})

    def events(self, fields: Mapping[str, Any]) -> list[str]:
        """Return the events of a streamed answer."""
        asked = (fields.get("stream_options") or {}).get("include_usage") is True
        none: dict[str, Any] = {"usage": None} if asked else {}

        def event(delta: Mapping[str, str], finish: str | None = None) -> str:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return f"data: {json.dumps({'id': 'x', 'choices': [choice], **none})}\n\n"

        made = [event({"role": "assistant", "content": ""})]
        made += [event({"content": f"w{index} "}) for index in range(self.count)]
        made += [event({}, "stop")]
        if asked and self.states_usage:
            made.append(f"data: {json.dumps({'id': 'x', 'choices': [], 'usage': self.usage})}\n\n")
        return [*made, "data: [DONE]\n\n"]


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Make an authority of our own; return its file, and what a server for 127.0.0.1 is made with."""
    made = folder / "cert.pem", folder / "key.pem"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-subj", "/CN=127.0.0.1"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2", *curve, *names]
    command += ["-out", str(made[0]), "-keyout", str(made[1])]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*made)
    return made[0], context


def tier(url: str, folder: Path, **more: Any) -> dict[str, Any]:
    """Return the tier `far` on an endpoint, whose key lies in a file."""
    path = folder / "their.key"
    if not path.exists():
        path.write_text(f"{THEIR_KEY}\n")
    endpoint = {"url": url, "model": THEIR_MODEL, "keyFile": str(path)}
    return {"name": "far", "endpoint": endpoint, **more}


@contextlib.asynccontextmanager
async def outside(
    folder: Path, *, priced: bool = False, context: ssl.SSLContext | None = None, prefix: str = "/v1", **settings: Any
) -> AsyncIterator[tuple[Rig, FakeEndpoint]]:
    """Run a router whose one tier is an endpoint."""
    far = FakeEndpoint()
    await far.start(context=context, prefix=prefix)
    tiers = [tier(far.url, folder, **({"price": BY_TOKEN} if priced else {}))]
    given: dict[str, Any] = {"discovery": "none", "spec": json.dumps({"tiers": tiers})}
    if priced:
        given |= {"ledger": f"sqlite:{folder / 'ledger.db'}", "keys": str(key_file(folder))}
    try:
        async with rig(folder, **(given | settings)) as it:
            yield it, far
    finally:
        await far.stop()


def ask(model: str = "far", headers: str = "Authorization: Bearer key-anne\r\n", **fields: Any) -> bytes:
    """Return a request of the tenant `anne`."""
    return post(chat(**fields) | {"model": model}, headers=headers)
