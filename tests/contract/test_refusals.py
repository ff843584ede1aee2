"""Bad requests, through the router to real workers: an error in OpenAI's shape, and nothing is lost by it."""

import json
from typing import Any

import httpx
import pytest
from tests.contract import prompts
from tests.contract.service import Service
from tests.contract.talk import ask, chat

pytestmark = [pytest.mark.processes, pytest.mark.model]
CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"
HELLO: dict[str, Any] = {"model": "split", "messages": [{"role": "user", "content": "Hello"}]}
PROMPT: dict[str, Any] = {"model": "split", "prompt": "Hello"}


def wrong(**fields: Any) -> bytes:
    return json.dumps({**HELLO, **fields}).encode()


def refusal(service: Service, path: str, body: bytes, status: int) -> dict[str, Any]:
    """Return the error of a request that must be refused with this status."""
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{service.url}{path}", content=body, headers=headers, timeout=60, trust_env=False)
    assert answer.status_code == status, answer.text
    assert "Traceback" not in answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    return error


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not JSON",
        b'"text"',
        b"[]",
        b"\xff\xfe{}",
        b'{"model": "split", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model": "split", "messages": [{"role": "user", "content": "hi"}], "temperature": NaN}',
        b'{"model": "split", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_request_is_refused(service: Service, body: bytes) -> None:
    assert refusal(service, CHAT, body, 400)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (wrong(temprature=0.5), "temprature"),
        (wrong(messages="Hello"), "messages"),
        (wrong(messages=[]), "messages"),
        (wrong(messages=[{"role": "user"}]), "messages[0].content"),
        (wrong(messages=[{"role": "robot", "content": "hi"}]), "messages[0].role"),
        (wrong(messages=[{"content": "hi"}]), None),
        (wrong(max_tokens="many"), "max_tokens"),
        (wrong(max_tokens=0), "max_tokens"),
        (wrong(max_tokens=-1), "max_tokens"),
        (wrong(max_tokens=1.5), "max_tokens"),
        (wrong(temperature=2.1), "temperature"),
        (wrong(temperature=-0.1), "temperature"),
        (wrong(top_p=0), "top_p"),
        (wrong(top_p=1.1), "top_p"),
        (wrong(top_k=-2), "top_k"),
        (wrong(min_p=2), "min_p"),
        (wrong(presence_penalty=2.5), "presence_penalty"),
        (wrong(frequency_penalty=-2.5), "frequency_penalty"),
        (wrong(repetition_penalty=0), "repetition_penalty"),
        (wrong(logit_bias={"7": 101}), None),
        (wrong(logit_bias={"99999999": 1}), "logit_bias"),
        (wrong(n=0), "n"),
        (wrong(n=129), "n"),
        (wrong(seed=2**64), "seed"),
        (wrong(stop=["x"] * 17), "stop"),
        (wrong(logprobs=True, top_logprobs=21), "top_logprobs"),
        (wrong(stream=True, stream_options={"usage": True}), None),
        (wrong(min_tokens=10, max_tokens=5), "min_tokens"),
        (wrong(tools=[{"type": "function", "function": {"name": "f"}}]), "tools"),
    ],
)
def test_a_wrong_field_is_named(service: Service, body: bytes, param: str | None) -> None:
    error = refusal(service, CHAT, body, 400)
    assert error["type"] == "invalid_request_error"
    assert param in (None, error["param"])


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": None},
        {"prompt": []},
        {"prompt": ""},
        {"prompt": ["a", [1]]},
        {"prompt": [-1]},
        {"prompt": [49152]},
        {"logprobs": 21},
        {"best_of": 3},
    ],
)
def test_a_wrong_completion_is_refused(service: Service, fields: dict[str, Any]) -> None:
    refusal(service, COMPLETION, json.dumps({**PROMPT, **fields}).encode(), 400)


def test_the_nearest_known_field_is_proposed(service: Service) -> None:
    assert "'temperature'" in refusal(service, CHAT, wrong(temprature=0.5), 400)["message"]


@pytest.mark.parametrize("model", ["split", "whole"])
def test_a_prompt_beyond_the_context_says_both_numbers(service: Service, model: str) -> None:
    messages = [{"role": "user", "content": prompts.prose("too long", 150)}]
    error = refusal(service, CHAT, wrong(model=model, messages=messages), 400)
    assert error["code"] == "context_length_exceeded"
    numbers = [int(word) for word in error["message"].replace(",", "").split() if word.isdecimal()]
    assert 2048 in numbers
    assert max(numbers) > 2048


@pytest.mark.parametrize("body", [wrong(model="other"), json.dumps({"messages": HELLO["messages"]}).encode()])
def test_a_model_that_is_not_served_is_not_found(service: Service, body: bytes) -> None:
    error = refusal(service, CHAT, body, 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert "split" in error["message"]


def test_a_model_that_generates_is_not_asked_for_embeddings(service: Service) -> None:
    error = refusal(service, "/v1/embeddings", b'{"model": "split", "input": "a river"}', 400)
    assert "has no embeddings" in error["message"]


def test_other_paths_and_methods_are_refused(service: Service) -> None:
    refusal(service, "/v1/images/generations", b"{}", 404)
    refusal(service, "/v1/models", b"{}", 405)
    answer = httpx.get(f"{service.url}{CHAT}", timeout=60, trust_env=False)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_the_service_is_well_afterwards(service: Service) -> None:
    answer = ask(service.url, chat("split", prompts.short("afterwards")[0], max_tokens=8))
    assert answer.completion_tokens == 8
    service.await_rest()
