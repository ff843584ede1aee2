from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_worker.errors import RequestError
from headrace_worker.server.ask import Ask, check
from headrace_worker.server.fields import Body, ChatBody, CompletionBody
from headrace_worker.server.parse import parse
from headrace_worker.server.served import ServedModel

Make = Callable[..., Ask]


def refusal(make: Make, **fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        make(**fields)
    return caught.value


def outcome(work: Callable[[], object]) -> RequestError | None:
    try:
        work()
    except RequestError as error:
        return error
    return None


def test_defaults_fill_the_context_and_end_at_the_models_end_token(completion: Make) -> None:
    ask = completion(prompt="hello")
    (run,) = ask.runs
    assert run.prompt_ids == tuple(b"hello")
    assert run.sampling.max_tokens == 256 - 5
    assert run.sampling.stop_ids == (259,)
    assert run.sampling.top_logprobs is None
    assert not ask.seeded


def test_all_sampling_fields_reach_the_core(chat: Make) -> None:
    ask = chat(
        max_tokens=7, min_tokens=2, temperature=0.5, top_p=0.9, top_k=-1, min_p=0.1, presence_penalty=1,
        frequency_penalty=-1, repetition_penalty=1.5, logit_bias={"5": 3}, seed=-4, stop_token_ids=[9], logprobs=True,
        top_logprobs=3,
    )  # fmt: skip
    sampling = ask.runs[0].sampling
    assert msgspec.structs.asdict(sampling) == {
        "max_tokens": 7, "min_tokens": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 0, "min_p": 0.1,
        "presence_penalty": 1.0, "frequency_penalty": -1.0, "repetition_penalty": 1.5, "logit_bias": ((5, 3.0),),
        "seed": -4, "stop_ids": (259, 9), "top_logprobs": 3,
    }  # fmt: skip


def test_ignore_eos_leaves_only_the_clients_own_stop_tokens(chat: Make) -> None:
    assert chat(ignore_eos=True, stop_token_ids=[1]).runs[0].sampling.stop_ids == (1,)


def test_a_control_token_spelled_by_a_user_stays_text(chat: Make) -> None:
    ids = chat(messages=[{"role": "user", "content": "<|im_end|>"}]).runs[0].prompt_ids
    assert ids.count(259) == 1
    assert b"<|im_end|>" in bytes(token for token in ids if token < 256)


def test_text_parts_are_joined_and_the_developer_is_the_system(chat: Make) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    ids = chat(messages=[{"role": "developer", "content": parts}]).runs[0].prompt_ids
    assert bytes(token for token in ids if token < 256).startswith(b"system\none\ntwo")


def test_an_answer_sent_back_by_the_client_is_accepted(chat: Make) -> None:
    answer: dict[str, Any] = {
        "role": "assistant",
        "content": "yes",
        "refusal": None,
        "tool_calls": None,
        "annotations": [],
    }
    assert chat(messages=[{"role": "user", "content": "hi"}, answer]).runs


@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        ("ab", [(97, 98)]),
        (["ab", "c"], [(97, 98), (99,)]),
        ([97, 98], [(97, 98)]),
        ([[97], [98, 99]], [(97,), (98, 99)]),
    ],
)
def test_a_prompt_is_text_or_ids_or_a_list_of_either(completion: Make, prompt: object, ids: object) -> None:
    assert [run.prompt_ids for run in completion(prompt=prompt).runs] == ids


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(completion: Make) -> None:
    error = refusal(completion, prompt="x" * 300)
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "prompt")
    assert "300" in error.message
    assert "256" in error.message


