"""The script of `helm test`, against an endpoint that answers as the case wants."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import pytest
from tests.charts.chart import CHART

SCRIPT: Final = (CHART / "files" / "ask.py").read_text()
DONE: Final = b"data: [DONE]\n\n"


def part(text: str) -> bytes:
    return f"data: {json.dumps({'choices': [{'text': text}]})}\n\n".encode()


class Endpoint:
    """Answers each request by the next of its answers, and by the last one from then on; remembers the bodies."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.bodies: list[dict[str, Any]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                endpoint.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self._answer()

            def _answer(self) -> None:
                status, body = endpoint.answers.pop(0) if len(endpoint.answers) > 1 else endpoint.answers[0]
                self.send_response(status)
                self.send_header("x-headrace-prefill", "p-0")
                self.send_header("x-headrace-decode", "d-0")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    thread = threading.Thread(target=endpoint.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()
    thread.join(10)


def ask(*words: str, timeout_s: float = 20.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, f"--timeout={timeout_s}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_streamed_answer_passes_and_says_who_gave_it(endpoint: Endpoint) -> None:
    endpoint.answers = [(200, part("down") + part("hill") + DONE)]

    done = ask("--max-tokens=3", "prompt", endpoint.url, "chat", "Water flows")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("chat answered in 2 parts")
    assert done.stdout.endswith("prefill p-0, decode d-0\n")
    assert endpoint.bodies == [{"model": "chat", "prompt": "Water flows", "max_tokens": 3, "stream": True}]


def test_it_asks_again_while_the_model_loads(endpoint: Endpoint) -> None:
    endpoint.answers = [(503, b"loading"), (404, b"no such model"), (200, part("x") + DONE)]
    assert ask("prompt", endpoint.url, "chat", "x").returncode == 0
    assert len(endpoint.bodies) == 3


@pytest.mark.parametrize(
    ("status", "body", "complaint"),
    [
        (503, b'{"error": "no worker"}', 'status 503: {"error": "no worker"}'),
        (200, part("x"), "the answer broke off after 1 parts"),
        (200, DONE, "the answer was empty"),
        (200, b"data: {\n\n", "Expecting property name"),
    ],
)
def test_an_answer_that_is_none_fails_in_time_with_the_last_reason(
    endpoint: Endpoint, status: int, body: bytes, complaint: str
) -> None:
    endpoint.answers = [(status, body)]
    done = ask("prompt", endpoint.url, "chat", "x", timeout_s=0)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"no answer of {endpoint.url} within 0 s; last: ")
    assert complaint in done.stderr


def test_what_is_wrong_for_good_fails_at_once(endpoint: Endpoint) -> None:
    endpoint.answers = [(400, b"max_tokens must be positive")]
    done = ask("prompt", endpoint.url, "chat", "x")
    assert (done.returncode, done.stderr) == (1, "status 400: max_tokens must be positive\n")
    assert len(endpoint.bodies) == 1


def test_the_operator_is_up_once_it_answers(endpoint: Endpoint) -> None:
    endpoint.answers = [(503, b"not alive"), (200, b"ok")]
    done = ask("ready", f"{endpoint.url}/healthz")
    assert (done.returncode, done.stdout) == (0, "the operator is up\n")


def test_an_operator_that_nobody_hears_of_fails() -> None:
    done = ask("ready", "http://127.0.0.1:1/healthz", timeout_s=0)
    assert done.returncode == 1
    assert "Connection refused" in done.stderr
