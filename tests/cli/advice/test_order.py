"""Advice on the order of tiers: what it would have cost not to ask one."""

from tests.cli.advice.ledgers import escalated, facts, kept

from headrace_cli.advice.order import order
from headrace_cli.advice.piece import Money, Part
from headrace_router.cost.facts import Leg


def advise(legs: list[Leg], hourly: frozenset[str] = frozenset()) -> Part:
    return order(facts(legs=tuple(legs)), 0, hourly)


def test_a_tier_that_hardly_ever_answers_is_advised_to_be_left_out() -> None:
    part = advise([*escalated(390, 0.5, cost=40), *kept(10, 0.1, cost=40)])
    (found,) = part.advice
    assert found.saving == 400 * 40 - 10 * 100
    assert found.interval is not None
    assert found.interval[0] <= found.saving <= found.interval[1]
    assert found.requests == 400
    assert part.rows[0]["asked in vain"] == Money(390 * 40)
    assert "0.25 in 100 answers fewer would be wrong" in found.risk


def test_a_tier_that_answers_most_is_not() -> None:
    part = advise([*escalated(100, 0.5), *kept(900, 0.01)])
    assert not part.advice
    assert part.rows[0]["saving"] == Money(1000 * 10 - 900 * 100)
    assert "costs more (1000 requests)" in part.notes[0]


def test_requests_that_a_tier_failed_count_as_well() -> None:
    (found,) = advise([*escalated(300, None, cost=50), *kept(20, 0.1)]).advice
    assert found.saving == 300 * 50 + 20 * 10 - 20 * 100


def test_few_requests_are_told_and_nothing_is_advised() -> None:
    part = advise([*escalated(150, 0.5), *kept(10, 0.1)])
    assert (part.advice, part.rows) == ([], [])
    assert "160 requests, 150 of which went on" in part.notes[0]


def test_a_pool_that_would_have_to_grow_is_named() -> None:
    legs = [*escalated(390, 0.5, cost=40), *kept(10, 0.1, cost=40)]
    (found,) = advise(legs, frozenset({"large"})).advice
    assert "would answer 400 requests in place of 390" in found.risk
