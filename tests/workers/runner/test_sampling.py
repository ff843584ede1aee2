import math
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_api.frames import Token
from headrace_api.sampling import Sampling
from headrace_worker.kernels.cpu import Summary
from headrace_worker.runner.random import uniform
from headrace_worker.runner.sampling import NotFiniteError, adjusted, choose, keep, sample
from headrace_worker.runner.work import Draw

Tensor = torch.Tensor
VOCABULARY = 40
ROWS = st.lists(st.floats(-20, 20, width=32), min_size=VOCABULARY, max_size=VOCABULARY).map(torch.tensor)
IDS = st.lists(st.integers(0, VOCABULARY - 1), max_size=12)
QUICK = settings(max_examples=60, deadline=None)


def draw(output_ids: list[int] | None = None, *, choice: int = 0, prompt: tuple[int, ...] = (1,), **how: Any) -> Draw:
    return Draw(Sampling(max_tokens=100, **how), choice, prompt, output_ids or [])


def summary(logits: Tensor) -> Summary:
    two = logits.topk(2, dim=-1)
    return Summary(logits.argmax(-1), two.values[:, 0], two.values[:, 1], logits.logsumexp(-1))


def sampled(logits: Tensor, *draws: Draw) -> list[Token]:
    """Return the tokens of rows that are all finite."""
    tokens = sample(logits, summary(logits), draws)
    return [token for token in tokens if isinstance(token, Token)]


# --- what is drawn ---------------------------------------------------------------------------------------------------


@QUICK
@given(ROWS)
def test_greedy_takes_the_most_likely_token(logits: Tensor) -> None:
    (token,) = sampled(logits[None], draw(temperature=0.0))
    assert logits[token.id] == logits.max()


@QUICK
@given(ROWS, st.integers(0, 2**64 - 1))
def test_top_k_of_one_is_greedy_at_any_temperature(logits: Tensor, seed: int) -> None:
    (token,) = sampled(logits[None], draw(temperature=1.7, top_k=1, seed=seed))
    assert logits[token.id] == logits.max()


@QUICK
@given(ROWS, st.integers(0, 1000), st.floats(1e-5, 2))
def test_a_low_temperature_only_draws_among_the_best(logits: Tensor, seed: int, temperature: float) -> None:
    (token,) = sampled(logits[None], draw(temperature=temperature, seed=seed))
    assert logits.max() - logits[token.id] <= 40 * temperature


TRUNCATIONS = st.fixed_dictionaries(
    {
        "top_k": st.integers(0, VOCABULARY + 5),
        "top_p": st.floats(0.01, 1),
        "min_p": st.floats(0, 1),
        "temperature": st.floats(0.1, 2),
        "seed": st.integers(0, 1000),
    }
)


def reference_keep(probabilities: Tensor, how: dict[str, Any]) -> list[int]:
    """Return the tokens that truncation leaves, with a hair of room for rounding at its edges."""
    order = sorted(range(VOCABULARY), key=lambda token: -probabilities[token].item())
    kept = order[: how["top_k"]] if how["top_k"] else order
    kept = [token for token in kept if probabilities[token] >= how["min_p"] * probabilities.max() * (1 - 1e-4)]
    enough, mass, nucleus = how["top_p"] * (1 + 1e-4) * float(probabilities[kept].sum()), 0.0, []
    for token in kept:
        if mass >= enough:
            break
        nucleus.append(token)
        mass += probabilities[token].item()
    return nucleus


@QUICK
@given(ROWS, TRUNCATIONS)
def test_only_kept_tokens_are_drawn(logits: Tensor, how: dict[str, Any]) -> None:
    probabilities = (logits.double() / how["temperature"]).softmax(-1)
    (token,) = sampled(logits[None], draw(**how))
    least = probabilities[reference_keep(probabilities, how)].min()
    assert probabilities[token.id] >= least * (1 - 1e-4)


