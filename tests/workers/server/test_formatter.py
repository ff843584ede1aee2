import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from headrace_api.frames import FrameHead, Token
from headrace_worker.errors import RequestError
from headrace_worker.messages import Output
from headrace_worker.server.ask import Ask, check
from headrace_worker.server.fields import ChatBody, CompletionBody
from headrace_worker.server.formatter import Formatter, Frame
from headrace_worker.server.parse import parse
from headrace_worker.server.served import ServedModel
from headrace_worker.server.shapes import Identity

Make = Callable[..., Ask]
Spoken = Callable[..., tuple[Token, ...]]
END = 259
IDENTITY = Identity("req1", 1700000000, "tiny", "headrace-test")


def formatter(ask: Ask, model: ServedModel) -> Formatter:
    return Formatter(ask, IDENTITY, model.vocabulary)


def feed(ask: Ask, model: ServedModel, *outputs: Output) -> bytes:
    made = formatter(ask, model)
    return b"".join(frame.payload for output in outputs if (frame := made.feed(output)) is not None)


def output(choice: int, tokens: Sequence[Token], finish: str | None = None, **more: Any) -> Output:
    return Output("r", choice, tuple(tokens), finish, **more)


def events(payload: bytes) -> list[dict[str, Any]]:
    lines = payload.split(b"\n\n")
    assert lines[-2:] == [b"data: [DONE]", b""]
    return [json.loads(line.removeprefix(b"data: ")) for line in lines[:-2]]


def test_a_streamed_chat_has_role_text_finish_and_usage_byte_for_byte(
    chat: Make, model: ServedModel, spoken: Spoken
) -> None:
    ask = chat(stream=True, stream_options={"include_usage": True})
    payload = feed(ask, model, output(0, spoken("Hi"), cached_tokens=16), output(0, [Token(END, 0, 0)], "stop"))
    head = b'data: {"id":"chatcmpl-req1","object":"chat.completion.chunk","created":1700000000,"model":"tiny",'
    head += b'"system_fingerprint":"headrace-test","choices":['
    tail = b'],"usage":null}\n\n'
    num_prompt = len(ask.runs[0].prompt_ids)
    assert payload == (
        head + b'{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,'
        b'"finish_reason":null}' + tail
        + head + b'{"index":0,"delta":{"content":"Hi"},"logprobs":null,"finish_reason":null}' + tail
        + head + b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}' + tail
        + head + b'],"usage":{"prompt_tokens":%d,"completion_tokens":3,"total_tokens":%d,'
        b'"prompt_tokens_details":{"cached_tokens":16}}}\n\n' % (num_prompt, num_prompt + 3)
        + b"data: [DONE]\n\n"
    )  # fmt: skip


def test_a_whole_chat_is_the_last_payload_and_the_only_one(chat: Make, model: ServedModel, spoken: Spoken) -> None:
    made = formatter(chat(logprobs=True, top_logprobs=1), model)
    first, last = (made.feed(output(0, spoken("Hé"[:1]))), made.feed(output(0, spoken("é", top=1), "length")))
    assert first is not None
    assert last is not None
    assert first.payload == b""
    assert (first.head.final, last.head.final) == (False, True)
    answer = ChatCompletion.model_validate_json(last.payload, strict=True)
    assert answer.choices[0].message.content == "Hé"
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content
    assert content is not None
    assert b"".join(bytes(entry.bytes or []) for entry in content) == "Hé".encode()
    assert content[1].token == "bytes:\\xc3"
    assert [best.logprob for best in content[1].top_logprobs] == [-0.5]


def test_half_a_character_is_never_shown(chat: Make, model: ServedModel, spoken: Spoken) -> None:
    made = formatter(chat(stream=True), model)
    emoji = spoken("🙂")
    silent = [made.feed(output(0, [token])) for token in emoji[:3]]
    shown = made.feed(output(0, emoji[3:]))
    assert all(frame is not None and b"content" not in frame.payload for frame in silent[1:])
    assert shown is not None
    assert '"content":"🙂"'.encode() in shown.payload


