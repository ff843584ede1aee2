"""A tiny model's text files, made here, and requests and outputs over them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.workers.server.tokenizer import write_tokenizer

from headrace_api.frames import Token
from headrace_worker.server.ask import Ask, check
from headrace_worker.server.fields import ChatBody, CompletionBody
from headrace_worker.server.parse import parse
from headrace_worker.server.served import ServedModel
from headrace_worker.text import load_text

CONTEXT = 256


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose token id b is the byte b, 256 is ` th`, and 257 to 259 are control tokens."""
    path = tmp_path_factory.mktemp("model")
    write_tokenizer(path)
    (path / "model.safetensors").write_bytes(b"")  # the core that would read it is not here
    (path / "config.json").write_text(json.dumps({"eos_token_id": 259}))
    return path


@pytest.fixture(scope="session")
def model(model_dir: Path) -> ServedModel:
    vocabulary, template = load_text(model_dir)
    return ServedModel("tiny", vocabulary, template, CONTEXT, "headrace-test")


@pytest.fixture
def chat(model: ServedModel) -> Callable[..., Ask]:
    """Check a chat request; keyword arguments are its fields."""

    def make(**fields: Any) -> Ask:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], **fields}
        return check(parse(ChatBody, msgspec.json.encode(body)), model)

    return make


@pytest.fixture
def completion(model: ServedModel) -> Callable[..., Ask]:
    """Check a completion request; keyword arguments are its fields."""

    def make(**fields: Any) -> Ask:
        body = {"model": "tiny", "prompt": "hi", **fields}
        return check(parse(CompletionBody, msgspec.json.encode(body)), model)

    return make


@pytest.fixture
def spoken() -> Callable[..., tuple[Token, ...]]:
    """Return the tokens of a text, each with `top` alternatives."""

    def make(text: str | bytes, top: int = 0) -> tuple[Token, ...]:
        data = text.encode() if isinstance(text, str) else text
        return tuple(
            Token(byte, -0.5, 1.0, tuple(((byte + step) % 256, -0.5 - step) for step in range(top))) for byte in data
        )

    return make


@dataclass
class Front:
    """A running front, its process and what it logged."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def logged(self) -> str:
        return self.log.read_text()

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        text = httpx.get(f"{self.url}/metrics", timeout=30).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def core(self) -> psutil.Process:
        (child,) = psutil.Process(self.process.pid).children()
        return child


Start = Callable[..., Front]
Until = Callable[[Callable[[], object]], None]


def _until(condition: Callable[[], object], deadline_s: float = 60.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s"
        time.sleep(0.01)


def _is_ready(front: Front) -> bool:
    assert front.process.poll() is None, front.logged()
    return httpx.get(f"{front.url}/ready", timeout=30).status_code == 200


@contextlib.contextmanager
def _fronts(model_dir: Path, folder: Path) -> Iterator[Start]:
    running: list[Front] = []

    def start(*, wait: bool = True, **fields: Any) -> Front:
        at = folder / str(len(running))
        at.mkdir()
        settings = {"model": f"file://{model_dir}", "name": "tiny", "worker": "tiny-decode-0", "role": "decode"}
        ready_file = at / "ready.json"
        (at / "settings.json").write_text(json.dumps({**settings, "ready_file": str(ready_file), **fields}))
        command = [sys.executable, str(Path(__file__).with_name("start_front.py")), str(at / "settings.json")]
        with (at / "log").open("wb") as log:
            environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "TMPDIR": str(at)}
            process = subprocess.Popen(command, stderr=log, env=environment, start_new_session=True)
        front = Front("", process, at / "log")
        running.append(front)
        _until(lambda: ready_file.exists() or process.poll() is not None)
        assert ready_file.exists(), front.logged()
        listening = json.loads(ready_file.read_text())
        assert listening["pid"] == process.pid
        front.url = listening["url"]
        if wait:
            _until(lambda: _is_ready(front))
        return front

    try:
        yield start
    finally:
        for front in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(front.process.pid, signal.SIGKILL)
            front.process.wait(10)


@pytest.fixture
def start(model_dir: Path, tmp_path: Path) -> Iterator[Start]:
    """Start fronts of a test's own; keyword arguments are settings."""
    with _fronts(model_dir, tmp_path) as start:
        yield start


@pytest.fixture(scope="session")
def front(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """One ready front for all tests that leave it as it is."""
    with _fronts(model_dir, tmp_path_factory.mktemp("front")) as start:
        yield start()


@pytest.fixture(scope="session")
def until() -> Until:
    """Wait for a condition, with a deadline."""
    return _until
