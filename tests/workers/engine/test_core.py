from typing import Any

import pytest
import torch
from tests.workers.engine.conftest import StartCore
from tests.workers.engine.rig import Front
from tests.workers.models.tiny import CONTEXT, prompt, reference_logits

from headrace_worker.messages import Cancel, Choice, Finish

PROMPTS = [prompt(length, seed) for seed, length in enumerate((1, 2, 15, 16, 17, 40, 70, 100))]
SAMPLED: dict[str, Any] = {"temperature": 0.9, "top_p": 0.95, "seed": 7, "max_tokens": 20}


def greedy(model: Any, ids: list[int], count: int = 16) -> list[int]:
    """Return transformers' own greedy answer."""
    context = torch.tensor([ids])
    how = {"max_new_tokens": count, "do_sample": False, "pad_token_id": 0}
    made: list[int] = model.generate(context, attention_mask=torch.ones_like(context), **how)[0, len(ids) :].tolist()
    return made


@pytest.fixture(scope="module")
def wanted(model: Any) -> list[list[int]]:
    return [greedy(model, ids) for ids in PROMPTS]


# --- greedy answers equal transformers' ------------------------------------------------------------------------------


def test_each_prompt_alone(front: Front, wanted: list[list[int]]) -> None:
    assert [front.answer(ids).ids for ids in PROMPTS] == wanted


def test_all_prompts_in_one_batch(front: Front, wanted: list[list[int]]) -> None:
    requests = [front.generate(ids) for ids in PROMPTS]
    assert [front.finished(request).ids for request in requests] == wanted


@pytest.mark.parametrize("chunk_tokens", [16, 32, 512])
def test_prompts_in_chunks(start_core: StartCore, wanted: list[list[int]], chunk_tokens: int) -> None:
    front = start_core(chunk_tokens=chunk_tokens)
    requests = [front.generate(ids) for ids in PROMPTS]
    assert [front.finished(request).ids for request in requests] == wanted