def test_a_stop_string_ends_a_choice_and_the_core_is_told(chat: Make, model: ServedModel, spoken: Spoken) -> None:
    made = formatter(chat(stop=["END"], logprobs=True), model)
    held = made.feed(output(0, spoken("one EN")))
    frame = made.feed(output(0, spoken("D and more")))
    assert held is not None
    assert frame is not None
    assert (frame.cut, frame.head.finish, frame.head.final) == (True, "stop", True)
    assert [token.id for token in frame.head.tokens] == [ord("D")], "tokens behind the stop string are no part of it"
    answer = ChatCompletion.model_validate_json(frame.payload, strict=True)
    assert answer.choices[0].message.content == "one "
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 7
    assert answer.choices[0].logprobs is not None
    assert [entry.token for entry in answer.choices[0].logprobs.content or []] == list("one ")
    assert made.feed(output(0, spoken("late"))) is None


def test_a_stop_string_within_the_first_min_tokens_does_not_count(
    chat: Make, model: ServedModel, spoken: Spoken
) -> None:
    made = formatter(chat(stop="x", min_tokens=2), model)
    frame = made.feed(output(0, spoken("xyx")))
    assert frame is not None
    assert json.loads(frame.payload)["choices"][0]["message"]["content"] == "xy"


def test_the_clients_own_stop_token_is_not_shown(completion: Make, model: ServedModel, spoken: Spoken) -> None:
    payload = feed(completion(stop_token_ids=[ord(".")], logprobs=0), model, output(0, spoken("Yes."), "stop"))
    choice = json.loads(payload)["choices"][0]
    assert choice["text"] == "Yes"
    assert choice["logprobs"]["tokens"] == ["Y", "e", "s"]


def test_completion_logprobs_align_with_the_text(completion: Make, model: ServedModel, spoken: Spoken) -> None:
    payload = feed(completion(logprobs=2), model, output(0, spoken("Hé!", top=2), "length"))
    answer = Completion.model_validate_json(payload, strict=True)
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.tokens == ["H", "bytes:\\xc3", "bytes:\\xa9", "!"]
    assert told.text_offset == [0, 1, 1, 2]
    assert told.token_logprobs == [-0.5] * 4
    assert told.top_logprobs is not None
    assert told.top_logprobs[0] == {"H": -0.5, "I": -1.5}


def test_an_impossible_token_has_a_logprob_that_json_can_hold(completion: Make, model: ServedModel) -> None:
    token = Token(65, float("-inf"), 0, ((66, float("nan")),))
    payload = feed(completion(logprobs=1), model, output(0, [token], "length"))
    assert json.loads(payload)["choices"][0]["logprobs"]["top_logprobs"] == [{"B": -9999.0, "A": -9999.0}]


def test_echo_repeats_the_prompt_of_text_and_of_ids(completion: Make, model: ServedModel, spoken: Spoken) -> None:
    for prompt in ("hé", list("hé".encode())):
        whole = feed(completion(prompt=prompt, echo=True), model, output(0, spoken("!"), "length"))
        assert json.loads(whole)["choices"][0]["text"] == "hé!"
        parts = feed(completion(prompt=prompt, echo=True, stream=True), model, output(0, spoken("!"), "length"))
        assert "".join(event["choices"][0]["text"] for event in events(parts)) == "hé!"


def test_choices_of_several_prompts_interleave_and_each_prompt_is_counted_once(
    completion: Make, model: ServedModel, spoken: Spoken
) -> None:
    ask = completion(prompt=["aa", "b"], n=2)
    made = formatter(ask, model)
    assert [[choice.index for choice in made.unfinished(run)] for run in (0, 1)] == [[0, 1], [2, 3]]
    frames = [made.feed(output(index, spoken(f"{index}"), "length", cached_tokens=index)) for index in (3, 1, 0, 2)]
    last = frames[-1]
    assert last is not None
    answer = json.loads(last.payload)
    assert [choice["text"] for choice in answer["choices"]] == ["0", "1", "2", "3"]
    assert answer["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2},
    }


@pytest.mark.parametrize("head", [FrameHead(choice=1), FrameHead(choice=-1), FrameHead(finish="stop", final=True)])
def test_heads_that_do_not_fit_the_request_are_refused(chat: Make, model: ServedModel, head: FrameHead) -> None:
    with pytest.raises(RequestError):
        formatter(chat(), model).resume([head])


@dataclass(frozen=True)
class Case:
    ask: Ask
    outputs: list[Output]
    cut: int


