"""Answers without frames: what goes on, what is held for the bill, what is counted."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_api.frames import Usage
from headrace_router.cost import plain
from headrace_router.cost.bill import Bill, Footer
from headrace_router.cost.plain import Reading, stamped
from headrace_router.cost.price import Cost
from headrace_router.cost.price import Usage as Used

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}
BILL = Bill("far", "EUR", Used(), Cost(prefill=2_000_000), 2_000_000)


def _event(*choices: dict[str, Any], end: str = "\n\n", **more: Any) -> bytes:
    return f"data: {json.dumps({'choices': list(choices), **more})}{end}".encode()


def _said(text: str | None, index: int = 0, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": {"content": text}, "finish_reason": finish}


STREAM = (
    b": a comment\n\n",
    _event(_said("")),
    _event(_said("one ")),
    _event(_said("two "), end="\r\n\r\n"),
    _event({"index": 0, "delta": {"tool_calls": [{"index": 0}]}, "finish_reason": None}),
    b"data: no JSON\n\n",
    _event(_said(None, finish="stop")),
)
LAST = (_event(usage=USAGE), b"data: [DONE]\n\n")


def _feed(reading: Reading, data: bytes, cuts: list[int]) -> tuple[bytes, bytes, list[plain.Heard]]:
    """Return what passed, what was held to the end, and what was heard."""
    passed, heads = b"", []
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        more, heard = reading.feed(data[start:end])
        passed += more
        heads += heard
    rest, heard = reading.end()
    return passed, rest, heads + heard


@given(st.lists(st.integers(0, 2000), max_size=12))
def test_however_a_stream_is_cut_its_events_pass_and_the_usage_waits_for_the_bill(cuts: list[int]) -> None:
    reading = Reading(events=True)
    passed, rest, heads = _feed(reading, b"".join((*STREAM, *LAST)), cuts)
    assert passed == b"".join(STREAM)
    assert rest == b"".join(LAST)
    assert reading.usage == Usage(7, 3, 2)
    assert [len(head.tokens) for head, _ in heads] == [1, 1, 1, 0]
    assert heads[-1][0].finish == "stop"
    assert b"".join(said for _, said in heads) == b"".join(STREAM[place] for place in (2, 3, 4, 6))


@given(st.lists(st.integers(0, 2000), max_size=12))
def test_a_usage_that_nobody_asked_for_is_read_and_left_out(cuts: list[int]) -> None:
    reading = Reading(events=True, quiet=True)
    passed, rest, _ = _feed(reading, b"".join((*STREAM, *LAST)), cuts)
    assert passed + rest == b"".join((*STREAM, LAST[1]))
    assert reading.usage == Usage(7, 3, 2)


def test_a_usage_beside_the_last_words_passes_with_them() -> None:
    reading = Reading(events=True, quiet=True)
    data = _event(_said("one"), usage=USAGE)
    assert reading.feed(data)[0] == data
    assert reading.usage == Usage(7, 3, 2)


def test_a_stream_that_ends_within_an_event_passes_whole() -> None:
    reading = Reading(events=True)
    passed, rest, _ = _feed(reading, b'data: {"cho', [])
    assert passed + rest == b'data: {"cho'


@given(st.lists(st.integers(0, 2000), max_size=6))
def test_a_whole_answer_is_held_until_it_can_be_billed(cuts: list[int]) -> None:
    choices = [
        {"index": index, "message": {"content": "It is 4, I think."}, "finish_reason": "stop"} for index in (0, 1)
    ]
    body = json.dumps({"id": "x", "choices": choices, "usage": USAGE, "fp": None}).encode()
    reading = Reading(events=False)
    passed, rest, heads = _feed(reading, body, cuts)
    assert (passed, rest) == (b"", body)
    assert [(head.choice, len(head.tokens), head.finish) for head, _ in heads] == [(0, 7, "stop"), (1, 7, "stop")]
    assert [said for _, said in heads] == [body, b""]
    told = json.loads(stamped(rest, Footer(BILL, degraded=True), events=False))
    assert told.pop("degraded") is True
    assert told["usage"].pop("cost")["total"] == 0.002
    assert told == json.loads(body)


def test_the_bill_stands_in_the_event_that_states_the_usage() -> None:
    told = stamped(b"".join(LAST), Footer(BILL), events=True).split(b"\n\n")
    assert json.loads(told[0].removeprefix(b"data: "))["usage"]["cost"]["total"] == 0.002
    assert told[1:] == [b"data: [DONE]", b""]


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("rest", [b"", b"data: [DONE]\n\n", b'{"choices": []}', b"\xff{", b'data: {"usage": 3}\n\n'])
def test_what_states_no_usage_stays_as_it_is(rest: bytes, *, events: bool) -> None:
    assert stamped(rest, Footer(BILL), events=events) == rest


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'{"choices": 3}', b'{"choices": [{"message": "x"}]}'])
def test_an_answer_of_another_shape_passes_uncounted(body: bytes) -> None:
    reading = Reading(events=False)
    passed, rest, heads = _feed(reading, body, [])
    assert (passed, rest, heads, reading.usage) == (b"", body, [], None)


@pytest.mark.parametrize("events", [False, True])
def test_what_is_too_large_to_hold_passes_and_its_end_is_read(monkeypatch: pytest.MonkeyPatch, *, events: bool) -> None:
    monkeypatch.setattr(plain, "MOST_HELD_BYTES", 100)
    body = json.dumps({"data": "x" * 300, "usage": USAGE}).encode()
    reading = Reading(events=events)
    passed, rest, _ = _feed(reading, body, [50, 120, 310])
    assert passed + rest == body
    assert len(passed) > 100
    assert reading.usage == Usage(7, 3, 2)