@pytest.mark.parametrize(
    ("how", "count"),
    [
        ({}, 5),
        ({"top_k": 3}, 3),
        ({"top_k": 99}, 5),
        ({"top_p": 0.75}, 2),
        ({"top_p": 0.76}, 3),
        ({"top_p": 1e-9}, 1),
        ({"min_p": 0.25}, 3),
        ({"min_p": 0.26}, 2),
        ({"min_p": 1.0}, 1),
        ({"top_k": 2, "top_p": 0.6}, 1),
        ({"top_k": 2, "min_p": 0.9}, 1),
    ],
)
def test_the_kept_tokens_are_counted_as_defined(how: dict[str, Any], count: int) -> None:
    probabilities = torch.tensor([0.5, 0.25, 0.125, 0.0625, 0.0625])
    assert keep(probabilities, Sampling(max_tokens=1, **how)) == count


def test_frequencies_of_many_seeds_follow_the_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5, 1.5])
    num_draws = 4000
    ways: list[dict[str, Any]] = [{"temperature": 1.0}, {"temperature": 0.6}, {"temperature": 1.5, "top_k": 4}]
    for how in ways:
        counts = Counter(choose(logits, draw(seed=seed, **how)) for seed in range(num_draws))
        expected = (logits.double() / how["temperature"]).softmax(-1)
        if "top_k" in how:
            expected[expected < expected.topk(4).values[-1]] = 0
            expected /= expected.sum()
        kept = [token for token in range(6) if expected[token] > 0]
        assert set(counts) <= set(kept)
        chi_square = sum(
            (counts[token] - num_draws * expected[token].item()) ** 2 / (num_draws * expected[token].item())
            for token in kept
        )
        assert chi_square < 20.5, f"{counts} for {expected}"  # 99.9 % quantile of five degrees of freedom


def test_frequencies_of_many_positions_follow_the_distribution() -> None:
    logits, num_draws = torch.tensor([math.log(0.7), math.log(0.3)]), 3000
    ones = sum(choose(logits, draw([0] * position, seed=5)) for position in range(num_draws))
    assert abs(ones - 0.3 * num_draws) < 4 * math.sqrt(0.21 * num_draws)


@QUICK
@given(st.integers(0, 2**64 - 1), st.integers(0, 127), st.integers(0, 1 << 20))
def test_random_numbers_are_in_the_unit_interval_and_repeat(seed: int, choice: int, position: int) -> None:
    number = uniform(seed, choice, position)
    assert 0 <= number < 1
    assert number == uniform(seed, choice, position)


def test_random_numbers_of_neighbouring_seeds_choices_and_positions_differ() -> None:
    numbers = {uniform(seed, choice, position) for seed in range(20) for choice in range(20) for position in range(20)}
    assert len(numbers) == 8000


def test_random_numbers_are_spread_evenly_along_each_argument() -> None:
    for numbers in (
        [uniform(value, 0, 0) for value in range(2000)],
        [uniform(0, value, 0) for value in range(2000)],
        [uniform(0, 0, value) for value in range(2000)],
    ):
        counts = Counter(int(number * 10) for number in numbers)
        assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 27.9  # 99.9 % quantile, nine degrees


def test_the_random_numbers_are_the_same_on_every_machine_and_in_every_release() -> None:
    # a replay may land on a worker of another release, which must draw the same
    assert (uniform(0, 0, 0), uniform(7, 2, 31)) == (0.33805245419550545, 0.7691895524397107)


@QUICK
@given(st.data())
def test_a_draw_does_not_depend_on_the_batch_or_its_order(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 6))
    logits = torch.stack([data.draw(ROWS) for _ in range(count)])
    draws = [
        draw(
            data.draw(IDS),
            choice=number,
            seed=data.draw(st.integers(0, 99)),
            temperature=data.draw(st.sampled_from([0.0, 0.7, 1.0])),
            top_p=data.draw(st.sampled_from([0.5, 1.0])),
            frequency_penalty=data.draw(st.sampled_from([0.0, 0.5])),
        )
        for number in range(count)
    ]
    order = data.draw(st.permutations(range(count)))
    together = sampled(logits, *draws)
    shuffled = sampled(logits[order], *(draws[number] for number in order))
    alone = [sampled(logits[number : number + 1], draws[number])[0] for number in range(count)]
    assert together == alone
    assert shuffled == [together[number] for number in order]


