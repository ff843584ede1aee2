"""The router as a process: its flags, its signals, its end, and a real client in front of it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

pytestmark = pytest.mark.processes

DEADLINE_S = 60.0
ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _wait(process: "subprocess.Popen[bytes]", path: Path) -> dict[str, Any]:
    """Return the JSON that a process writes when it is ready."""
    end_s = time.monotonic() + DEADLINE_S
    while not path.exists():
        assert process.poll() is None, "the process has ended"
        assert time.monotonic() < end_s, "the process is not ready in time"
        time.sleep(0.01)
    found = json.loads(path.read_text())
    assert isinstance(found, dict)
    return found


@contextlib.contextmanager
def _router(folder: Path, *flags: str) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "headrace_router", "--port", "0", "--ready-file", str(ready)]
    process = subprocess.Popen(
        [*command, "--discovery", f"file:{folder / 'state.json'}", *flags], env=ENVIRONMENT, stderr=subprocess.PIPE
    )
    try:
        found = _wait(process, ready)
        assert found["pid"] == process.pid
        yield process, found["url"]
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[str]:
    """The plain OpenAI mock of the benchmarks, a little slower; its URL."""
    command = [sys.executable, str(ROOT / "benchmarks" / "mock_openai.py"), "--interval", "0.02"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        worker = {"deployment": "mock", "role": "unified", "url": url, "pid": process.pid}
        (tmp_path / "state.json").write_text(json.dumps({"router": None, "workers": [worker]}))
        yield url
    finally:
        process.kill()
        process.communicate()


def _main(*flags: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "headrace_router", *flags]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def test_help_names_every_flag_with_its_default() -> None:
    done = _main("--help")
    assert done.returncode == 0
    for text in ("--discovery", "--replay-deadline", "--max-body-bytes", "--ready-file", "Default: 8080"):
        assert text in done.stdout


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--discovery", "file:x", "--port", "70000"), "--port is '70000'"),
        (("--discovery", "file:x", "--replay-deadline", "soon"), "--replay-deadline is 'soon'"),
        (("--discovery", "file:x", "--log-level", "loud"), "--log-level is 'loud'"),
        (("--discovery", "x"), "expected file:PATH"),
        (("--discovery", "file:"), "expected file:PATH"),
        (("--discovery", "kubernetes:"), "kubernetes:NAMESPACE/NAME"),
        (("--discovery", "kubernetes:chat"), "'chat' should be NAMESPACE/NAME"),
        (("--discovery", "kubernetes:a/chat,b/chat"), "names 'chat' twice"),
        (("--discovery", "kubernetes:a/chat", "--kubeconfig", "/nowhere"), "/nowhere cannot be read: No such file"),
        ((), "--discovery"),
        (("--discovery", "file:x", "--prot", "1"), "--prot"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_exit_status_2(flags: tuple[str, ...], text: str) -> None:
    done = _main(*flags)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_one_sentence_and_exit_status_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = _main("--discovery", "file:x", "--port", str(port), "--log-level", "error")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "in use" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_answers_finish_and_exits_0(tmp_path: Path, mock: str, number: signal.Signals) -> None:
    del mock
    with _router(tmp_path) as (process, url), openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        stream = client.chat.completions.create(model="mock", messages=[{"role": "user", "content": "a"}], stream=True)
        parts = [next(stream).choices[0].delta.content]
        process.send_signal(number)
        parts += [chunk.choices[0].delta.content for chunk in stream]
        assert len(parts) == 16
        assert process.wait(DEADLINE_S) == 0
        with pytest.raises(openai.APIConnectionError):
            client.models.list()


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with socket.socket() as silent, _router(tmp_path) as (process, url):
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        worker = {"deployment": "mock", "role": "unified", "pid": 1}
        state = {"workers": [worker | {"url": f"http://127.0.0.1:{silent.getsockname()[1]}"}]}
        (tmp_path / "state.json").write_text(json.dumps(state))
        end_s = time.monotonic() + DEADLINE_S
        while not httpx.get(f"{url}/v1/models").json()["data"]:
            assert time.monotonic() < end_s, "the state file was not read in time"
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            body = b'{"model":"mock","messages":[]}'
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body)
            client.sendall(head + body)
            accepted, _ = silent.accept()
            process.send_signal(signal.SIGTERM)
            with accepted, pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 0


def test_the_openai_client_reads_our_answers_under_strict_validation(tmp_path: Path, mock: str) -> None:
    del mock
    with (
        _router(tmp_path) as (_, url),
        openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, _strict_response_validation=True) as client,
    ):
        assert [model.id for model in client.models.list()] == ["mock"]
        assert client.models.retrieve("mock").owned_by == "headrace"
        answer = client.chat.completions.create(model="mock", messages=[{"role": "user", "content": "a"}], seed=3)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 16
        stream = client.chat.completions.create(model="mock", messages=[{"role": "user", "content": "a"}], stream=True)
        assert len(list(stream)) == 16
        with pytest.raises(openai.NotFoundError, match="serves: mock"):
            client.chat.completions.create(model="none", messages=[])
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="mock", messages="text")  # type: ignore[arg-type]  # on purpose
        assert caught.value.param == "messages"
