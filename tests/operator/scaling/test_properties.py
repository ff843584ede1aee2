"""What holds of the policy whatever happens."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.operator.scaling.terms import Play, decoding, terms, unified

from headrace_operator.scaling.bound import afforded, cost, paired
from headrace_operator.scaling.load import PoolLoad
from headrace_operator.scaling.policy import TOLERANCE
from headrace_operator.scaling.ratio import Ratio
from headrace_operator.scaling.terms import Pace, Terms

RATIOS = st.builds(Ratio, st.integers(1, 9), st.integers(1, 9))
NUMBERS = st.integers(1, 200)
LOADS = st.builds(
    PoolLoad,
    running=st.floats(0, 300),
    busy=st.floats(0, 12),
    waiting=st.floats(0, 60),
    waiting_tokens=st.floats(0, 20_000),
    used=st.floats(0, 12),
    is_known=st.booleans(),
)
FAST: dict[str, Any] = {"up": Pace(10, "100%", 10), "down": Pace(20, "50%", 10), "idle_s": 30}


def some_terms(*, ratio: bool = True, budget: bool = True) -> st.SearchStrategy[Terms]:
    return st.builds(
        lambda least, more, pair, gpus: replace(
            terms(least=least, most=max(1, least + more), gpus=gpus, **FAST), ratio=pair
        ),
        st.integers(0, 3),
        st.integers(0, 12),
        RATIOS if ratio else st.none(),
        st.none() | st.integers(6, 20) if budget else st.none(),
    )


@given(RATIOS, NUMBERS, NUMBERS)
def test_lift_finds_the_smallest_pair_of_the_ratio_and_cut_the_largest(ratio: Ratio, prefill: int, decode: int) -> None:
    up, down = ratio.lift(prefill, decode), ratio.cut(prefill, decode)
    assert ratio.holds(*up)
    assert ratio.holds(*down)
    assert up >= (prefill, decode) >= down
    assert ratio.lift(*down) == down == ratio.cut(*down)
    for smaller in ((up[0] - 1, up[1]), (up[0], up[1] - 1)):
        assert not (ratio.holds(*smaller) and smaller[0] >= prefill and smaller[1] >= decode)


@given(RATIOS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_what_is_highest_of_two_pairs_is_a_pair_too(ratio: Ratio, a: int, b: int, c: int, d: int) -> None:
    one, two = ratio.lift(a, b), ratio.lift(c, d)
    assert ratio.holds(max(one[0], two[0]), max(one[1], two[1]))
    assert ratio.holds(min(one[0], two[0]), min(one[1], two[1]))


@given(some_terms(), st.integers(0, 12), st.lists(st.tuples(LOADS, LOADS, st.integers(0, 2)), max_size=25))
@settings(max_examples=60, deadline=None)
def test_bounds_and_budget_hold_at_every_moment(
    made: Terms, start: int, rounds: list[tuple[PoolLoad, PoolLoad, int]]
) -> None:
    play = Play(made, start)
    for prefill, decode, held in rounds:
        before = dict(play.numbers)
        play.seen = {"held": held}
        numbers = play.round(prefill=prefill, decode=decode)
        for role, bounds in made.pools.items():
            assert numbers[role] <= bounds.most
            assert numbers[role] >= bounds.least or made.gpus is not None
        if made.gpus is not None:
            there = {role: max(number, before[role]) for role, number in numbers.items()}
            assert cost(there, made.pools) <= max(made.gpus, cost(before, made.pools))


@given(RATIOS, st.lists(st.tuples(LOADS, LOADS), max_size=25), st.none() | st.integers(4, 40))
@settings(max_examples=60, deadline=None)
def test_the_ratio_holds_on_every_step_of_the_way(
    ratio: Ratio, rounds: list[tuple[PoolLoad, PoolLoad]], gpus: int | None
) -> None:
    play = Play(replace(terms(most=64, gpus=gpus, **FAST), ratio=ratio))
    for prefill, decode in rounds:
        numbers = play.round(prefill=prefill, decode=decode)
        assert ratio.holds(numbers["prefill"], numbers["decode"])


@given(
    some_terms(budget=False),
    st.lists(st.tuples(LOADS, LOADS), min_size=1, max_size=30),
    st.lists(st.tuples(st.floats(1, 3), st.floats(0, 30)), min_size=30, max_size=30),
)
@settings(max_examples=60, deadline=None)
def test_more_load_never_means_fewer_workers(
    made: Terms, rounds: list[tuple[PoolLoad, PoolLoad]], more: list[tuple[float, float]]
) -> None:
    less_play, more_play = Play(made), Play(made)
    for loads, (factor, extra) in zip(rounds, more, strict=False):
        small = [replace(load, is_known=True) for load in loads]
        large = [
            replace(
                load,
                running=load.running * factor + extra,
                busy=load.busy * factor,
                waiting=load.waiting * factor + extra,
                waiting_tokens=load.waiting_tokens * factor,
                used=load.used * factor,
            )
            for load in small
        ]
        fewer = less_play.round(prefill=small[0], decode=small[1])
        greater = more_play.round(prefill=large[0], decode=large[1])
        assert all(greater[role] >= number for role, number in fewer.items())


@given(some_terms(), st.integers(1, 8), st.lists(st.tuples(LOADS, LOADS), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_what_is_not_known_never_lowers_a_number(
    made: Terms, start: int, rounds: list[tuple[PoolLoad, PoolLoad]]
) -> None:
    play = Play(made, start)
    for prefill, decode in rounds:
        before = dict(play.numbers)
        numbers = play.round(prefill=replace(prefill, is_known=False), decode=replace(decode, is_known=False))
        inside = afforded(
            paired({role: min(number, made.pools[role].most) for role, number in before.items()}, made), made
        )
        assert all(number >= min(inside[role], before[role]) for role, number in numbers.items())


@given(
    st.floats(0.3, 40),
    st.lists(
        st.tuples(st.sampled_from([-1.0, 0.0, 1.0]) | st.floats(-1, 1), st.integers(1, 40)), min_size=4, max_size=8
    ),
    st.floats(0.06, 0.09),
)
@settings(max_examples=100, deadline=None)
def test_noise_on_a_constant_load_never_adds_what_was_taken_away(
    workers: float, stretches: list[tuple[float, int]], share: float
) -> None:
    noise = [level for level, rounds in stretches for _ in range(rounds)]
    assert (1 + share) / (1 - share) < (1 + TOLERANCE) ** 2
    play = Play(replace(unified(most=64), down=Pace(60, "25%", 30)), 1)
    seen = play.play("unified", [decoding(workers * (1 + share * one)) for one in noise])
    steps = [after - before for before, after in pairwise(seen) if after != before]
    first_down = next((place for place, step in enumerate(steps) if step < 0), len(steps))
    assert not [step for step in steps[first_down:] if step > 0]


@given(some_terms(), st.integers(1, 30), st.integers(1, 30))
def test_a_pair_that_cannot_be_paid_is_cut_to_the_largest_that_can(made: Terms, prefill: int, decode: int) -> None:
    made = replace(made, pools={role: replace(bounds, least=1, most=30) for role, bounds in made.pools.items()})
    wanted = paired({"prefill": prefill, "decode": decode}, made)
    result = afforded(wanted, made)
    if made.gpus is None or cost(wanted, made.pools) <= made.gpus:
        assert result == wanted
        return
    assert cost(result, made.pools) <= made.gpus
    assert made.ratio is not None
    assert made.ratio.holds(result["prefill"], result["decode"])
    larger = [
        made.ratio.lift(result["prefill"] + 1, result["decode"]),
        made.ratio.lift(result["prefill"], result["decode"] + 1),
    ]
    assert all(sum(pair) > made.gpus or pair[0] > wanted["prefill"] or pair[1] > wanted["decode"] for pair in larger)


@given(st.floats(0, 30), st.booleans())
@settings(max_examples=100, deadline=None)
def test_silence_ends_what_may_end_and_nothing_else(workers: float, may_end: bool) -> None:  # noqa: FBT001
    play = Play(replace(unified(least=0 if may_end else 1), **FAST))
    play.rounds(60, unified=decoding(workers))
    assert play.rounds(400) == {"unified": 0 if may_end else 1}
