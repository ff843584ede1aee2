import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMIT = "c0ffee" * 6 + "c0ff"


@dataclass
class Answer:
    """What a path answers; a file (status 200) honours Range and If-Range."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    """Each request takes one: the connection closes after that many bytes of its body."""
    token: str | None = None
    """The value that the header `authorization` must have; 401 otherwise."""


@dataclass
class Seen:
    path: str
    headers: Mapping[str, str]


class Server:
    """An HTTP server on a free port whose answers a test sets, and which remembers every request."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.seen: list[Seen] = []
        self.sent_bytes = 0
        self.asked = threading.Event()
        self.hold = threading.Event()
        """While it is cleared, requests wait."""
        self.hold.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.seen.append(Seen(self.path, {key.lower(): value for key, value in self.headers.items()}))
                outer.asked.set()
                outer.hold.wait(60)
                with suppress(BrokenPipeError, ConnectionResetError):
                    outer._answer(self, outer.answers.get(self.path.partition("?")[0], Answer(status=404)))

            def log_message(self, *_args: object) -> None:
                """Stay silent."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def requests(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path.partition("?")[0] == path]

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join(5)
        self._http.server_close()

    def _answer(self, request: BaseHTTPRequestHandler, answer: Answer) -> None:
        if answer.token is not None and request.headers.get("authorization") != answer.token:
            answer = Answer(status=401)
        body, status, extra = answer.body, answer.status, {}
        asked = request.headers.get("range", "")
        fresh = answer.etag is None or request.headers.get("if-range") in (None, answer.etag)
        if status == 200 and answer.ranges and asked and fresh:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            status, extra = 206, {"content-range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            if start >= len(body):
                status, extra = 416, {"content-range": f"bytes */{len(body)}"}
            body = body[start:] if status == 206 else b""
        if answer.etag is not None:
            extra["etag"] = answer.etag
        request.send_response(status)
        for key, value in {"content-length": str(len(body)), **extra, **answer.headers}.items():
            request.send_header(key, value)
        request.end_headers()
        sent = body[: answer.cuts.pop(0)] if answer.cuts else body
        request.wfile.write(sent)
        self.sent_bytes += len(sent)
        request.close_connection = True


@pytest.fixture
def new_server() -> Iterator[Callable[[], Server]]:
    servers: list[Server] = []

    def start() -> Server:
        servers.append(Server())
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def server(new_server: Callable[[], Server]) -> Server:
    return new_server()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the cache folder of this test; nothing of the machine's own settings is seen."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE", "UV_INDEX", "UV_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in (
        "UV_DEFAULT_INDEX",
        "UV_EXTRA_INDEX_URL",
        "HF_TOKEN",
        "HF_ENDPOINT",
        "NETRC",
        "HF_TOKEN_PATH",
        "HF_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "headrace"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def digest() -> Callable[[bytes], str]:
    return sha256


@pytest.fixture
def answer() -> type[Answer]:
    return Answer


class Hub:
    """A model hub with one repository; large files lie on a store of another origin."""

    def __init__(self, server: Server, store: Server) -> None:
        self.server, self.store = server, store

    def publish(self, files: dict[str, bytes], *, token: str | None = None, revision: str = "main") -> None:
        wanted = None if token is None else f"Bearer {token}"
        siblings = []
        for name, content in files.items():
            url = f"/org/name/resolve/{COMMIT}/{name}"
            entry: dict[str, Any] = {"rfilename": name, "size": len(content)}
            if name.endswith((".safetensors", ".gguf", ".bin")):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content)}
                moved = {"location": f"{self.store.url}/{digest}", "x-linked-etag": f'"{digest}"'}
                self.server.answers[url] = Answer(status=302, headers=moved, token=wanted)
                self.store.answers[f"/{digest}"] = Answer(content, etag=f'"{digest[:32]}"')
            else:
                blob = b"blob %d\0" % len(content) + content
                entry["blobId"] = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
                self.server.answers[url] = Answer(content, token=wanted)
            siblings.append(entry)
        body = json.dumps({"sha": COMMIT, "siblings": siblings}).encode()
        self.server.answers[f"/api/models/org/name/revision/{revision}"] = Answer(body, token=wanted)


@pytest.fixture
def hub(server: Server, new_server: Callable[[], Server], monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setenv("HF_ENDPOINT", server.url + "/")
    return Hub(server, new_server())
