"""A token whose row of the embedding is no number: requests with it end, and nothing of them reaches others."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.workers.engine.rig import Front, running_core
from tests.workers.models.tiny import eager_backend, load_decoder, make_llama, native_backend, prompt

from headrace_worker.models.decoder import Decoder

POISON = 319
SHARED = prompt(40, 5, POISON)
HEALTHY = [prompt(length, seed, POISON) for seed, length in enumerate((3, 30, 70))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = make_llama()
    with torch.no_grad():
        model.model.embed_tokens.weight[POISON] = torch.nan
    folder = tmp_path_factory.mktemp("poisoned")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["native", "eager"])
def decoder(request: pytest.FixtureRequest, folder: Path) -> Decoder:
    return load_decoder(folder, native_backend() if request.param == "native" else eager_backend())


@pytest.fixture
def start(decoder: Decoder, tmp_path: Path) -> Iterator[Any]:
    with ExitStack() as stack:

        def start(name: str, **sizes: Any) -> Front:
            return stack.enter_context(running_core(decoder, f"ipc://{tmp_path}/{name}", **sizes))

        yield start


@pytest.fixture
def wanted(start: Any) -> list[list[int]]:
    """Answers where the token never comes."""
    front = start("clean")
    return [answer(front, ids) for ids in (*HEALTHY, SHARED, SHARED[:33])]


def answer(front: Front, ids: list[int]) -> list[int]:
    """Return an answer, which is none of those that never end because they have failed."""
    request = front.generate(ids, logit_bias=((POISON, -100.0),))
    whole = front.answers[request, 0]
    front.until(lambda: whole.finish is not None or request in front.failed)
    assert request not in front.failed, front.failed[request].message
    return whole.ids


def failed(front: Front, ids: list[int]) -> str:
    """Return what the request is told that ends."""
    request = front.generate(ids)
    front.until(lambda: request in front.failed)
    assert front.failed[request].kind == "internal"
    return front.failed[request].message


@pytest.mark.parametrize("chunk_tokens", [16, 64])
def test_nothing_that_a_poisoned_prompt_computed_is_used_again(
    start: Any, wanted: list[list[int]], chunk_tokens: int
) -> None:
    front = start("poisoned", chunk_tokens=chunk_tokens, num_blocks=16)
    for at in (33, 39, 20):
        poisoned = [*SHARED[:at], POISON, *SHARED[at + 1 :]]
        assert "not finite" in failed(front, poisoned)
        assert [answer(front, ids) for ids in (SHARED, SHARED[:33])] == wanted[-2:]
        assert [answer(front, ids) for ids in HEALTHY] == wanted[: len(HEALTHY)]
    assert front.settled().blocks["active"] == 0


def test_prompts_that_run_beside_a_poisoned_one_go_on(start: Any, wanted: list[list[int]]) -> None:
    front = start("beside")
    requests = [front.generate(ids, logit_bias=((POISON, -100.0),)) for ids in HEALTHY]
    poisoned = front.generate([*SHARED, POISON])
    assert [front.finished(request).ids for request in requests] == wanted[: len(HEALTHY)]
    front.until(lambda: poisoned in front.failed)


@pytest.mark.parametrize("block", [0, 1])
def test_a_prompt_that_began_with_blocks_of_others_is_not_to_blame_for_them(
    start: Any, wanted: list[list[int]], block: int
) -> None:
    front = start("borrowed")
    assert answer(front, SHARED) == wanted[-2]
    kv = front.core._runner.kv
    kv[:, block] = torch.nan
    assert answer(front, SHARED[:33]) == wanted[-1]
    again = front.generate(SHARED, logit_bias=((POISON, -100.0),))
    assert front.finished(again).ids == wanted[-2]
    assert front.answers[again, 0].cached_tokens == 32
