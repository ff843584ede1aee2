"""Every way through the whole system gives the tokens that transformers gives, greedily and in float32."""

from functools import partial

import pytest
from tests.contract import prompts
from tests.contract.reference import Reference
from tests.contract.service import Service, Worker
from tests.contract.talk import ask, chat, stream, together

from headrace_api import names

pytestmark = [pytest.mark.processes, pytest.mark.model]
BLOCK_TOKENS = 16


def prompt_tokens(worker: Worker, source: str) -> float:
    return worker.metric(f"{names.PROMPT_TOKENS}_total", source=source)


def test_answers_one_after_the_other_are_transformers_own(service: Service, reference: Reference) -> None:
    chats = prompts.short("alone")
    answers = [ask(service.url, chat("split", messages)) for messages in chats]
    reference.check(chats, answers)
    assert {(answer.prefill, answer.decode) for answer in answers} == {("split-prefill-0", "split-decode-0")}
    assert {answer.cached_tokens for answer in answers} == {0}


@pytest.mark.parametrize("model", ["split", "whole"])
def test_answers_in_batches_of_8_are_the_same(service: Service, reference: Reference, model: str) -> None:
    chats = prompts.short(f"batch {model}")
    answers = [
        answer
        for start in range(0, len(chats), 8)
        for answer in together(
            partial(stream, service.url, chat(model, messages)) for messages in chats[start : start + 8]
        )
    ]
    reference.check(chats, answers)
    expected = ("split-prefill-0", "split-decode-0") if model == "split" else ("local", "whole-unified-0")
    assert {(answer.prefill, answer.decode) for answer in answers} == {expected}


@pytest.mark.parametrize("holders", [("prefill",), ("decode",), ("prefill", "decode")])
def test_a_prefix_that_some_worker_knows_changes_no_token(
    service: Service, reference: Reference, holders: tuple[str, ...]
) -> None:
    prefix = prompts.prose(f"known to {' and '.join(holders)}", 5)
    chats = prompts.after(prefix)
    sides = {role: service.worker(role, "split") for role in ("prefill", "decode")}
    for role in holders:  # asked directly, a worker computes the prompt itself and keeps it
        ask(sides[role].url, chat("split", chats[-1], max_tokens=1))
    before = {role: prompt_tokens(side, "cached") for role, side in sides.items()}
    received = prompt_tokens(sides["decode"], "received")

    first = ask(service.url, chat("split", chats[0]))
    hits = {role: prompt_tokens(side, "cached") - before[role] for role, side in sides.items()}
    received = prompt_tokens(sides["decode"], "received") - received
    others = together(partial(stream, service.url, chat("split", messages)) for messages in chats[1:])

    reference.check(chats, [first, *others])
    assert first.prefill == "split-prefill-0"
    known = len(reference.prompt([{"role": "system", "content": prefix}])) // BLOCK_TOKENS * BLOCK_TOKENS
    assert {role for role, hit in hits.items() if hit >= known - BLOCK_TOKENS > 0} == set(holders)
    assert {role for role, hit in hits.items() if hit == 0} == set(sides) - set(holders)
    assert first.cached_tokens == max(hits.values())
    assert received == first.prompt_tokens - hits["decode"]
    assert all(answer.cached_tokens > 0 for answer in others)


@pytest.mark.parametrize("model", ["split", "whole"])
def test_long_prompts_in_many_chunks_are_the_same(service: Service, reference: Reference, model: str) -> None:
    chats = prompts.long(f"chunks {model}", (6, 12, 18, 24))
    answers = together(partial(stream, service.url, chat(model, messages)) for messages in chats)
    reference.check(chats, answers)
    assert max(answer.prompt_tokens for answer in answers) > 6 * 64


def test_log_probabilities_are_transformers_own(service: Service, reference: Reference) -> None:
    (messages,) = prompts.long("logprobs", (4,))
    answer = ask(service.url, chat("split", messages))
    expected = reference.logprobs(reference.prompt(messages), reference.ids(answer.tokens))
    assert answer.logprobs == pytest.approx(expected, abs=1e-3)


def test_nothing_is_held_afterwards(service: Service) -> None:
    service.await_rest()
