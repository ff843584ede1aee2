"""How many workers the policy wants, round by round."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from tests.operator.scaling.terms import EVERY_S, Play, decoding, terms, unified

from headrace_operator.scaling.load import Load, PoolLoad
from headrace_operator.scaling.terms import Bounds, Pace


def test_a_load_for_three_becomes_three_within_a_minute() -> None:
    play = Play(unified())
    assert play.rounds(60, unified=decoding(3)) == {"unified": 3}


def test_streams_that_go_on_for_the_window_add_workers_whatever_was_before_them() -> None:
    play = Play(unified())
    play.rounds(120)
    assert play.play("unified", [decoding(3)] * 3) == [1, 1, 2]
    play = Play(unified(up=Pace(0, "100%", 30)))
    play.rounds(120)
    assert play.round(unified=decoding(3)) == {"unified": 2}


def test_prefill_workers_that_are_found_busy_for_a_moment_stay_as_many_as_they_are() -> None:
    play = Play(terms())
    play.rounds(60, prefill=PoolLoad(running=1, busy=0))
    busy = PoolLoad(running=1, busy=1)
    assert play.play("prefill", [busy] * 4) == [1] * 4


def test_workers_that_a_peak_added_stay_for_the_long_window() -> None:
    play = Play(unified())
    play.rounds(400, unified=decoding(0.5))
    assert play.rounds(15, unified=decoding(1.9)) == {"unified": 2}
    assert play.rounds(290, unified=decoding(0.5)) == {"unified": 2}
    assert play.rounds(30, unified=decoding(0.5)) == {"unified": 1}


def test_a_load_that_moves_up_and_down_counts_by_its_mean() -> None:
    play = Play(unified(), 2)
    swinging = [decoding(share) for share in (1.0, 4.6)] * 12
    assert play.play("unified", swinging)[-1] == 3


def test_a_queue_adds_workers_beside_those_that_are_full() -> None:
    play = Play(unified(), 2)
    assert play.rounds(40, unified=PoolLoad(running=20, waiting=8))["unified"] == 4


def test_a_burst_of_one_round_adds_nothing() -> None:
    play = Play(unified(), 2)
    play.rounds(60, unified=decoding(1.9))
    assert play.play("unified", [decoding(1.9, waiting=40), decoding(1.9), decoding(1.9)]) == [2, 2, 2]


def test_numbers_sink_only_after_the_long_window() -> None:
    play = Play(unified(), 4)
    assert play.rounds(295, unified=decoding(1)) == {"unified": 4}
    assert play.rounds(30, unified=decoding(1)) == {"unified": 3}


def test_they_sink_a_share_at_a_time() -> None:
    play = Play(unified(most=16), 12)
    play.rounds(305, unified=decoding(1))
    assert play.numbers == {"unified": 9}
    play.rounds(55, unified=decoding(1))
    assert play.numbers == {"unified": 9}
    play.rounds(15, unified=decoding(1))
    assert play.numbers == {"unified": 6}


def test_they_rise_at_most_twofold_in_half_a_minute() -> None:
    play = Play(unified(most=64), 2)
    seen = play.play("unified", [PoolLoad(running=20, waiting=400)] * 12)
    assert seen == [2, 2, 4, 4, 4, 4, 4, 4, 4, 8, 8, 8]


def test_kv_in_use_asks_for_workers_whatever_runs() -> None:
    play = Play(unified())
    assert play.rounds(60, unified=PoolLoad(running=2, used=2.4)) == {"unified": 3}


def test_prompts_ask_for_prefill_workers_and_streams_for_decode_workers() -> None:
    play = Play(terms())
    numbers = play.rounds(90, prefill=PoolLoad(running=30, busy=2.4), decode=decoding(1))
    assert numbers == {"prefill": 3, "decode": 1}
    play = Play(terms())
    assert play.rounds(100, prefill=PoolLoad(waiting=1, waiting_tokens=5000)) == {"prefill": 5, "decode": 1}


def test_a_worker_that_says_nothing_keeps_the_number_from_sinking() -> None:
    play = Play(unified(), 4)
    silent = PoolLoad.of([Load(running=1), None])
    assert play.rounds(900, unified=silent) == {"unified": 4}


def test_what_is_told_still_raises_it() -> None:
    play = Play(unified(), 1)
    assert play.rounds(60, unified=replace(decoding(3), is_known=False)) == {"unified": 3}


def test_a_new_leader_lowers_nothing_before_it_knows_the_window() -> None:
    play = Play(unified(), 6)
    assert play.rounds(300, unified=PoolLoad()) == {"unified": 6}


def test_paused_leaves_any_number_as_it_is() -> None:
    play = Play(unified(is_paused=True), 30)
    assert play.rounds(900, unified=decoding(100)) == {"unified": 30}


def test_bounds_that_have_changed_hold_at_once() -> None:
    play = Play(unified(most=2), 7)
    assert play.round(unified=decoding(7)) == {"unified": 2}
    play.terms = unified(least=5, most=9)
    assert play.round(unified=decoding(1)) == {"unified": 5}


def test_a_pool_ends_after_the_idle_time_and_not_before() -> None:
    play = Play(unified(least=0))
    play.round(unified=decoding(0.5))
    assert play.rounds(595) == {"unified": 1}
    assert play.rounds(15) == {"unified": 0}


def test_a_request_between_two_looks_is_seen_by_its_count() -> None:
    play = Play(unified(least=0))
    for ended in range(40):
        assert play.rounds(60, unified=PoolLoad(ended=ended)) == {"unified": 1}


@pytest.mark.parametrize(
    "unknown", [{"is_watched": False}, {"held": 1}], ids=["routers that say nothing", "a request that waits"]
)
def test_it_never_ends_with(unknown: dict[str, Any]) -> None:
    assert Play(unified(least=0), **unknown).rounds(1800) == {"unified": 1}


def test_silent_workers_are_never_ended_for_being_idle() -> None:
    assert Play(unified(least=0)).rounds(1800, unified=PoolLoad(is_known=False)) == {"unified": 1}


def test_a_sleeping_pool_is_woken_at_once_and_by_a_request_only() -> None:
    play = Play(terms(least=0), 0, is_watched=False)
    assert play.rounds(300) == {"prefill": 0, "decode": 0}
    play.seen = {"held": 1}
    assert play.round() == {"prefill": 1, "decode": 1}


def test_many_that_wait_for_sleepers_wake_more_than_one() -> None:
    play = Play(unified(least=0), 0)
    play.rounds(60)
    play.seen = {"held": 16}
    assert play.round() == {"unified": 1}
    assert play.rounds(100) == {"unified": 4}


def test_one_that_was_woken_sleeps_again_only_after_the_idle_time() -> None:
    play = Play(unified(least=0), 0)
    play.seen = {"held": 3}
    play.round()
    play.seen = {}
    assert play.rounds(590) == {"unified": 1}
    assert play.rounds(30) == {"unified": 0}


def test_prefill_alone_sleeps_until_the_first_prompt() -> None:
    made = terms()
    made = replace(made, pools={"prefill": Bounds(0, 4, 1), "decode": Bounds(1, 4, 1)})
    play = Play(made)
    assert play.rounds(620) == {"prefill": 0, "decode": 1}
    assert play.round(decode=PoolLoad(running=1)) == {"prefill": 1, "decode": 1}


def test_the_pool_that_needs_more_leads_the_ratio() -> None:
    play = Play(terms(ratio="1:3", most=24))
    assert play.rounds(180, decode=decoding(8)) == {"prefill": 3, "decode": 8}
    play = Play(terms(ratio="1:3", most=24))
    assert play.rounds(180, prefill=PoolLoad(busy=1.6, running=2)) == {"prefill": 2, "decode": 4}


def test_gpus_that_do_not_suffice_are_shared_by_need() -> None:
    play = Play(terms(most=30, gpus=12))
    numbers = play.rounds(400, prefill=PoolLoad(busy=4, running=4), decode=decoding(15))
    assert numbers == {"prefill": 3, "decode": 9}


def test_a_pool_grows_only_into_what_the_other_has_given_back() -> None:
    play = Play(terms(gpus=8, most=7, up=Pace(0, "100%", 1), down=Pace(0, 1, 1)), {"prefill": 6, "decode": 2})
    seen = [play.round(decode=decoding(7)) for _ in range(12)]
    assert all(sum(numbers.values()) <= 8 for numbers in seen)
    assert all(
        max(before["prefill"], after["prefill"]) + max(before["decode"], after["decode"]) <= 8
        for before, after in pairwise(seen)
    )
    assert seen[-1] == {"prefill": 1, "decode": 7}


def test_workers_without_gpus_know_no_budget() -> None:
    made = unified(most=30, gpus=2)
    made = replace(made, pools={"unified": Bounds(1, 30, gpus=0)})
    assert Play(made).rounds(200, unified=decoding(9)) == {"unified": 9}


def test_the_rounds_are_as_far_apart_as_these_tests_say() -> None:
    assert EVERY_S == 5
