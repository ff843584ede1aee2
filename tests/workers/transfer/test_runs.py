from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from headrace_api.handoff import Layout
from headrace_worker.transfer.runs import Run, merge, spans
from headrace_worker.transfer.transport import Span

LOCAL = Layout(base=1000, num_layers=3, num_blocks=40, block_bytes=64)
REMOTE = Layout(base=5000, num_layers=3, num_blocks=90, block_bytes=64)
PAIRS = st.lists(st.tuples(st.integers(0, 39), st.integers(0, 89)), unique_by=(lambda p: p[0], lambda p: p[1]))


def test_blocks_that_are_neighbours_on_both_sides_become_one_run() -> None:
    assert list(merge([(4, 10), (5, 11), (6, 12)])) == [Run(4, 10, 3)]


def test_blocks_that_are_neighbours_on_one_side_only_stay_apart() -> None:
    assert list(merge([(4, 10), (5, 20), (7, 21)])) == [Run(4, 10, 1), Run(5, 20, 1), Run(7, 21, 1)]


def test_a_span_has_each_sides_own_offset_in_the_layer() -> None:
    assert list(spans([Run(2, 3, 2)], 1, 1, LOCAL, REMOTE)) == [Span((40 + 2) * 64, (90 + 3) * 64, 128)]


@given(PAIRS)
def test_runs_hold_every_pair_once_and_in_order(pairs: list[tuple[int, int]]) -> None:
    assert [(run.local + i, run.remote + i) for run in merge(pairs) for i in range(run.count)] == pairs


@given(PAIRS)
def test_no_two_runs_in_a_row_could_be_one(pairs: list[tuple[int, int]]) -> None:
    runs = list(merge(pairs))
    for one, two in pairwise(runs):
        assert (one.local + one.count, one.remote + one.count) != (two.local, two.remote)


@given(PAIRS, st.integers(0, 2))
def test_spans_move_exactly_the_blocks_of_one_layer(pairs: list[tuple[int, int]], layer: int) -> None:
    ours = bytes(range(256)) * (3 * 40 * 64 // 256)
    theirs = bytearray(3 * 90 * 64)
    for span in spans(merge(pairs), layer, layer, LOCAL, REMOTE):
        theirs[span.remote : span.remote + span.size] = ours[span.local : span.local + span.size]
    expected = bytearray(3 * 90 * 64)
    for local, remote in pairs:
        source = LOCAL.offset(layer, local)
        expected[REMOTE.offset(layer, remote) : REMOTE.offset(layer, remote) + 64] = ours[source : source + 64]
    assert theirs == expected
