"""`headrace chat` against a small server that speaks OpenAI's stream."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from headrace_cli.main import main

DEADLINE_S = 60.0


class Server(ThreadingHTTPServer):
    """Answers each chat with the number of messages it got, in pieces; keeps the bodies."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[dict[str, Any]] = []
        self.left = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.answer(200, json.dumps({"data": [{"id": "smollm2"}, {"id": "other"}]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        question = body["messages"][-1]["content"]
        if question == "refuse":
            self.answer(400, json.dumps({"error": {"message": "too long by 3 tokens"}}))
        elif question == "break":
            self.answer(200, _event("so ") + 'data: {"error": {"message": "the worker has gone"}}\n\n')
        elif question == "endless":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(_event("first").encode())
            self.server.left.wait(DEADLINE_S)
        elif question == "nonsense":
            self.answer(200, "data: {\n\n")
        else:
            self.answer(200, _event("I have ") + _event(f"{len(body['messages'])}") + "data: [DONE]\n\n")

    def answer(self, status: int, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def _event(text: str) -> str:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as it:
        thread = threading.Thread(target=it.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield it
        it.left.set()
        it.shutdown()
        thread.join()


def talk(monkeypatch: pytest.MonkeyPatch, server: Server, text: str, *flags: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    return main(["chat", "--url", server.url, *flags])


def test_answers_stream_and_the_conversation_grows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: Server
) -> None:
    assert talk(monkeypatch, server, "hello\n\nand then?\n") == 0
    assert capsys.readouterr().out == "I have 1\nI have 3\n"
    assert [body["model"] for body in server.bodies] == ["smollm2", "smollm2"]
    assert [one["role"] for one in server.bodies[1]["messages"]] == ["user", "assistant", "user"]
    assert server.bodies[1]["messages"][1]["content"] == "I have 1"


def test_quit_leaves_and_clear_forgets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: Server
) -> None:
    assert talk(monkeypatch, server, "a\n/clear\nb\n/quit\nc\n", "--system", "be brief", "--model", "other") == 0
    assert capsys.readouterr().out == "I have 2\nI have 2\n"
    assert [body["messages"][0]["content"] for body in server.bodies] == ["be brief", "be brief"]
    assert {body["model"] for body in server.bodies} == {"other"}


def test_a_refused_question_is_told_and_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: Server
) -> None:
    assert talk(monkeypatch, server, "refuse\nhello\n") == 0
    output = capsys.readouterr()
    assert output.err == "error: too long by 3 tokens\n"
    assert "I have 1" in output.out


@pytest.mark.parametrize(("question", "expected"), [("break", "the worker has gone"), ("nonsense", "is no JSON")])
def test_an_answer_that_breaks_off_is_told(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    server: Server,
    question: str,
    expected: str,
) -> None:
    assert talk(monkeypatch, server, f"{question}\n") == 0
    assert expected in capsys.readouterr().err


def test_an_unknown_model_names_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: Server
) -> None:
    assert talk(monkeypatch, server, "", "--model", "gpt") == 2
    assert "has no model 'gpt'; it serves smollm2, other" in capsys.readouterr().err


def test_nothing_listening_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with Server() as gone:
        url = gone.url
    assert main(["chat", "--url", url]) == 1
    assert capsys.readouterr().err == (
        f"headrace: nothing listens at {url}; start it with `headrace up FILE`, or name it by --url\n"
    )


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "http://[", ""])
def test_an_address_that_is_none_is_a_sentence(capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert main(["chat", "--url", url]) in {1, 2}
    text = capsys.readouterr().err
    assert text.startswith("headrace: ")
    assert "internal error" not in text


@pytest.mark.processes
def test_ctrl_c_interrupts_an_answer_and_the_conversation_goes_on(server: Server) -> None:
    root = Path(__file__).parents[2]
    folders = os.pathsep.join(str(root / name) for name in ("cli", "crds", "operator", "router", "workers"))
    process = subprocess.Popen(
        [sys.executable, "-m", "headrace_cli", "chat", "--url", server.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": folders},
    )
    with process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"endless\n")
            process.stdin.flush()
            assert process.stdout.read(5) == b"first"
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(b"hello\n", timeout=DEADLINE_S)
        finally:
            process.kill()
    assert output == " …\nI have 3\n".encode()
    assert errors == b""
    assert process.returncode == 0
