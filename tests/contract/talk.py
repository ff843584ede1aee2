"""Requests as a client of the router sends them, and what it learns from their answers."""

import json
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from tests.contract.prompts import Messages

from headrace_api import names

ANSWER_S = 180.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, streamed or not."""

    text: str
    tokens: tuple[str, ...]
    """As the log-probabilities spell them."""
    logprobs: tuple[float, ...]
    finish: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    prefill: str
    decode: str


def chat(model: str, messages: Messages, **fields: Any) -> dict[str, Any]:
    """Return the body of a greedy request for 64 tokens with log-probabilities; `fields` change it."""
    greedy = {"temperature": 0, "max_tokens": 64, "ignore_eos": True, "logprobs": True}
    return {"model": model, "messages": messages, **greedy, **fields}


def ask(url: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
    """Return the answer to a request that is not streamed."""
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=ANSWER_S, trust_env=False)
    assert answer.status_code == 200, answer.text
    (choice,) = answer.json()["choices"]
    return _answer(answer.headers, choice["message"]["content"], [choice], answer.json()["usage"])


def stream(url: str, body: dict[str, Any], heard: Callable[[], object] = lambda: None) -> Answer:
    """Return the answer to a streamed request; `heard` is called with each part of it."""
    body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    text, choices, usage = [], [], None
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=ANSWER_S, trust_env=False) as answer:
        assert answer.status_code == 200, answer.read()
        events = [_event(line, heard) for line in answer.iter_lines() if line]
        assert events[-1] is None, f"the stream ends with {events[-1]} instead of [DONE]"
        for event in filter(None, events):
            assert "error" not in event, event
            usage = event["usage"] or usage
            choices += event["choices"]
            text += [choice["delta"].get("content") or "" for choice in event["choices"]]
    assert usage is not None
    return _answer(answer.headers, "".join(text), choices, usage)


def begin(url: str, model: str, messages: Messages, **fields: Any) -> socket.socket:
    """Send a streamed request and return its connection, for clients that do not stay to the end."""
    body = json.dumps(chat(model, messages, stream=True, **fields)).encode()
    host, port = urlsplit(url).hostname, urlsplit(url).port
    connection = socket.create_connection((host, port), timeout=ANSWER_S)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n"
    connection.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
    return connection


def together(tasks: Iterable[Callable[[], T]]) -> list[T]:
    """Run all tasks at once and return their results in order."""
    listed = list(tasks)
    with ThreadPoolExecutor(len(listed)) as pool:
        return [future.result() for future in [pool.submit(task) for task in listed]]


def _event(line: str, heard: Callable[[], object]) -> dict[str, Any] | None:
    """Return an event of a stream, None for its end."""
    assert line.startswith("data: "), line
    heard()
    if line == "data: [DONE]":
        return None
    event: dict[str, Any] = json.loads(line[len("data: ") :])
    return event


def _answer(headers: httpx.Headers, text: str, choices: list[dict[str, Any]], usage: dict[str, Any]) -> Answer:
    told = [entry for choice in choices if choice["logprobs"] for entry in choice["logprobs"]["content"]]
    return Answer(
        text=text,
        tokens=tuple(entry["token"] for entry in told),
        logprobs=tuple(entry["logprob"] for entry in told),
        finish=choices[-1]["finish_reason"],
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
        prefill=headers[names.HEADER_PREFILL],
        decode=headers[names.HEADER_DECODE],
    )