# --- what changes the logits -----------------------------------------------------------------------------------------


PENALTIES = st.fixed_dictionaries(
    {
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "repetition_penalty": st.floats(0.1, 2),
    }
)


@QUICK
@given(ROWS, IDS, IDS, PENALTIES)
def test_penalties_equal_their_definitions(
    logits: Tensor, prompt: list[int], output: list[int], penalties: dict[str, Any]
) -> None:
    presence, frequency = penalties["presence_penalty"], penalties["frequency_penalty"]
    repetition = penalties["repetition_penalty"]
    found = adjusted(logits, draw(output, prompt=(1, *prompt), **penalties))
    for token in range(VOCABULARY):
        wanted = logits[token].item()
        if token in {1, *prompt, *output}:
            wanted = wanted / repetition if wanted > 0 else wanted * repetition
        times = output.count(token)
        wanted -= (presence if times else 0) + frequency * times
        assert found[token].item() == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_the_logits_themselves_are_not_changed() -> None:
    logits = torch.randn(1, VOCABULARY)
    before = logits.clone()
    sampled(
        logits,
        draw([2, 2], repetition_penalty=1.5, presence_penalty=1.0, logit_bias=((3, 9.0),), min_tokens=9, stop_ids=(4,)),
    )
    assert torch.equal(logits, before)


def test_a_bias_moves_a_token_up_or_rules_it_out() -> None:
    logits = torch.zeros(1, VOCABULARY)
    logits[0, 5] = 10.0
    assert sampled(logits, draw(temperature=0.0, logit_bias=((7, 20.0),)))[0].id == 7
    for seed in range(20):
        assert sampled(logits, draw(seed=seed, logit_bias=((5, -100.0),)))[0].id != 5


@QUICK
@given(ROWS, st.integers(0, 100), st.sampled_from([0.0, 1.0]), st.integers(0, 6))
def test_end_tokens_are_impossible_before_the_least_number_of_tokens(
    logits: Tensor, seed: int, temperature: float, generated: int
) -> None:
    logits[[3, 9]] += 60
    (token,) = sampled(
        logits[None],
        draw([0] * generated, seed=seed, temperature=temperature, min_tokens=4, stop_ids=(3, 9)),
    )
    assert (token.id in {3, 9}) == (generated >= 4)


# --- what is reported ------------------------------------------------------------------------------------------------


@QUICK
@given(ROWS, st.integers(0, 100), st.integers(1, 50))
def test_reported_log_probabilities_are_the_models_own(logits: Tensor, seed: int, top: int) -> None:
    (token,) = sampled(
        logits[None],
        draw([1, 1], seed=seed, temperature=0.5, frequency_penalty=1.0, logit_bias=((2, 5.0),), top_logprobs=top),
    )
    own = logits.double().log_softmax(-1)
    assert token.logprob == pytest.approx(own[token.id].item(), abs=1e-4)
    best = own.sort(descending=True).values
    assert token.margin == pytest.approx((best[0] - best[1]).item(), abs=1e-4)
    assert [logprob for _, logprob in token.top] == pytest.approx(best[:top].tolist(), abs=1e-4)
    assert [own[token_id].item() for token_id, _ in token.top] == pytest.approx(best[:top].tolist(), abs=1e-4)
    assert len({token_id for token_id, _ in token.top}) == min(top, VOCABULARY)


@pytest.mark.parametrize("top", [None, 0])
def test_no_alternatives_are_reported_where_none_are_asked_for(top: int | None) -> None:
    (token,) = sampled(torch.randn(1, VOCABULARY), draw(top_logprobs=top))
    assert token.top == ()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_is_not_finite_fails_alone(bad: float) -> None:
    logits = torch.randn(3, VOCABULARY)
    draws = [draw(temperature=0.0), draw(seed=2), draw(seed=3, top_p=0.5)]
    wanted = sampled(logits, *draws)
    logits[1, 4] = bad
    first, second, third = sample(logits, summary(logits), draws)
    assert isinstance(second, NotFiniteError)
    assert [first, third] == [wanted[0], wanted[2]]
