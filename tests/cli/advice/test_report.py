"""All advice together: never more than was spent, and said in the same amounts as text and as JSON."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cli.advice.ledgers import HOUR_S, escalated, facts, idle, kept, used, work

from headrace_cli.advice.piece import Wishes
from headrace_cli.advice.report import Report, amount, analyse, to_json, to_plain
from headrace_cli.advice.trace import Repeats
from headrace_router.cost.facts import Leg, Unused, Used

amounts = st.integers(0, 10**12)
gains = st.floats(0, 1)


@st.composite
def legs(draw: st.DrawFn) -> list[Leg]:
    found: list[Leg] = []
    for _ in range(draw(st.integers(0, 4))):
        gain, prefix = draw(gains), draw(st.booleans())
        found += kept(draw(st.integers(0, 200)), gain, cost=draw(amounts), prefix=prefix)
        gain, prefix = draw(gains), draw(st.booleans())
        found += escalated(draw(st.integers(0, 200)), gain, cost=draw(amounts), after=draw(amounts), prefix=prefix)
    return found


@st.composite
def cached(draw: st.DrawFn) -> Used:
    prompt = draw(st.integers(1, 10**6))
    return used(
        draw(st.integers(1, 1000)),
        prompt,
        draw(st.integers(0, prompt)),
        cost=draw(amounts),
        saving=draw(amounts),
        prefill_s=draw(st.floats(0, 1e6)),
    )


@st.composite
def hours(draw: st.DrawFn) -> tuple[Unused, ...]:
    each = st.lists(st.floats(0, 10 * HOUR_S), min_size=24, max_size=24)
    rate = draw(st.integers(0, 10**6))
    roles = draw(st.sampled_from([("prefill", "decode"), ("unified",), (None,), ()]))
    return tuple(one for role in roles for one in idle(role, draw(each), rate=rate))


@settings(max_examples=60, deadline=None)
@given(legs(), st.lists(cached(), max_size=3), hours(), st.floats(0, 1), st.integers(0, 1000))
def test_advice_never_claims_a_saving_larger_than_what_was_spent(
    gone: list[Leg], caches: list[Used], unused: tuple[Unused, ...], may_lose: float, repeated: int
) -> None:
    spent = {
        "threshold": sum(leg.cost + leg.after for leg in gone),
        "tier order": sum(leg.cost + leg.after for leg in gone),
        "cache": sum(one.cost for one in caches),
        "pools": sum(one.cost for one in unused),
    }
    busy = [float(hour * 100) for hour in range(24)]
    found = facts(legs=tuple(gone), used=tuple(caches), unused=unused, work=work(busy, busy), spent=sum(spent.values()))
    report = analyse(found, Wishes(may_lose), Repeats("t", 1000, 1000, repeated), traced=True)
    for one in report.advice:
        assert 0 < one.saving <= spent[one.topic]
        if one.interval is not None:
            assert 0 < one.interval[0] <= one.interval[1] <= spent[one.topic]
    json.loads(to_json(report))
    to_plain(report)


def a_day(**fields: Any) -> Report:
    legs = [*escalated(100, 0.9), *escalated(100, 0.005), *kept(100, 0.001)]
    return analyse(facts(**({"legs": tuple(legs), "spent": 40_000} | fields)), Wishes(), None, traced=False)


def unwrapped(report: Report) -> str:
    return re.sub(r"\n +", " ", to_plain(report))


def test_sentences_are_wrapped_and_options_are_not_parted() -> None:
    lines = to_plain(a_day()).splitlines()
    risk = next(place for place, line in enumerate(lines) if line.startswith("   risk     The gate"))
    assert lines[risk + 1].startswith(" " * 12 + "measurement: "), "it goes on below its beginning"
    assert max(map(len, lines[risk : risk + 3])) <= 110
    assert any("(`headrace cascade evaluate`)" in line for line in lines)
    assert any("(`--trace FILE`" in line for line in lines)


def test_text_and_json_tell_the_same() -> None:
    report = a_day()
    told, text = json.loads(to_json(report)), unwrapped(report)
    (one,) = told["advice"]
    assert (one["topic"], one["saving"], one["saving_per_day"], one["requests"]) == ("threshold", 1e-5, 1e-5, 300)
    assert b'"saving":0.00001,' in to_json(report), "an amount is exact, without an exponent"
    low, high = (amount(round(value * 1e9)) for value in one["interval_per_day"])
    assert f"saves    0.00001 USD a day (95 %: {low} to {high}), 25.0% of all that was spent" in text
    assert "rests on 300 requests" in text
    assert one["risk"] in text
    assert told["tables"]["threshold"][0]["escalate"] == "now"
    assert all(note in text for note in told["notes"])


def test_amounts_for_a_day_follow_from_the_span() -> None:
    (half,) = json.loads(to_json(a_day(last=43_200.0)))["advice"]
    assert half["saving_per_day"] == 2 * half["saving"]
    assert "less than a day" in to_plain(a_day(last=43_200.0))
    assert "less than a day" not in to_plain(a_day())


def test_a_short_ledger_gets_no_advice() -> None:
    report = a_day(last=500.0)
    assert not report.advice
    assert "needs at least 15 minutes" in to_plain(report)
    assert "No change is advised." in to_plain(report)
    assert analyse(facts(last=0.0), Wishes(), None, traced=False).advice == []


def test_a_ledger_that_was_cut_says_so() -> None:
    assert "only the newest 200000 lines" in to_plain(a_day(is_cut=True))


def test_the_same_ledger_and_seed_give_the_same_advice() -> None:
    assert to_json(a_day()) == to_json(a_day())


def test_advice_comes_with_the_largest_saving_first() -> None:
    report = a_day()
    (small,) = report.advice
    large = replace(small, topic="cache", subject="chat", saving=small.saving + 1, interval=None)
    both = replace(report, parts=[replace(report.parts[0], advice=[small, large])])
    assert [one.topic for one in both.advice] == ["cache", "threshold"]
    text = to_plain(both)
    assert "they do not add up" in text
    assert "saves    at most 0.00001 USD a day, 25.0%" in text, "without an interval it is a bound"


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "0"), (1, "0.000000001"), (1_234_567, "0.001235"), (12_345_678_900_000, "12346"), (-2_500_000_000, "-2.5")],
)
def test_amounts_have_four_digits_and_no_exponent(nano: int, text: str) -> None:
    assert amount(nano) == text
