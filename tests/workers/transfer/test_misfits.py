"""Whole workers that do not fit: numbers that are none, and a prefill worker whose KV means something else."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.soak.watch import read
from tests.workers.parallel.rig import Answered, Worker, eventually, running, write_llama

from headrace_api import names

pytestmark = [pytest.mark.processes, pytest.mark.skipif(os.name != "posix", reason="signals")]
POISON = 200
SHARED = [(11 * at + 7) % 199 for at in range(70)]
HEALTHY = [[(7 * at + start) % 199 for at in range(size)] for start, size in ((3, 100), (50, 40))]
POISONED = [*SHARED[:60], POISON, *SHARED[60:]]
Start = Callable[..., Worker]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 224, "num_hidden_layers": 3, "head_dim": 32}
    folder = write_llama(tmp_path_factory.mktemp("model") / "model", **sizes)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"][POISON] = torch.nan
    tensors["lm_head.weight"][POISON] = 0
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def start(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(name: str, **settings: Any) -> Worker:
            given = {"role": name.partition("-")[0], "worker": name, **settings}
            return stack.enter_context(running(tmp_path_factory.mktemp(name) / "worker", model, **given))

        yield start


@pytest.fixture(scope="module")
def decode(start: Start) -> Worker:
    return start("decode-0")


@pytest.fixture(scope="module")
def wanted(start: Start) -> list[list[str]]:
    """What a worker that never saw the token answers."""
    whole = start("unified-0")
    return [whole.ask(prompt).tokens for prompt in (*HEALTHY, SHARED)]


def through(prefill: Worker) -> dict[str, str]:
    """Return what tells a decode worker to ask this one."""
    return {names.HEADER_PREFILL_WORKERS: prefill.peer(), names.HEADER_DISAGGREGATE: "always"}


def at_rest(worker: Worker) -> bool:
    page = read(worker.peer())
    free = page[names.KV_BLOCKS, "free"] + page[names.KV_BLOCKS, "cached"]
    return free == page[names.KV_BLOCKS_CAPACITY, ""]


def test_a_prompt_that_leads_to_no_number_ends_alone_on_both_workers(
    start: Start, decode: Worker, wanted: list[list[str]]
) -> None:
    prefill = start("prefill-0")
    headers = through(prefill)
    eventually(lambda: decode.ask([1, 2, 3], 1, headers).prefill == "prefill-0", "the workers know each other")
    body = {"model": "tiny", "prompt": POISONED, "max_tokens": 8, "temperature": 0}

    def healthy(prompt: list[int]) -> Answered:
        return decode.ask(prompt, headers=headers)

    with ThreadPoolExecutor(3) as pool:
        beside = pool.map(healthy, HEALTHY)
        poisoned = pool.submit(decode.client.post, "/v1/completions", json=body, headers=headers).result()
    assert poisoned.status_code == 500
    assert "the model returned logits that are not finite numbers" in poisoned.json()["error"]["message"]
    assert [answer.tokens for answer in beside] == wanted[:2]
    assert decode.ask(SHARED, headers=headers).tokens == wanted[2]
    assert prefill.ask(SHARED).tokens == wanted[2]
    eventually(lambda: at_rest(prefill) and at_rest(decode), "both have all their blocks again")


def test_a_prefill_worker_of_another_hash_is_left_out_with_a_sentence_that_names_both(
    start: Start, decode: Worker, wanted: list[list[str]]
) -> None:
    other = start("prefill-1", block_size=32)
    hashes = [worker.client.get("/handoff").json()["kv_hash"] for worker in (decode, other)]
    assert hashes[0] != hashes[1]

    def refused() -> bool:
        answer = decode.ask(HEALTHY[0], headers=through(other))
        assert (answer.tokens, answer.prefill) == (wanted[0], "local")
        return "prefill-1" in decode.logged()

    eventually(refused, "a peer that is busy for half a second is left out of a request")
    assert [line for line in decode.logged().splitlines() if all(one in line for one in ("prefill-1", *hashes))]