def test_another_model_is_not_found(chat: Make) -> None:
    error = refusal(chat, model="gpt-4")
    assert (error.status, error.code) == (404, "model_not_found")
    assert "'tiny'" in error.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 1.1}, "min_p"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": -2.5}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "10"}, "max_tokens"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": "a" * 1001}, "stop"),
        ({"stop_token_ids": [260]}, "stop_token_ids"),
        ({"logit_bias": {"260": 1}}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias[...]"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage"),
        ({"temprature": 1}, "temprature"),
    ],
)
def test_a_field_out_of_bounds_is_named(chat: Make, completion: Make, fields: dict[str, Any], param: str) -> None:
    for make in (chat, completion):
        error = refusal(make, **fields)
        assert (error.status, error.param) == (400, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": 3}, "logprobs"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_completion_tokens"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": "x", "contents": 1}]}, "messages[0].contents"),
    ],
)
def test_chat_fields_are_checked(chat: Make, fields: dict[str, Any], param: str) -> None:
    error = refusal(chat, **fields)
    assert (error.status, error.param) == (400, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [1, "x"]}, "prompt"),
        ({"prompt": [1, [2]]}, "prompt"),
        ({"prompt": [260]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": ["x"] * 9, "n": 128}, "n"),
    ],
)
def test_completion_fields_are_checked(completion: Make, fields: dict[str, Any], param: str) -> None:
    error = refusal(completion, **fields)
    assert (error.status, error.param) == (400, param)


def test_fields_without_effect_and_neutral_values_are_accepted(chat: Make) -> None:
    assert chat(
        user="u", metadata={"a": "b"}, store=True, service_tier="auto", response_format={"type": "text"}, tools=[],
        tool_choice="auto", parallel_tool_calls=True, n=None, stop=None, prompt_cache_key="k",
    ).runs  # fmt: skip


def test_an_unknown_field_is_refused_with_the_nearest_known_one(chat: Make) -> None:
    assert "did you mean 'temperature'?" in refusal(chat, temprature=1).message


def test_a_wrong_value_is_shown_with_its_bound(chat: Make) -> None:
    assert refusal(chat, temperature=3.5).message == "temperature is wrong (found 3.5): expected `float` <= 2.0."


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"model": NaN}', b'{"a":' * 5000, b"1" * 5000])
def test_a_body_that_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        parse(ChatBody, data)
    assert caught.value.status == 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=6,
)
field_names = st.sampled_from(
    [field.encode_name for kind in (ChatBody, CompletionBody) for field in msgspec.structs.fields(kind)]
)


@pytest.mark.parametrize("kind", [ChatBody, CompletionBody])
@given(noise=st.dictionaries(field_names | st.text(max_size=8), json_values, max_size=4))
def test_any_json_is_either_served_or_refused(model: ServedModel, kind: type[Body], noise: dict[str, Any]) -> None:
    base = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "prompt": "x"}
    wanted = {field.encode_name for field in msgspec.structs.fields(kind)}
    body = {name: value for name, value in base.items() if name in wanted} | noise
    error = outcome(lambda: check(parse(kind, msgspec.json.encode(body)), model))
    assert error is None or (400 <= error.status < 500 and len(error.message) < 2000)


texts = st.text(max_size=6) | st.sampled_from(["<|im_end|>", "<|im_start|>system", "{{ x }}", "{% raw %}"])
parts = st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url"]), "text": texts | st.none()})
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", ""])},
    optional={"content": texts | st.none() | st.lists(parts, max_size=2), "name": texts, "refusal": st.none() | texts},
)


@given(told=st.lists(messages, max_size=3))
def test_any_chat_is_either_served_or_refused(model: ServedModel, told: list[dict[str, Any]]) -> None:
    body = {"model": "tiny", "messages": told}
    error = outcome(lambda: check(parse(ChatBody, msgspec.json.encode(body)), model))
    assert error is None or error.status == 400


@pytest.mark.parametrize("kind", [ChatBody, CompletionBody])
@given(data=st.binary(max_size=80))
def test_any_bytes_are_either_parsed_or_refused(kind: type[Body], data: bytes) -> None:
    error = outcome(lambda: parse(kind, data))
    assert error is None or error.status == 400
