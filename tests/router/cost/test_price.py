"""Money is exact, and a price means what it says."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_api.resources.money import Price
from headrace_router.cost.bill import Bill, Footer
from headrace_router.cost.money import NANO, to_nano, to_text
from headrace_router.cost.price import FREE, Cost, Usage, tariff

TOKENS = tariff(Price(input_tokens=0.15, cached_input_tokens=0.075, output_tokens=0.6))
HOURS = tariff(Price(gpu_hour=3.6))


def test_tokens_are_priced_by_the_million_with_cached_ones_apart() -> None:
    cost = TOKENS.cost(Usage(prompt_tokens=1_000_000, cached_tokens=400_000, completion_tokens=500_000))
    assert [to_text(amount) for amount in (cost.prefill, cost.decode, cost.saving)] == ["0.12", "0.3", "0.03"]
    assert cost.total == to_nano(0.42)


def test_cached_tokens_cost_as_others_where_no_price_says_otherwise() -> None:
    same = tariff(Price(input_tokens=0.15, output_tokens=0.6))
    assert same.cost(Usage(prompt_tokens=10, cached_tokens=10)) == same.cost(Usage(prompt_tokens=10))


def test_gpu_seconds_are_priced_by_the_hour_and_lost_ones_are_nobodys_bill() -> None:
    cost = HOURS.cost(Usage(prompt_tokens=100, cached_tokens=75, prefill_s=2.0, decode_s=3.0, lost_s=4.0))
    assert (cost.prefill, cost.decode, cost.lost) == (to_nano(0.002), to_nano(0.003), to_nano(0.004))
    assert cost.total == to_nano(0.005)
    assert cost.saving == to_nano(0.006), "75 cached tokens at what the other 25 took"


def test_a_tier_without_a_price_costs_nothing() -> None:
    assert FREE.cost(Usage(1000, 10, 1000, 5.0, 5.0, 5.0)) == Cost()


@given(st.integers(-(10**15), 10**15))
def test_amounts_are_written_exactly_and_read_as_json_numbers(nano: int) -> None:
    text = to_text(nano)
    assert round(json.loads(text, parse_float=_exact, parse_int=_exact)) == nano


def _exact(text: str) -> int:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    whole, _, part = digits.partition(".")
    return sign * (int(whole) * NANO + int(part.ljust(9, "0")))


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_tokens_never_cost_less(prompt: int, completion: int, more: int) -> None:
    base = TOKENS.cost(Usage(prompt_tokens=prompt, completion_tokens=completion)).total
    assert TOKENS.cost(Usage(prompt_tokens=prompt + more, completion_tokens=completion)).total >= base
    assert TOKENS.cost(Usage(prompt_tokens=prompt, completion_tokens=completion + more)).total >= base


@pytest.mark.parametrize(
    ("amount", "nano"), [(2.5, 2_500_000_000), (0.000000001, 1), (0.1 + 0.2, 300_000_000), (7, 7 * NANO)]
)
def test_what_a_person_writes_is_kept_to_a_billionth(amount: float, nano: int) -> None:
    assert to_nano(amount) == nano


BILL = Bill("small", "USD", Usage(10, 4, 3, 0.5, 0.25), Cost(prefill=2, decode=3, saving=1), 5)


def test_the_bill_goes_into_the_usage_at_the_end_of_an_answer() -> None:
    whole = json.loads(Footer(BILL).into(b'{"choices":[],"usage":{"prompt_tokens":10,"details":{"a":{}}}}'))
    assert whole["usage"]["prompt_tokens"] == 10
    assert whole["usage"]["cost"]["total"] == 5e-9
    assert whole["usage"]["cost"]["currency"] == "USD"
    (tier,) = whole["usage"]["cost"]["tiers"]
    assert (tier["tier"], tier["prefill"], tier["decode"], tier["cache_saving"]) == ("small", 2e-9, 3e-9, 1e-9)
    assert tier["gpu_seconds"] == {"prefill": 0.5, "decode": 0.25}
    event, done = Footer(BILL).into(b'data: {"choices":[],"usage":{"a":1}}\n\ndata: [DONE]\n\n').split(b"\n\n")[:2]
    assert json.loads(event[6:])["usage"]["cost"]["total"] == 5e-9
    assert done == b"data: [DONE]"


@pytest.mark.parametrize("payload", [b"", b'data: {"choices":[{}]}\n\ndata: [DONE]\n\n', b'{"choices":[]}'])
def test_an_answer_that_states_no_usage_stays_as_it_is(payload: bytes) -> None:
    assert Footer(BILL).into(payload) == payload
