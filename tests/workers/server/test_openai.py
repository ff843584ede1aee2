"""The openai client, with strict validation, before a front whose core says the same phrase every time."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

PHRASE = "The quick brown fox jumps over the lazy dog. "


@pytest.fixture
def client(front: Any) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True) as client:
        yield client


def test_a_chat_is_answered_whole(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}])
    assert answer.choices[0].message.content == PHRASE
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(PHRASE) + 1
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 16


def test_a_streamed_chat_says_the_same_with_usage_at_its_end(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == PHRASE
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1


def test_several_choices_come_interleaved_in_a_stream(client: OpenAI) -> None:
    texts = {0: "", 1: "", 2: ""}
    for chunk in client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "hi"}], n=3, max_tokens=5, stream=True
    ):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == {0: "The q", 1: "he qu", 2: "e qui"}


def test_chat_logprobs_have_as_many_alternatives_as_asked(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "hi"}], max_tokens=4, logprobs=True, top_logprobs=2
    )
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content
    assert content is not None
    assert "".join(entry.token for entry in content) == "The "
    assert [len(entry.top_logprobs) for entry in content] == [2, 2, 2, 2]


def test_a_stop_string_across_tokens_ends_the_answer(client: OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="x", stop=["fox j", "zzz"])
    assert answer.choices[0].text == "The quick brown "
    assert answer.choices[0].finish_reason == "stop"


def test_a_streamed_completion_says_the_same(front: Any) -> None:
    """Not strict: the client's own type of a completion chunk has no room for OpenAI's `finish_reason: null`."""
    with OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0) as client:
        parts = list(client.completions.create(model="tiny", prompt="x", stop="fox j", stream=True))
    assert "".join(part.choices[0].text for part in parts) == "The quick brown "
    assert [part.choices[0].finish_reason for part in parts][-2:] == [None, "stop"]


def test_a_completion_has_logprobs_offsets_and_several_prompts(client: OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt=["a", "b"], n=2, max_tokens=3, logprobs=1)
    assert [choice.text for choice in answer.choices] == ["The", "he ", "e q", " qu"]
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.text_offset == [0, 1, 2]
    assert told.tokens == ["T", "h", "e"]


def test_models_lists_the_served_one(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_refusals_arrive_as_the_clients_own_errors(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist here"):
        client.chat.completions.create(model="other", messages=[{"role": "user", "content": "hi"}])
    with pytest.raises(openai.BadRequestError, match="temperature") as caught:
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}], temperature=5)
    assert caught.value.param == "temperature"