def test_prompts_that_hit_the_prefix_cache(front: Front, wanted: list[list[int]]) -> None:
    first = [front.answer(ids) for ids in PROMPTS]
    again = [front.answer(ids) for ids in PROMPTS]
    assert [answer.ids for answer in again] == wanted
    assert [answer.cached_tokens for answer in first] == [0] * len(PROMPTS)
    assert [answer.cached_tokens for answer in again] == [(len(ids) - 1) // 16 * 16 for ids in PROMPTS]


def test_prompts_that_share_a_beginning(model: Any, front: Front) -> None:
    prompts = [[*PROMPTS[6][:shared], *prompt(9, 50 + shared)] for shared in (16, 40, 64, 70)]
    front.answer(PROMPTS[6])
    requests = [front.generate(ids) for ids in prompts]
    answers = [front.finished(request) for request in requests]
    assert [answer.ids for answer in answers] == [greedy(model, ids) for ids in prompts]
    assert [answer.cached_tokens for answer in answers] == [16, 32, 64, 64]


def test_memory_so_tight_that_sequences_are_preempted(model: Any, start_core: StartCore) -> None:
    front = start_core(num_blocks=9)
    prompts = [prompt(20, 60 + seed) for seed in range(6)]
    requests = [front.generate(ids, max_tokens=40) for ids in prompts]
    answers = [front.finished(request) for request in requests]
    assert [answer.ids for answer in answers] == [greedy(model, ids, 40) for ids in prompts]
    assert front.settled().counters["preemptions"] > 0


def test_reported_log_probabilities_equal_transformers(model: Any, front: Front) -> None:
    answer = front.answer(PROMPTS[5], top_logprobs=3)
    logits = reference_logits(model, [*PROMPTS[5], *answer.ids])[len(PROMPTS[5]) - 1 : -1].log_softmax(-1)
    best = logits.topk(3, dim=-1)
    for position, token in enumerate(answer.tokens):
        assert token.logprob == pytest.approx(best.values[position, 0].item(), abs=1e-3)
        assert token.margin == pytest.approx((best.values[position, 0] - best.values[position, 1]).item(), abs=1e-3)
        assert [token_id for token_id, _ in token.top] == best.indices[position].tolist()


# --- seeds, choices, resumption --------------------------------------------------------------------------------------


def test_a_seed_reproduces_an_answer_and_another_seed_does_not(front: Front) -> None:
    first = front.answer(PROMPTS[3], **SAMPLED)
    requests = [front.generate(ids, **SAMPLED) for ids in PROMPTS]
    assert front.finished(requests[3]).ids == first.ids
    assert front.answer(PROMPTS[3], **{**SAMPLED, "seed": 8}).ids != first.ids


def test_several_choices_compute_the_prompt_once(front: Front) -> None:
    before = front.settled().counters
    request = front.generate(PROMPTS[6], tuple(Choice(index) for index in range(4)), **SAMPLED)
    answers = [front.finished(request, index) for index in range(4)]
    after = front.settled().counters
    assert len({tuple(answer.ids) for answer in answers}) > 1
    assert [answer.cached_tokens for answer in answers] == [0, 64, 64, 64]
    assert after["prompt_computed"] - before["prompt_computed"] == 70 + 3 * 6
    assert after["prompt_cached"] - before["prompt_cached"] == 3 * 64
    assert after["generated"] - before["generated"] == 80


def test_a_choice_is_the_same_whether_others_are_asked_for_or_not(front: Front) -> None:
    together = front.generate(PROMPTS[4], tuple(Choice(index) for index in range(3)), **SAMPLED)
    answers = [front.finished(together, index).ids for index in range(3)]
    for index in range(3):
        alone = front.generate(PROMPTS[4], (Choice(index),), **SAMPLED)
        assert front.finished(alone, index).ids == answers[index]


@pytest.mark.parametrize("how", [{"max_tokens": 20}, {**SAMPLED, "frequency_penalty": 0.5, "repetition_penalty": 1.2}])
@pytest.mark.parametrize("count", [1, 2, 13, 19])
def test_a_resumed_answer_goes_on_as_the_undisturbed_one(
    start_core: StartCore, how: dict[str, Any], count: int
) -> None:
    whole = start_core().answer(PROMPTS[5], **how)
    other = start_core()
    request = other.generate(PROMPTS[5], (Choice(0, tuple(whole.ids[:count])),), **how)
    rest = other.finished(request)
    assert whole.ids[:count] + rest.ids == whole.ids
    logprobs = [token.logprob for token in whole.tokens[count:]]
    assert [token.logprob for token in rest.tokens] == pytest.approx(logprobs, abs=1e-4)


def test_choices_resume_each_from_its_own_tokens(start_core: StartCore) -> None:
    first = start_core()
    request = first.generate(PROMPTS[5], (Choice(0), Choice(1), Choice(2)), **SAMPLED)
    whole = [first.finished(request, index).ids for index in range(3)]
    other = start_core()
    resumed = (Choice(0, tuple(whole[0][:5])), Choice(2, tuple(whole[2][:11])))
    request = other.generate(PROMPTS[5], resumed, **SAMPLED)
    assert whole[0][:5] + other.finished(request, 0).ids == whole[0]
    assert whole[2][:11] + other.finished(request, 2).ids == whole[2]


# --- how answers end -------------------------------------------------------------------------------------------------


def test_an_end_token_stops_the_answer_and_is_its_last_token(front: Front, wanted: list[list[int]]) -> None:
    end = wanted[5][6]
    answer = front.answer(PROMPTS[5], stop_ids=(end,))
    assert answer.ids == wanted[5][: wanted[5].index(end) + 1]
    assert answer.finish == "stop"


def test_an_end_token_is_not_drawn_before_the_least_number_of_tokens(front: Front, wanted: list[list[int]]) -> None:
    answer = front.answer(PROMPTS[5], stop_ids=tuple(set(wanted[5])), min_tokens=10)
    assert len(answer.ids) >= 10
    assert not set(answer.ids[:10]) & set(wanted[5])


@pytest.mark.parametrize("max_tokens", [1, 2, 17])
def test_an_answer_ends_at_its_most_tokens(front: Front, max_tokens: int) -> None:
    answer = front.answer(PROMPTS[4], max_tokens=max_tokens)
    assert (len(answer.ids), answer.finish, answer.prefill) == (max_tokens, "length", "local")


def test_an_answer_ends_where_the_context_does(front: Front) -> None:
    answer = front.answer(prompt(CONTEXT - 3), max_tokens=50)
    assert (len(answer.ids), answer.finish) == (3, "length")


@pytest.mark.parametrize("length", [CONTEXT, CONTEXT + 100])
def test_a_context_without_room_for_an_answer_is_refused_with_both_numbers(front: Front, length: int) -> None:
    request = front.generate(prompt(length))
    front.until(lambda: request in front.failed)
    assert front.failed[request].kind == "invalid"
    assert f"{length} tokens" in front.failed[request].message
    assert str(CONTEXT) in front.failed[request].message


def test_an_empty_prompt_is_refused(front: Front) -> None:
    request = front.generate([])
    front.until(lambda: request in front.failed)
    assert front.failed[request].kind == "invalid"


def test_requests_beyond_the_limit_are_refused_and_the_others_served(start_core: StartCore) -> None:
    front = start_core(max_waiting=2, max_running=1)
    requests = [front.generate(PROMPTS[4], max_tokens=60) for _ in range(12)]

    def finish(request: str) -> str | None:
        return front.answers[request, 0].finish

    front.until(lambda: all(request in front.failed or finish(request) for request in requests))
    assert {failure.kind for failure in front.failed.values()} == {"overloaded"}
    assert [finish(request) for request in requests[:2]] == ["length", "length"]


# --- leaving ---------------------------------------------------------------------------------------------------------


def test_a_cancelled_request_frees_all_its_blocks(front: Front) -> None:
    request = front.generate(PROMPTS[7], (Choice(0), Choice(1)), max_tokens=150)
    front.until(lambda: len(front.answers[request, 1].tokens) > 2)
    front.send(Cancel(request))
    stats = front.settled()
    assert stats.blocks["active"] == 0
    assert front.answers[request, 0].finish is None


def test_cancelling_before_the_first_step_or_what_is_unknown_does_no_harm(
    front: Front, wanted: list[list[int]]
) -> None:
    request = front.generate(PROMPTS[6])
    front.send(Cancel(request))
    front.send(Cancel("unknown"))
    front.send(Finish("unknown", 0))
    assert front.answer(PROMPTS[5]).ids == wanted[5]
    assert front.settled().blocks["active"] == 0


def test_a_finished_choice_is_freed_and_the_others_go_on(front: Front) -> None:
    request = front.generate(PROMPTS[6], (Choice(0), Choice(1)), max_tokens=40, temperature=1.0, seed=3)
    front.until(lambda: len(front.answers[request, 0].tokens) > 1)
    front.send(Finish(request, 0))
    assert len(front.finished(request, 1).ids) == 40
    assert front.settled().blocks["active"] == 0


def test_a_choice_that_is_finished_while_it_computes_the_prompt_does_not_hold_up_the_others(
    start_core: StartCore,
) -> None:
    front = start_core(chunk_tokens=16)
    request = front.generate(PROMPTS[7], (Choice(0), Choice(1)), max_tokens=5)
    front.send(Finish(request, 0))
    assert len(front.finished(request, 1).ids) == 5
    assert front.settled().blocks["active"] == 0


def test_a_tenant_does_not_hit_anothers_blocks(front: Front) -> None:
    assert front.answer(PROMPTS[6], salt="one").cached_tokens == 0
    assert front.answer(PROMPTS[6], salt="two").cached_tokens == 0
    assert front.answer(PROMPTS[6], salt="two").cached_tokens == 64


# --- reports ---------------------------------------------------------------------------------------------------------


def test_counters_and_blocks_add_up(front: Front) -> None:
    for ids in PROMPTS:
        front.answer(ids, max_tokens=5)
    stats = front.settled()
    total = sum(map(len, PROMPTS))
    assert stats.counters["generated"] == 5 * len(PROMPTS)
    assert stats.counters["prompt_computed"] + stats.counters["prompt_cached"] == total
    assert stats.counters["preemptions"] == 0
    assert sum(stats.blocks.values()) == 64
    assert stats.blocks["cached"] == sum((len(ids) + 4) // 16 for ids in PROMPTS)


def test_a_sequence_whose_logits_are_not_finite_fails_alone(front: Front, wanted: list[list[int]]) -> None:
    poisoned = front.generate(PROMPTS[6], max_tokens=200)
    healthy = front.generate(PROMPTS[5], max_tokens=16)
    front.until(lambda: len(front.answers[poisoned, 0].tokens) > 1)
    scheduler, kv = front.core._scheduler, front.core._runner.kv
    victim = next(sequence for sequence in scheduler.running if sequence.request == poisoned)
    kv[:, victim.blocks[0]] = torch.nan
    front.until(lambda: poisoned in front.failed)
    assert front.failed[poisoned].kind == "internal"
    assert "not finite" in front.failed[poisoned].message
    assert front.finished(healthy).ids == wanted[5]
    assert front.settled().blocks["active"] == 0
