"""The openai client, unchanged and strict about every field, through the router of a real service."""

from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
from tests.contract.reference import Reference
from tests.contract.service import Service

pytestmark = [pytest.mark.processes, pytest.mark.model]
QUESTION = "Why does a mill need a headrace?"
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[OpenAI]:
    address = f"{service.url}/v1"
    with OpenAI(base_url=address, api_key="none", max_retries=0, _strict_response_validation=True) as client:
        yield client


@pytest.fixture(scope="module")
def plain(client: OpenAI) -> ChatCompletion:
    """A greedy answer of 48 tokens, whole."""
    return client.chat.completions.create(model="split", messages=MESSAGES, temperature=0, max_tokens=48)


def content(answer: ChatCompletion, choice: int = 0) -> str:
    text = answer.choices[choice].message.content
    assert text
    return text


def test_an_answer_has_its_usage(plain: ChatCompletion, reference: Reference) -> None:
    assert plain.usage is not None
    prompt = reference.prompt([{"role": "user", "content": QUESTION}])
    assert (plain.usage.prompt_tokens, plain.usage.completion_tokens) == (len(prompt), 48)
    assert plain.usage.total_tokens == len(prompt) + 48
    assert (plain.model, plain.choices[0].finish_reason) == ("split", "length")


def test_a_stream_says_the_same_and_ends_with_usage(client: OpenAI, plain: ChatCompletion) -> None:
    *chunks, last = client.chat.completions.create(
        model="split",
        messages=MESSAGES,
        temperature=0,
        max_tokens=48,
        stream=True,
        stream_options={"include_usage": True},
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == content(plain)
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length"
    assert len({chunk.id for chunk in chunks}) == 1
    assert last.choices == []
    assert plain.usage is not None
    assert last.usage is not None
    assert last.usage.total_tokens == plain.usage.total_tokens


def test_log_probabilities_name_the_best_tokens(client: OpenAI, plain: ChatCompletion, reference: Reference) -> None:
    answer = client.chat.completions.create(
        model="split", messages=MESSAGES, temperature=0, max_tokens=48, logprobs=True, top_logprobs=3
    )
    assert content(answer) == content(plain)
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    ids = reference.ids([entry.token for entry in told.content])
    expected = reference.logprobs(reference.prompt([{"role": "user", "content": QUESTION}]), ids)
    assert [entry.logprob for entry in told.content] == pytest.approx(expected, abs=1e-3)
    for entry in told.content:
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token
        assert entry.top_logprobs == sorted(entry.top_logprobs, key=lambda one: -one.logprob)


def test_three_choices_differ_and_come_interleaved_in_a_stream(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="split", messages=MESSAGES, n=3, seed=7, max_tokens=24)
    texts = [content(whole, index) for index in range(3)]
    assert len(set(texts)) == 3
    streamed, order = ["", "", ""], []
    for chunk in client.chat.completions.create(
        model="split", messages=MESSAGES, n=3, seed=7, max_tokens=24, stream=True
    ):
        (choice,) = chunk.choices
        order.append(choice.index)
        streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts
    assert order != sorted(order)


def test_a_seed_repeats_an_answer_on_any_worker(client: OpenAI) -> None:
    def sampled(model: str, seed: int) -> str:
        return content(
            client.chat.completions.create(model=model, messages=MESSAGES, seed=seed, temperature=0.9, max_tokens=32)
        )

    assert sampled("split", 3) == sampled("split", 3) == sampled("whole", 3)
    assert sampled("split", 4) != sampled("split", 3)


def test_without_a_seed_answers_differ(client: OpenAI) -> None:
    answers = [client.chat.completions.create(model="split", messages=MESSAGES, max_tokens=32) for _ in range(2)]
    assert content(answers[0]) != content(answers[1])


def test_a_stop_string_ends_an_answer_before_it(client: OpenAI, plain: ChatCompletion, service: Service) -> None:
    text = content(plain)
    stop = text[len(text) // 2 : len(text) // 2 + 9]
    answer = client.chat.completions.create(
        model="split", messages=MESSAGES, temperature=0, max_tokens=48, stop=["no such text", stop]
    )
    assert content(answer) == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens < 48
    service.await_rest()


def test_completions_continue_their_prompts(client: OpenAI, reference: Reference) -> None:
    prompts = ["The wheel turns and", "Once upon a time"]
    answer = client.completions.create(model="split", prompt=prompts, temperature=0, max_tokens=16, logprobs=1)
    for choice, prompt in zip(answer.choices, prompts, strict=True):
        assert choice.logprobs is not None
        assert choice.logprobs.tokens is not None
        ids = reference.ids(choice.logprobs.tokens)
        assert ids == reference.greedy(reference.encode(prompt), ids)
        assert choice.text == reference.text(ids)
    echoed = client.completions.create(model="split", prompt=prompts, temperature=0, max_tokens=16, echo=True)
    expected = [prompt + choice.text for prompt, choice in zip(prompts, answer.choices, strict=True)]
    assert [choice.text for choice in echoed.choices] == expected


def test_the_models_are_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["split", "whole"]
    assert client.models.retrieve("whole").id == "whole"


def test_refusals_are_the_clients_own_errors(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="other") as unknown:
        client.chat.completions.create(model="other", messages=MESSAGES)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="temperature") as wrong:
        client.chat.completions.create(model="split", messages=MESSAGES, temperature=5)
    assert wrong.value.param == "temperature"
