import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_router.cascade.curve import auc, curve, resamples
from headrace_router.cascade.threshold import choose

GAINS = np.array([1.0, 0.0, 1.0, -1.0])


def test_a_perfect_order_recovers_the_gap_early_and_beats_the_strong_model_alone() -> None:
    found = curve(GAINS.copy(), GAINS)
    assert found.recovered.tolist() == [0.0, 1.0, 2.0, 2.0, 1.0]
    assert found.calls_at(1.0) == pytest.approx(0.25)
    assert found.apgr == pytest.approx((0.5 + 1.5 + 2.0 + 1.5) / 4)


def test_equal_scores_are_random_whatever_the_order_of_rows() -> None:
    for gains in (GAINS, GAINS[::-1]):
        found = curve(np.zeros(4), gains)
        assert found.apgr == pytest.approx(0.5)
        assert found.calls_at(0.8) == pytest.approx(0.8)


def test_without_a_gap_there_is_no_curve() -> None:
    with pytest.raises(ValueError, match="not better than the weak one on these 2 rows"):
        curve(np.zeros(2), np.array([1.0, -1.0]))


def test_auc_counts_pairs_and_halves_ties() -> None:
    hits = np.array([True, False, True, False])
    scores = np.array([3.0, 2.0, 2.0, 1.0])
    assert auc(scores, hits) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert math.isnan(auc(scores, np.ones(4, dtype=bool)))


@given(st.lists(st.tuples(st.floats(-5, 5), st.sampled_from([-1.0, 0.0, 1.0])), min_size=1, max_size=30))
def test_reversing_the_order_mirrors_the_area(rows: list[tuple[float, float]]) -> None:
    scores, gains = np.array([score for score, _ in rows]), np.array([gain for _, gain in rows])
    if gains.sum() > 0:
        assert curve(scores, gains).apgr + curve(-scores, gains).apgr == pytest.approx(1.0)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=2, max_size=40), st.sampled_from([0.5, 0.8, 0.95]))
def test_a_threshold_recovers_its_target_on_the_rows_it_was_chosen_on(drawn: list[float], target: float) -> None:
    gains = np.array([*drawn, *[1.0] * len(drawn)])
    if gains.sum() <= 0:
        return
    predicted = np.random.default_rng(0).permutation(len(gains)).astype(float)
    threshold = choose(predicted, gains, target)
    assert gains[predicted >= threshold.gain].sum() >= target * gains.sum() - 1e-9


def test_resamples_keep_each_group_in_size_and_repeat_by_seed() -> None:
    groups = ["a"] * 3 + ["b"] * 5
    drawn = resamples(groups, 4, seed=1)
    assert all(sum(row < 3 for row in sample) == 3 and len(sample) == 8 for sample in drawn)
    assert [sample.tolist() for sample in drawn] == [sample.tolist() for sample in resamples(groups, 4, seed=1)]
