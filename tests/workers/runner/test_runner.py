import pytest
import torch
from tests.workers.models.tiny import (
    load_decoder,
    make_kv,
    make_llama,
    native_backend,
    prompt,
    reference_logits,
)

from headrace_api.frames import Token
from headrace_api.sampling import Sampling
from headrace_worker.layers.backend import Batch
from headrace_worker.runner.inputs import arrange, build
from headrace_worker.runner.runner import Runner
from headrace_worker.runner.sampling import NotFiniteError
from headrace_worker.runner.work import Draw, Row, Work

GREEDY = Draw(Sampling(max_tokens=1, temperature=0.0), 0, (1,), ())
ROWS = [
    Row([1, 2, 3], 4, [7, 3], GREEDY),
    Row([4], 9, [5, 2, 6], GREEDY),
    Row([5, 6], 0, [1], None),
    Row([7], 0, [0, 4], None),
]


def built(rows: list[Row]) -> Batch:
    work = Work(rows)
    return build(work, arrange(work), 4, torch.device("cpu"))


def test_rows_of_one_token_come_first_and_keep_their_order() -> None:
    assert arrange(Work(ROWS)) == [1, 3, 0, 2]


def test_every_token_has_its_position_and_the_slot_of_its_block() -> None:
    batch = built(ROWS)
    assert batch.ids.tolist() == [4, 7, 1, 2, 3, 5, 6]
    assert batch.positions.tolist() == [9, 0, 4, 5, 6, 0, 1]
    assert batch.slots.tolist() == [6 * 4 + 1, 0, 3 * 4, 3 * 4 + 1, 3 * 4 + 2, 4, 5]
    assert (batch.num_single, batch.contexts.tolist()) == (2, [10, 1])
    assert batch.tables.tolist() == [[5, 2, 6], [0, 4, 0]]


def test_chunks_name_the_blocks_of_their_context_and_themselves() -> None:
    first, second = built(ROWS).chunks
    assert (first.first_row, first.num_tokens, first.start, first.blocks.tolist()) == (2, 3, 4, [7, 3])
    assert (second.first_row, second.num_tokens, second.start, second.blocks.tolist()) == (5, 2, 0, [1])


def test_logits_are_wanted_at_the_last_token_of_each_row_with_a_draw() -> None:
    assert built(ROWS).logit_rows.tolist() == [0, 4]


def test_a_step_may_hold_chunks_alone_or_single_rows_alone() -> None:
    chunks, singles = built([ROWS[0]]), built([ROWS[1]])
    assert (chunks.num_single, chunks.tables.shape, len(chunks.chunks)) == (0, (0, 1), 1)
    assert (singles.num_single, len(singles.chunks)) == (1, 0)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    folder = tmp_path_factory.mktemp("model")
    make_llama().save_pretrained(folder)
    decoder = load_decoder(folder, native_backend())
    return Runner(decoder, make_kv(decoder, num_blocks=8))


def test_results_stand_in_the_order_of_the_rows_and_are_none_without_a_draw(runner: Runner) -> None:
    ids = prompt(40)
    rows = [Row(ids[:20], 0, [0, 1], None), Row(ids[:7], 0, [2], GREEDY), Row(ids[:1], 0, [3], GREEDY)]
    silent, chunk, single = runner.run(Work(rows))
    wanted = reference_logits(make_llama(), ids)
    assert silent is None
    assert isinstance(chunk, Token)
    assert isinstance(single, Token)
    assert (chunk.id, single.id) == (int(wanted[6].argmax()), int(wanted[0].argmax()))
    assert chunk.logprob == pytest.approx(float(wanted[6].log_softmax(-1).max()), abs=1e-4)


def test_a_step_without_any_draw_writes_kv_only(runner: Runner) -> None:
    ids = prompt(20)
    assert runner.run(Work([Row(ids[:16], 0, [4], None)])) == [None]
    (token,) = runner.run(Work([Row(ids[16:], 16, [4, 5], GREEDY)]))
    assert isinstance(token, Token)
    assert token.id == int(reference_logits(make_llama(), ids)[-1].argmax())


def test_a_row_that_is_not_finite_leaves_the_others_alone(runner: Runner) -> None:
    ids = prompt(10)
    rows = [Row(ids[:6], 0, [0], GREEDY), Row(ids[6:7], 6, [1], GREEDY)]
    runner.kv[:, 1] = torch.nan
    try:
        fine, broken = runner.run(Work(rows))
    finally:
        runner.kv.zero_()
    assert isinstance(broken, NotFiniteError)
    assert isinstance(fine, Token)
    assert fine.id == int(reference_logits(make_llama(), ids[:6])[-1].argmax())


@pytest.mark.parametrize("chunk_tokens", [1, 5, 512])
def test_warming_leaves_no_trace_in_the_kv(runner: Runner, chunk_tokens: int) -> None:
    runner.kv.zero_()
    runner.warm(chunk_tokens)
    assert runner.kv.eq(0).all()


def test_the_layers_are_announced(runner: Runner) -> None:
    layers: list[int] = []
    runner.run(Work([Row([1, 2], 0, [0], None)], layers.append))
    assert layers == [0, 1, 2]
