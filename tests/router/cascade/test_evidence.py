import math
import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_api.frames import FrameHead, Token
from headrace_router.cascade.evidence import BLIND_NAMES, NAMES, Evidence


def evidence(*tokens: Token, finish: str | None = None, prompt_bytes: int = 40) -> Evidence:
    found = Evidence(prompt_bytes)
    found.take(FrameHead(tokens=tokens, finish=finish))
    return found


def sure(token_id: int = 1) -> Token:
    return Token(token_id, -0.001, 7.0)


def doubtful(token_id: int = 2) -> Token:
    return Token(token_id, -1.5, 0.1)


def test_features_are_what_their_names_say() -> None:
    found = evidence(Token(1, -0.5, 2.0), Token(2, -2.5, 1.0), Token(3, -0.3, 6.0), finish="length").features()
    assert tuple(sorted(found)) == tuple(sorted(NAMES))
    assert found["mean_logprob"] == pytest.approx(-1.1)
    assert found["min_logprob"] == -2.5
    assert found["first_logprob"] == -0.5
    assert found["mean_margin"] == pytest.approx(3.0)
    assert found["min_margin"] == 1.0
    assert found["first_margin"] == 2.0
    assert found["tokens"] == pytest.approx(math.log(4))
    assert found["cut"] == 1.0
    assert found["prompt"] == pytest.approx(math.log(41))


def test_entropy_of_an_even_choice_between_two_is_that_of_a_coin() -> None:
    found = evidence(Token(1, math.log(0.5), 1e-9), sure()).features()
    assert found["max_entropy"] == pytest.approx(math.log(2), abs=1e-3)
    assert found["mean_entropy"] == pytest.approx(math.log(2) / 2, abs=0.01)


def test_what_is_left_beside_the_best_two_counts_in_the_entropy() -> None:
    share = 0.25
    found = evidence(Token(1, math.log(share), 1e-9)).features()
    assert found["max_entropy"] == pytest.approx(-2 * share * math.log(share) - 0.5 * math.log(0.5), abs=1e-3)


def test_the_low_quantile_passes_over_a_few_outliers_and_is_near_the_true_one() -> None:
    generator = random.Random(3)
    logprobs = [-(generator.random() ** 4) * 8 for _ in range(400)]
    tokens = [Token(place, logprob, 1.0) for place, logprob in enumerate(logprobs)]
    exact = sorted(logprobs)[40]
    found = evidence(*tokens, Token(999, -29.0, 1.0)).features()
    assert found["low_logprob"] == pytest.approx(exact, rel=0.13)
    assert found["min_logprob"] == -29.0


def test_repetition_is_the_share_of_trigrams_that_were_there_before() -> None:
    assert evidence(*map(sure, [1, 2, 3, 4, 5, 6])).features()["repetition"] == 0.0
    assert evidence(*map(sure, [1, 2, 3, 1, 2, 3])).features()["repetition"] == pytest.approx(1 / 4)
    assert evidence(*map(sure, [7] * 12)).features()["repetition"] == pytest.approx(9 / 10)


def test_equal_samples_of_two_choices_are_no_repetition() -> None:
    found = Evidence(10)
    for choice in (0, 1):
        found.take(FrameHead(choice=choice, tokens=tuple(map(sure, [1, 2, 3, 4]))))
    assert found.features()["repetition"] == 0.0
    assert found.features()["tokens"] == pytest.approx(math.log(5))


def test_first_tokens_are_those_of_every_choice() -> None:
    found = Evidence(10)
    for choice, logprob in ((0, -1.0), (1, -3.0), (0, -9.0), (1, -9.0)):
        found.take(FrameHead(choice=choice, tokens=(Token(1, logprob, -logprob),)))
    assert found.features()["first_logprob"] == -2.0
    assert found.features()["first_margin"] == 2.0


def test_an_answer_is_finished_when_every_choice_seen_has_ended() -> None:
    found = Evidence(10)
    assert not found.finished
    found.take(FrameHead(choice=0, tokens=(sure(),)))
    found.take(FrameHead(choice=1, tokens=(sure(), sure())))
    assert found.tokens == 3
    found.take(FrameHead(choice=0, finish="stop"))
    assert not found.finished
    found.take(FrameHead(choice=1, tokens=(sure(),), finish="length", final=True))
    assert found.finished
    assert found.tokens == 4
    assert found.features()["cut"] == 0.5


def test_an_answer_without_a_token_can_be_finished() -> None:
    assert evidence(finish="stop").finished


def test_an_engine_that_tells_no_probabilities_leaves_the_evidence_blind() -> None:
    assert not evidence(Token(1, 0.0, 0.0), Token(2, 0.0, 0.0)).sighted
    assert not evidence(Token(1, -1.0, 0.0)).sighted
    assert not evidence(Token(1, math.nan, math.nan)).sighted
    assert evidence(Token(1, 0.0, 25.0)).sighted


def test_blind_features_do_not_depend_on_probabilities() -> None:
    blind, sighted = evidence(Token(1, 0.0, 0.0)).features(), evidence(doubtful(1)).features()
    assert {name: blind[name] for name in BLIND_NAMES} == {name: sighted[name] for name in BLIND_NAMES}


anything = st.floats(allow_nan=True, allow_infinity=True)
tokens = st.builds(Token, st.integers(-5, 5), anything, anything)


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(tokens, max_size=6), st.sampled_from([None, "stop", "length"]))))
def test_features_are_finite_and_in_bounds_whatever_comes(frames: list[tuple[int, list[Token], str | None]]) -> None:
    found = Evidence(-1)
    for choice, listed, finish in frames:
        found.take(FrameHead(choice=choice, tokens=tuple(listed), finish=finish))
    features = found.features()
    assert set(features) == set(NAMES)
    assert all(map(math.isfinite, features.values()))
    assert features["min_logprob"] <= features["mean_logprob"] <= 0
    assert features["min_logprob"] - 0.25 * 30 <= features["low_logprob"] <= 0
    assert 0 <= features["repetition"] < 1
    assert 0 <= features["mean_entropy"] <= features["max_entropy"] + 1e-9 <= math.log(3) + 1e-6


@given(st.lists(tokens, max_size=30), st.integers(1, 7))
def test_how_tokens_are_cut_into_frames_changes_nothing(listed: list[Token], size: int) -> None:
    pieces = Evidence(9)
    for start in range(0, len(listed), size):
        pieces.take(FrameHead(tokens=tuple(listed[start : start + size])))
    assert pieces.features() == evidence(*listed, prompt_bytes=9).features()


def test_evidence_needs_no_numpy() -> None:
    """The router's data path adds it up for each frame."""
    assert "numpy" not in vars(sys.modules[Evidence.__module__])
