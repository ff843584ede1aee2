"""Two workers that divide one model in different ways: every head of every layer arrives, once, at every rank."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_api.handoff import Hello, Layout, Rank
from headrace_worker.errors import TransferError
from headrace_worker.transfer.identity import Identity
from headrace_worker.transfer.routes import Strip, routes
from headrace_worker.transfer.runs import merge
from headrace_worker.transfer.transport import Span

Bytes = npt.NDArray[np.int64]
LAYERS, HEADS, HEAD_BYTES = 6, 4, 8
SIZES = st.tuples(st.sampled_from([1, 2, 4, 8, 16]), st.integers(1, 4))


def layouts(tensor: int, pipeline: int, num_blocks: int = 5) -> list[Layout]:
    """Return the layout of each rank of a worker."""
    found = []
    for stage in range(pipeline):
        layers = range(LAYERS * stage // pipeline, LAYERS * (stage + 1) // pipeline)
        for rank in range(tensor):
            heads = max(1, HEADS // tensor)
            first = rank * HEADS // tensor
            size = 2 * heads * HEAD_BYTES
            found.append(Layout(0, len(layers), num_blocks, size, 0, layers.start, first, heads))
    return found


def content(layout: Layout) -> Bytes:
    """Return a rank's memory in which each byte says what it is: layer, block, key or value, head."""
    shape = (layout.num_layers, layout.num_blocks, 2, layout.num_heads, HEAD_BYTES)
    layer, block, part, head, _ = np.indices(shape)
    values: Bytes = ((layer + layout.first_layer) * 64 + block * 8 + part * 4 + head + layout.first_head).astype(
        np.int64
    )
    return values


def copy(spans: list[Span], ours: Bytes, theirs: Bytes) -> None:
    for span in spans:
        part = theirs.reshape(-1)[span.remote : span.remote + span.size]
        assert (part == -1).all(), "written twice"
        part[:] = ours.reshape(-1)[span.local : span.local + span.size]


@given(sizes=SIZES, their_sizes=SIZES)
def test_every_byte_arrives_once_however_both_sides_divide_the_model(
    sizes: tuple[int, int], their_sizes: tuple[int, int]
) -> None:
    ours, theirs = layouts(*sizes), layouts(*their_sizes, num_blocks=7)
    memory = {f"d/{number}": np.full_like(content(one), -1) for number, one in enumerate(theirs)}
    pairs = [(1, 3), (2, 4), (4, 0)]
    for rank, mine in enumerate(ours):
        for route in routes(ours, rank, [(f"d/{number}", one) for number, one in enumerate(theirs)]):
            for layer in range(mine.num_layers):
                spans = list(route.spans(list(merge(pairs)), layer, mine))
                copy(spans, content(mine), memory[route.incarnation])
    for number, one in enumerate(theirs):
        got, want = memory[f"d/{number}"], content(one)
        for local, remote in pairs:
            assert (got[:, remote] == want[:, local]).all()
        assert (got[:, [1, 2, 5, 6]] == -1).all()


def test_equal_workers_write_whole_blocks_each_to_its_twin() -> None:
    both = layouts(2, 1)
    for rank in range(2):
        (route,) = routes(both, rank, [("d", both[0]), ("d/1", both[1])])
        assert route.incarnation == ("d", "d/1")[rank]
        assert route.strips == (Strip(0, 0, both[0].block_bytes),)
        (span,) = route.spans(list(merge([(1, 2), (2, 3)])), 0, both[rank])
        assert span.size == 2 * both[0].block_bytes


def test_ranks_that_hold_the_same_heads_share_the_work() -> None:
    ours, theirs = layouts(8, 1), layouts(8, 1)
    named = [(f"d/{number}", one) for number, one in enumerate(theirs)]
    assert [len(routes(ours, rank, named)) for rank in range(8)] == [1] * 8


def test_a_decode_worker_that_holds_less_of_the_model_is_refused() -> None:
    whole, half = layouts(2, 1), layouts(2, 1)[:1]
    identity = Identity("p", "i", "h", "nixl", whole[0], b"", (Rank("i/1", whole[1], b""),))
    identity.check(Hello("d", "j", 2, "h", "nixl", whole[0], b"", (Rank("j/1", whole[1], b""),)))
    with pytest.raises(TransferError, match="both must hold the whole model"):
        identity.check(Hello("d", "j", 2, "h", "nixl", half[0], b""))
