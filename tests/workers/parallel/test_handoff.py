"""Prefill and decode workers of different sizes: the prompt's KV goes from rank to rank by ranges of heads."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.workers.parallel.rig import Worker, eventually, running

from headrace_api import names

pytestmark = pytest.mark.processes
PROMPTS = [[(11 * at + start) % 256 for at in range(size)] for start, size in ((7, 100), (50, 33), (90, 60), (4, 150))]


@pytest.fixture(scope="module")
def wanted(small: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """What one worker of one rank answers."""
    with running(tmp_path_factory.mktemp("one") / "worker", small) as worker:
        return [worker.ask(prompt).tokens for prompt in PROMPTS]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def through(decode: Worker, prefill: Worker, prompt: list[int]) -> list[str]:
    """Return the answer of the decode worker to a prompt that the prefill worker computed."""
    headers = {names.HEADER_PREFILL_WORKERS: prefill.peer(), names.HEADER_DISAGGREGATE: "always"}
    # A peer that is busy for half a second is left out of a request: wait until this one is known.
    eventually(lambda: decode.ask([1, 2, 3], 1, headers).prefill == "prefill-0", "the peers know each other")
    answer = decode.ask(prompt, headers=headers)
    assert answer.prefill == "prefill-0", decode.logged() + prefill.logged()
    return answer.tokens


@pytest.mark.parametrize(
    "pairs",
    [
        (("tensor_parallel", 1, 2), ("tensor_parallel", 4, 2)),
        (("tensor_parallel", 2, 1), ("tensor_parallel", 2, 4)),
        (("pipeline_parallel", 1, 2),),
        (("pipeline_parallel", 2, 1),),
    ],
    ids=["into 2 ranks", "out of 2 ranks", "into 2 stages", "out of 2 stages"],
)
def test_workers_of_different_sizes_hand_prompts_over(
    small: Path, tmp_path: Path, stack: ExitStack, wanted: list[list[str]], pairs: tuple[tuple[str, int, int], ...]
) -> None:
    """Pairs share the worker of two ranks: 1 to 2 and 4 to 2, then 2 to 1 and 2 to 4."""
    workers: dict[str, Worker] = {}

    def worker(role: str, setting: str, ranks: int) -> Worker:
        key = f"{role}-{ranks}"
        if key not in workers:
            settings = {"role": role, "worker": f"{role}-0", setting: ranks}
            workers[key] = stack.enter_context(running(tmp_path / key, small, **settings))
        return workers[key]

    for pair, (setting, ranks, their_ranks) in enumerate(pairs):
        prefill, decode = worker("prefill", setting, ranks), worker("decode", setting, their_ranks)
        for number in (2 * pair, 2 * pair + 1):
            assert through(decode, prefill, PROMPTS[number]) == wanted[number]


def test_a_prefill_worker_whose_rank_dies_costs_no_answer(
    small: Path, tmp_path: Path, stack: ExitStack, wanted: list[list[str]]
) -> None:
    prefill = Worker(tmp_path / "prefill", small, role="prefill", worker="prefill-0", tensor_parallel=2)
    stack.callback(prefill.kill)
    decode = stack.enter_context(running(tmp_path / "decode", small, role="decode", worker="decode-0"))
    prefill.await_ready()
    assert through(decode, prefill, PROMPTS[1]) == wanted[1]
    (rank,) = prefill.ranks()
    rank.send_signal(signal.SIGKILL)
    headers = {names.HEADER_PREFILL_WORKERS: prefill.peer(), names.HEADER_DISAGGREGATE: "always"}
    assert decode.ask(PROMPTS[0], headers=headers).tokens == wanted[0]
    eventually(lambda: prefill.ended, "the prefill worker has ended")
    assert prefill.logged().count("rank 1 of 2 has ended by signal SIGKILL") == 1
