"""Whole workers of one, two and four ranks over the same random Llama."""

import signal
from pathlib import Path

import pytest
from tests.workers.parallel.rig import Answered, Worker, eventually, running

pytestmark = pytest.mark.processes
PROMPTS = [[(7 * at + start) % 256 for at in range(size)] for start, size in ((3, 5), (201, 150))]


@pytest.fixture(scope="module")
def wanted(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Answered]:
    """What one rank answers."""
    with running(tmp_path_factory.mktemp("one") / "worker", llama, chunk_tokens=64) as worker:
        return [worker.ask(prompt) for prompt in PROMPTS]


@pytest.mark.parametrize(
    ("settings", "ranks"),
    [({"tensor_parallel": 2}, 2), ({"tensor_parallel": 4}, 4), ({"pipeline_parallel": 2}, 2)],
    ids=["heads in 2 parts", "heads in 4 parts", "layers in 2 stages"],
)
def test_several_ranks_answer_the_same_greedy_tokens_as_one(
    llama: Path, wanted: list[Answered], tmp_path: Path, settings: dict[str, int], ranks: int
) -> None:
    with running(tmp_path / "worker", llama, chunk_tokens=64, **settings) as worker:
        assert len(worker.ranks()) == ranks - 1
        assert [worker.ask(prompt).tokens for prompt in PROMPTS] == [answer.tokens for answer in wanted]
        again = worker.ask(PROMPTS[1])
        assert again.tokens == wanted[1].tokens
        assert again.cached_tokens == 144


def test_the_death_of_a_rank_ends_the_whole_worker_with_one_clear_line(small: Path, tmp_path: Path) -> None:
    worker = Worker(tmp_path / "worker", small, tensor_parallel=2)
    try:
        worker.await_ready()
        core, (rank,) = worker.core(), worker.ranks()
        rank.send_signal(signal.SIGKILL)
        assert worker.process.wait(30) == 1
        eventually(lambda: not core.is_running(), "rank 0 has ended too")
        line = "the worker ends: rank 1 of 2 has ended by signal SIGKILL; the whole worker ends with it"
        assert worker.logged().count(line) == 1
        assert "Traceback" not in worker.logged()
    finally:
        worker.kill()


def test_the_death_of_rank_0_ends_the_others(small: Path, tmp_path: Path) -> None:
    worker = Worker(tmp_path / "worker", small, tensor_parallel=2)
    try:
        worker.await_ready()
        core, (rank,) = worker.core(), worker.ranks()
        core.send_signal(signal.SIGKILL)
        assert worker.process.wait(30) == 1
        eventually(lambda: not rank.is_running(), "rank 1 has ended too")
    finally:
        worker.kill()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"tensor_parallel": 3},
            "tensor parallelism is 3, but the model has 8 query and 2 key/value heads; it can be 1, 2, 4 or 8",
        ),
        ({"pipeline_parallel": 4}, "pipeline parallelism is 4, but the model has 3 layers; it can be 1 to 3"),
        ({"expert_parallel": 2}, "expert parallelism is 2, but the model has no experts; it can be 1"),
    ],
    ids=["heads", "layers", "experts"],
)
def test_a_shape_that_the_model_does_not_allow_is_refused_before_any_weight_is_read(
    small: Path, tmp_path: Path, settings: dict[str, int], sentence: str
) -> None:
    worker = Worker(tmp_path / "worker", small, **settings)
    try:
        assert worker.process.wait(60) == 2
        assert f"the worker ends: {sentence}" in worker.logged()
        assert "rank 1" not in worker.logged()
    finally:
        worker.kill()
