"""Advice on pools: which ones idle, and what numbers hold the busiest hour."""

import pytest
from tests.cli.advice.ledgers import HOUR_S, facts, idle, work

from headrace_cli.advice.piece import Money
from headrace_cli.advice.pools import Hours, pools
from headrace_router.cost.facts import Unused, Work

NUM_HOURS = 24
RATE = 5


def prefill_decode(prefill_gpus: int, decode_gpus: int) -> tuple[tuple[Work, ...], tuple[Unused, ...]]:
    """Return a day in which prefill computes a quarter hour in every hour, and decode two hours."""
    prefill_s, decode_s = [900.0] * NUM_HOURS, [7200.0] * NUM_HOURS
    unused = (
        *idle("prefill", [prefill_gpus * HOUR_S - 900.0] * NUM_HOURS, rate=RATE),
        *idle("decode", [decode_gpus * HOUR_S - 7200.0] * NUM_HOURS, rate=RATE),
    )
    return work(prefill_s, decode_s), unused


def test_the_pool_that_idles_is_advised_to_be_smaller() -> None:
    works, unused = prefill_decode(4, 3)
    part = pools(facts(work=works, unused=unused, spent=sum(one.cost for one in unused)))
    (found,) = part.advice
    assert found.saving == 3 * NUM_HOURS * HOUR_S * RATE, "one prefill GPU computes 0.25 hours in each, 3 are spare"
    assert "1 prefill and 3 decode GPUs, a ratio of 1:3" in found.instead
    assert "4.0 prefill and 3.0 decode GPUs" in found.now
    assert "prefill 94%, decode 33%" in found.now
    assert found.requests == 100 * NUM_HOURS
    assert [row["would do"] for row in part.rows] == [1, 3]
    assert part.rows[0]["unused cost"] == Money((4 * HOUR_S - 900) * NUM_HOURS * RATE)


def test_pools_that_their_busiest_hour_fills_are_left_as_they_are() -> None:
    prefill_s = [900.0] * (NUM_HOURS - 1) + [2.7 * HOUR_S]
    idle_s = [4 * HOUR_S - each for each in prefill_s]
    part = pools(
        facts(
            work=work(prefill_s, [0.0] * NUM_HOURS),
            unused=(*idle("prefill", idle_s, rate=RATE), *idle("decode", [HOUR_S] * NUM_HOURS, rate=RATE)),
        )
    )
    assert not part.advice
    assert [row["would do"] for row in part.rows] == [4, 1]
    assert "no pool had a whole GPU more" in part.notes[0]


def test_a_pool_that_was_short_is_named_and_not_shrunk() -> None:
    part = pools(
        facts(
            work=work([900.0] * NUM_HOURS, [2 * HOUR_S - 10.0] * NUM_HOURS),
            unused=(*idle("prefill", [4 * HOUR_S - 900.0] * NUM_HOURS), *idle("decode", [10.0] * NUM_HOURS)),
            spent=4 * HOUR_S * NUM_HOURS,
        )
    )
    (found,) = part.advice
    assert "The decode pool was short: its busiest hour asks for 3 GPUs, and it had 2.0." in found.risk
    assert "1 prefill and 2 decode GPUs" in found.instead


def test_time_in_answers_that_nobody_got_was_computing_time() -> None:
    works, unused = prefill_decode(4, 3)
    lost = tuple(
        Unused("chat", "small", "prefill", "lost", one.hour, 2 * float(HOUR_S), 0) for one in unused[:NUM_HOURS]
    )
    part = pools(facts(work=works, unused=(*unused, *lost), spent=1))
    assert [row["would do"] for row in part.rows] == [4, 3]
    assert [row["GPUs"] for row in part.rows] == [6.0, 3.0]


def test_pools_that_are_only_short_are_told_without_advice() -> None:
    part = pools(facts(work=work([3590.0] * NUM_HOURS, [0.0] * NUM_HOURS), unused=idle("prefill", [10.0] * NUM_HOURS)))
    assert not part.advice
    assert "The prefill pool was short: its busiest hour asks for 2 GPUs, and it had 1.0." in part.notes[0]


def test_a_single_pool_does_both() -> None:
    unused = idle("unified", [3 * HOUR_S - 1800.0] * NUM_HOURS)
    part = pools(
        facts(work=work([900.0] * NUM_HOURS, [900.0] * NUM_HOURS), unused=unused, spent=3 * HOUR_S * NUM_HOURS)
    )
    (found,) = part.advice
    assert found.instead.startswith("1 unified GPUs: ")
    assert found.saving == 2 * NUM_HOURS * HOUR_S


def test_tiers_without_a_price_by_the_hour_have_nothing_to_save() -> None:
    works, unused = prefill_decode(4, 3)
    free = tuple(Unused(one.model, one.tier, one.role, one.kind, one.hour, one.seconds, 0) for one in unused)
    part = pools(facts(work=works, unused=free))
    assert not part.advice
    assert "cost less than 1%" in part.notes[0]


@pytest.mark.parametrize(
    ("hours", "requests", "role", "said"),
    [
        (5, 100, "prefill", "5 whole hours in that time, and advice on pools needs 6"),
        (24, 8, "prefill", "192 requests in whole hours; advice on pools needs 200"),
        (24, 100, None, "do not say of which pool"),
    ],
)
def test_a_ledger_that_says_too_little_is_told_why(hours: int, requests: int, role: str | None, said: str) -> None:
    found = facts(
        last=float(hours * HOUR_S),
        work=work([900.0] * hours, [0.0] * hours, requests),
        unused=idle(role, [4 * HOUR_S] * hours),
    )
    part = pools(found)
    assert not part.advice
    assert said in part.notes[0]
    assert "no unused time" in pools(facts()).notes[0]


def test_hours_that_the_ledger_saw_a_part_of_do_not_count() -> None:
    assert Hours.within(facts(first=10.0, last=3 * HOUR_S + 10.0)) == Hours(1, 2)
    assert Hours.within(facts(first=10.0, last=20.0)).number == 0