@st.composite
def cases(draw: st.DrawFn, model: ServedModel) -> Case:
    """Draw a request, what a core may report for it in any interleaving and portions, and where a worker dies."""
    chat = draw(st.booleans())
    n = draw(st.integers(1, 3))
    top = draw(st.none() | st.integers(0, 2))
    body: dict[str, Any] = {"model": "tiny", "n": n, "seed": 1, "stream": draw(st.booleans())}
    body["stop"] = draw(st.lists(st.text("abc", min_size=1, max_size=3), max_size=2))
    body["min_tokens"] = draw(st.integers(0, 3))
    if body["stream"]:
        body["stream_options"] = {"include_usage": draw(st.booleans())}
    if chat:
        body |= {"messages": [{"role": "user", "content": "x"}], "logprobs": top is not None, "top_logprobs": top}
    else:
        body |= {"prompt": ["x", "y"], "logprobs": top, "echo": top is None}
    ask = check(parse(ChatBody if chat else CompletionBody, json.dumps(body).encode()), model)
    pending = {index: draw(choice_outputs(index, top or 0)) for index in range(ask.num_choices)}
    outputs: list[Output] = []
    while pending:
        index = draw(st.sampled_from(sorted(pending)))
        outputs.append(pending[index].pop(0))
        if not pending[index]:
            del pending[index]
    return Case(ask, outputs, draw(st.integers(0, len(outputs))))


@st.composite
def choice_outputs(draw: st.DrawFn, index: int, top: int) -> list[Output]:
    ids = draw(st.lists(st.sampled_from([*b"abc", 0xC3, 0xA9, 0xF0, 256, 257]), max_size=10))
    ends = draw(st.booleans())
    ids += [END] if ends else [98]
    tokens = [Token(one, -one / 7, 0.5, tuple((one + k, -1.0) for k in range(top))) for one in ids]
    outputs: list[Output] = []
    while tokens:
        size = draw(st.integers(1, 3))
        last = len(tokens) <= size
        finish = ("stop" if ends else "length") if last else None
        outputs.append(Output("r", index, tuple(tokens[:size]), finish, "p", 0 if outputs else index * 3))
        tokens = tokens[size:]
    return outputs


def frames_of(made: Formatter, outputs: Sequence[Output]) -> list[Frame]:
    return [frame for one in outputs if (frame := made.feed(one)) is not None]


@given(data=st.data())
def test_a_resumed_answer_goes_on_exactly_where_the_last_worker_fell_silent(
    model: ServedModel, data: st.DataObject
) -> None:
    case = data.draw(cases(model))
    undisturbed = frames_of(formatter(case.ask, model), case.outputs)
    cut = min(case.cut, len(undisturbed) - 1)
    resumed = formatter(case.ask, model)
    resumed.resume([frame.head for frame in undisturbed[:cut]])
    left = {
        choice.index: len(choice.output_ids) for run in range(len(case.ask.runs)) for choice in resumed.unfinished(run)
    }
    seen: dict[int, int] = {}
    rest = []
    for one in case.outputs:
        start = seen.get(one.choice, 0)
        seen[one.choice] = start + len(one.tokens)
        if one.choice in left and start >= left[one.choice]:
            rest.append(one)
    continued = frames_of(resumed, rest)
    assert [frame.payload for frame in continued] == [frame.payload for frame in undisturbed[cut:]]
    assert continued[-1].head == undisturbed[-1].head


@given(data=st.data())
def test_streamed_and_whole_answers_say_the_same(model: ServedModel, data: st.DataObject) -> None:
    case = data.draw(cases(model))
    payload = b"".join(frame.payload for frame in frames_of(formatter(case.ask, model), case.outputs))
    if not case.ask.stream:
        kind = ChatCompletion if case.ask.chat else Completion
        answer = kind.model_validate_json(payload, strict=True)
        assert len(answer.choices) == case.ask.num_choices
        return
    finished = set()
    for event in events(payload):
        if case.ask.chat:
            ChatCompletionChunk.model_validate(event, strict=False)
        for choice in event["choices"]:
            assert choice["index"] not in finished, "nothing follows the end of a choice"
            if choice["finish_reason"] is not None:
                finished.add(choice["index"])
    assert finished == set(range(case.ask.num_choices))
