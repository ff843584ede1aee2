"""Advice on thresholds: ledgers of which it is known what another one would have cost."""

import numpy as np
import pytest
from tests.cli.advice.ledgers import escalated, facts, kept

from headrace_cli.advice.pairs import Pair, pairs
from headrace_cli.advice.piece import Money, Part, Setting, Share, Wishes
from headrace_cli.advice.thresholds import outcomes, suggested, thresholds
from headrace_router.cost.facts import Leg

NOBODY: frozenset[str] = frozenset()


def pair_of(legs: list[Leg]) -> Pair:
    (found,) = pairs(legs)
    return found


def advise(legs: list[Leg], *settings: Setting, may_lose: float = 0.01) -> Part:
    return thresholds(facts(legs=tuple(legs)), Wishes(may_lose, 0, settings), NOBODY)


def test_answers_that_hardly_gain_are_advised_to_be_kept() -> None:
    legs = [*escalated(100, 0.9), *escalated(100, 0.005), *kept(100, 0.001)]
    (found,) = advise(legs, Setting("target 0.9", 0.5, 0.5)).advice
    assert found.saving == 100 * 100
    assert found.interval is not None
    assert 0 < found.interval[0] < 10_000 < found.interval[1]
    assert found.requests == 300
    assert "66.7% of the answers of small" in found.now
    assert found.instead == "Set `cascade.target` to 0.9: 33.3% would be."
    assert "expects 0.17 in 100 answers more to be wrong" in found.risk


def test_a_saving_that_loses_too_much_is_shown_and_not_advised() -> None:
    legs = [*escalated(100, 0.9), *escalated(100, 0.3), *kept(100, 0.001)]
    part = advise(legs, Setting("target 0.5", 0.5, 0.5))
    assert not part.advice
    assert "no other threshold surely saves" in part.notes[0]
    (row,) = [row for row in part.rows if row["escalate"] == "target 0.5"]
    assert row["saving"] == Money(10_000)
    assert isinstance(row["answers wrong more"], Share)
    assert row["answers wrong more"].value == pytest.approx(0.1)
    (found,) = advise(legs, Setting("target 0.5", 0.5, 0.5), may_lose=0.11).advice
    assert found.saving == 10_000


def test_a_lower_threshold_costs_what_later_tiers_cost_on_average() -> None:
    legs = [*escalated(50, 0.9, after=80), *escalated(50, 0.9, after=120), *kept(100, 0.2), *kept(100, 0.01)]
    (one,) = outcomes(pair_of(legs), [Setting("target 1", 0.1, 0.1)], seed=0)
    assert (one.saving, round(one.escalated, 3)) == (-100 * 100, 0.667)
    assert one.interval[0] < -10_000 < one.interval[1] < 0
    assert one.lost == pytest.approx(-0.2 / 3)


def test_an_answer_that_was_cut_short_costs_its_rest_when_it_is_kept() -> None:
    short = escalated(100, 0.9, cost=4, prefix=True)
    legs = [*short, *escalated(100, 0.3, cost=4, prefix=True), *kept(100, 0.1, cost=10, prefix=True)]
    taken_back, anew = outcomes(pair_of(legs), [Setting("a", 0.5, 2.0), Setting("b", 0.05, 2.0)], seed=0)
    assert taken_back.saving == 100 * (100 - 6)
    assert anew.saving == -100 * (100 - 6)


def test_each_answer_is_held_against_the_threshold_of_what_the_gate_saw_of_it() -> None:
    legs = [*escalated(100, 0.3, prefix=True), *escalated(100, 0.3), *kept(100, 0.1), *kept(10, 0.1, prefix=True)]
    (one,) = outcomes(pair_of(legs), [Setting("target 0.8", 0.5, 0.2)], seed=0)
    assert one.saving == 100 * 100
    assert one.escalated == pytest.approx(100 / 310)


def test_a_ledger_that_says_too_little_is_told_how_much_it_says() -> None:
    few = advise([*escalated(100, 0.5), *kept(57, 0.1)])
    assert (few.advice, few.rows) == ([], [])
    assert "157 judged requests in that time, and advice on a threshold needs 200" in few.notes[0]
    one_sided = advise([*escalated(12, 0.5), *kept(500, 0.1)])
    assert "12 of 512 judged requests were escalated" in one_sided.notes[0]
    assert not one_sided.advice
    assert "no request went on" in advise(kept(500, 0.1)).notes[0].lower()


def test_requests_that_no_gate_judged_say_nothing_of_thresholds() -> None:
    part = advise([*escalated(500, None), *escalated(50, 0.5), *kept(50, 0.1)])
    assert "100 judged requests" in part.notes[0]


def test_a_saving_within_chance_is_not_advised() -> None:
    # One request of a thousand was dear: bootstrap samples often lack it.
    legs = [*escalated(1, 0.005, after=10**6), *escalated(300, 0.9), *kept(300, 0.001)]
    part = advise(legs, Setting("target 0.9", 0.5, 0.5))
    assert not part.advice
    assert part.rows[1]["saving"] == Money(10**6)


def test_suggested_thresholds_are_the_highest_that_keep_a_share_of_the_gain() -> None:
    gains = np.repeat([0.8, 0.4, 0.2], [100, 100, 200])
    found = {one.name: one.whole for one in suggested(gains)}
    assert found == {"gain above 0.400": 0.4, "gain above 0.000": 0.0, "never": 1.0}
    for setting in suggested(gains)[:-1]:
        assert gains[gains > setting.whole].sum() >= 0.5 * gains.sum() - 1e-9
    assert [one.name for one in suggested(np.zeros(10))] == ["never"]


def test_a_tier_by_the_hour_saves_only_where_its_pool_shrinks() -> None:
    legs = [*escalated(100, 0.9), *escalated(100, 0.005), *kept(100, 0.001)]
    wishes = Wishes(settings=[Setting("target 0.9", 0.5, 0.5)])
    (found,) = thresholds(facts(legs=tuple(legs)), wishes, frozenset({"large"})).advice
    assert "saved only where its pool shrinks" in found.risk
    (found,) = thresholds(facts(legs=tuple(legs)), wishes, frozenset({"small"})).advice
    assert "pool" not in found.risk
