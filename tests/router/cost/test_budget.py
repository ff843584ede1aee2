"""Budgets hold whatever happens in whatever order."""

import datetime as dt
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_router.cost.budget import Budgets, Limit, Purse
from headrace_router.cost.period import next_start, period_start
from headrace_router.cost.tenants import Tenant

ANNE, BERT = Tenant("anne", "search", "acme"), Tenant("bert", "ads", "acme")
NOW_S = dt.datetime(2026, 2, 14, 15, 9, 26, tzinfo=dt.UTC).timestamp()


def limit(name: str, of: str, hard: int | None = None, soft: int | None = None, **fields: Any) -> Limit:
    return Limit(name, fields.pop("scope", "team"), of, fields.pop("period", "month"), soft, hard)


def budgets(*limits: Limit, spent: int = 0, warned: list[Purse] | None = None) -> Budgets:
    return Budgets(limits, lambda _, _start_s: spent, (warned if warned is not None else []).append)


def test_a_request_counts_in_each_budget_it_falls_under_and_the_emptiest_decides() -> None:
    made = budgets(limit("a", "search", 100), limit("b", "acme", 30, scope="organisation"), limit("c", "ads", 1))
    hold = made.open(ANNE, NOW_S)
    assert [purse.limit.name for purse in hold.purses] == ["a", "b"]
    assert made.reserve(hold, 25) is None
    empty = made.reserve(hold, 6)
    assert empty is not None
    assert empty.limit.name == "b"
    assert [purse.held for purse in made.purses(NOW_S)] == [25, 25, 0], "what is refused is reserved nowhere"
    made.settle(hold, 10)
    assert [(purse.spent, purse.held) for purse in made.purses(NOW_S)] == [(10, 0), (10, 0), (0, 0)]


@given(
    st.integers(0, 1000),
    st.lists(st.tuples(st.sampled_from([ANNE, BERT]), st.integers(0, 300), st.floats(0, 1)), max_size=40),
    st.randoms(use_true_random=False),
)
def test_a_hard_budget_is_never_passed(hard: int, asked: list[tuple[Tenant, int, float]], order: Any) -> None:
    made = budgets(limit("all", "acme", hard, scope="organisation"), limit("search", "search", hard // 2))
    running = []
    for tenant, amount, share in asked:
        hold = made.open(tenant, NOW_S)
        if made.reserve(hold, amount) is None:
            running.append((hold, share))
        if running and order.random() < 0.5:
            ended, part = running.pop(order.randrange(len(running)))
            made.settle(ended, int(ended.amount * part))
        for purse in made.purses(NOW_S):
            assert purse.limit.hard is not None
            assert purse.spent + purse.held <= purse.limit.hard
    for hold, share in running:
        made.settle(hold, int(hold.amount * share))
    assert all(purse.held == 0 for purse in made.purses(NOW_S))


def test_a_soft_limit_warns_once_in_a_period_and_refuses_nothing() -> None:
    warned: list[Purse] = []
    made = budgets(limit("a", "search", soft=10), warned=warned)
    for _ in range(3):
        hold = made.open(ANNE, NOW_S)
        assert made.reserve(hold, 8) is None
        made.settle(hold, 8)
    assert [purse.limit.name for purse in warned] == ["a"]
    later = made.open(ANNE, NOW_S + 40 * 86_400)
    made.reserve(later, 11)
    made.settle(later, 11)
    assert len(warned) == 2


def test_a_period_begins_with_what_the_ledger_says_and_the_next_one_anew() -> None:
    told = {period_start("day", NOW_S): 60}
    made = Budgets((limit("a", "search", 100, period="day"),), lambda _, start_s: told.get(start_s, 0), lambda _: None)
    hold = made.open(ANNE, NOW_S)
    assert made.reserve(hold, 41) is not None
    assert made.reserve(hold, 40) is None
    tomorrow = made.open(ANNE, NOW_S + 86_400)
    assert made.reserve(tomorrow, 100) is None
    made.settle(hold, 40)
    assert [(purse.spent, purse.held) for purse in made.purses(NOW_S + 86_400)] == [(0, 100)]


@pytest.mark.parametrize(
    ("period", "start", "after"),
    [
        ("hour", "2026-02-14T15:00:00", "2026-02-14T16:00:00"),
        ("day", "2026-02-14T00:00:00", "2026-02-15T00:00:00"),
        ("month", "2026-02-01T00:00:00", "2026-03-01T00:00:00"),
    ],
)
def test_periods_follow_the_calendar_in_utc(period: Literal["hour", "day", "month"], start: str, after: str) -> None:
    def at(text: str) -> float:
        return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()

    assert period_start(period, NOW_S) == at(start)
    assert next_start(period, NOW_S) == at(after)
    assert period_start(period, at(after)) == at(after)


def test_a_total_never_begins_anew() -> None:
    assert (period_start("total", NOW_S), next_start("total", NOW_S)) == (0.0, None)
