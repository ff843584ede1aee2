from collections import Counter

import pytest
from tests.soak.__main__ import parse
from tests.soak.answers import prompts
from tests.soak.plan import LEAST_STOP_S, MOST_STOP_S, pick, plan


def test_a_seed_gives_the_same_blows_again_and_another_seed_does_not() -> None:
    assert plan(7, 60) == plan(7, 60)
    assert plan(7, 60) != plan(8, 60)


def test_ten_minutes_have_a_thousand_blows_of_every_kind() -> None:
    blows = plan(1, 600)
    assert len(blows) == 1000
    kinds = Counter(blow.kind for blow in blows)
    assert kinds["kill"] == kinds["stop"] == 40
    assert {blow.role for blow in blows if blow.kind == "kill"} == {"prefill", "decode", "router"}
    assert {blow.part for blow in blows if blow.kind == "kill"} == {"leader", "engine"}


@pytest.mark.parametrize("seed", range(20))
def test_the_shortest_soak_kills_and_stops_both_roles(seed: int) -> None:
    blows = plan(seed, 20)
    assert {blow.role for blow in blows if blow.kind == "kill"} == {"prefill", "decode"}
    assert {blow.role for blow in blows if blow.kind == "stop"} == {"prefill", "decode"}


def test_blows_come_in_order_within_the_time_and_stops_outlast_leases() -> None:
    blows = plan(3, 600)
    assert [blow.at_s for blow in blows] == sorted(blow.at_s for blow in blows)
    assert all(0 <= blow.at_s < 600 and 0 <= blow.chance < 1 for blow in blows)
    assert all(LEAST_STOP_S <= blow.length_s <= MOST_STOP_S for blow in blows if blow.kind == "stop")


def test_chance_picks_each_candidate_and_nobody_of_none() -> None:
    assert [pick(chance, "abc") for chance in (0.0, 0.34, 0.999)] == ["a", "b", "c"]
    assert pick(0.5, "") is None


def test_prompts_follow_from_the_seed_and_some_share_their_beginning() -> None:
    first, again, other = prompts(1), prompts(1), prompts(2)
    assert first == again != other
    assert first[3][:10] == first[2][:10]


def test_words_that_mean_nothing_are_refused() -> None:
    assert parse(["seconds=60", "seed=7"]).seconds == 60
    for word in ("second=60", "seed=x", "seconds=", "60"):
        with pytest.raises(ValueError, match="means nothing here"):
            parse([word])
