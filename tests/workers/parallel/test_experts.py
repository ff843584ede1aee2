"""Whole workers whose ranks divide the experts of a mixture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.workers.parallel.rig import Worker, eventually, running

from headrace_api import names

pytestmark = pytest.mark.processes
PROMPTS = [[(13 * at + start) % 256 for at in range(size)] for start, size in ((5, 3), (60, 130))]


@dataclass(frozen=True, slots=True)
class Alone:
    """What one rank answers, and how many tokens it sent to which expert."""

    answers: list[list[str]]
    loads: list[str]


@pytest.fixture(scope="module")
def wanted(mixture: Path, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    with running(tmp_path_factory.mktemp("one") / "worker", mixture) as worker:
        return Alone([worker.ask(prompt).tokens for prompt in PROMPTS], loads(worker))


def loads(worker: Worker) -> list[str]:
    """Return the counters of experts, once all tokens of the prompts are in them."""
    generated = f"{names.GENERATION_TOKENS}_total{{"
    eventually(lambda: worker.metric(generated) == 8 * len(PROMPTS), "all tokens are counted")
    lines = worker.client.get("/metrics").text.splitlines()
    return [line for line in lines if line.startswith(f"{names.EXPERT_TOKENS}_total")]


@pytest.mark.parametrize(
    "settings",
    [{"expert_parallel": 2, "expert_rebalance_steps": 3}, {"expert_parallel": 2, "tensor_parallel": 2}],
    ids=["experts divided, copies moving every third step", "heads and experts divided"],
)
def test_ranks_that_divide_the_experts_answer_the_same_greedy_tokens_as_one(
    mixture: Path, wanted: Alone, tmp_path: Path, settings: dict[str, Any]
) -> None:
    with running(tmp_path / "worker", mixture, **settings) as worker:
        assert len(worker.ranks()) == 1
        assert [worker.ask(prompt).tokens for prompt in PROMPTS] == wanted.answers
        assert len(wanted.loads) == 3 * 6
        assert loads(worker) == wanted.loads
        assert [worker.ask(prompt).tokens for prompt in PROMPTS] == wanted.answers


def test_more_ranks_than_experts_are_refused(mixture: Path, tmp_path: Path) -> None:
    worker = Worker(tmp_path / "worker", mixture, expert_parallel=8)
    try:
        assert worker.process.wait(60) == 2
        assert "the model has 6 experts in a layer; it can be 1 to 6" in worker.logged()
    finally:
        worker.kill()
