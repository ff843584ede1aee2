"""Neighbouring blocks become one span: few large writes are many times faster than many small ones.

Pure: block numbers in, byte offsets out.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from headrace_api.handoff import Layout
from headrace_worker.transfer.transport import Span


@dataclass(frozen=True, slots=True)
class Run:
    """`count` blocks that follow one another on both sides."""

    local: int
    remote: int
    count: int


def merge(pairs: Iterable[tuple[int, int]]) -> Iterator[Run]:
    """Yield runs for (local block, remote block) pairs, in the order of the pairs."""
    start_local = start_remote = count = 0
    for local, remote in pairs:
        if count and local == start_local + count and remote == start_remote + count:
            count += 1
            continue
        if count:
            yield Run(start_local, start_remote, count)
        start_local, start_remote, count = local, remote, 1
    if count:
        yield Run(start_local, start_remote, count)


def spans(runs: Iterable[Run], layer: int, there: int, local: Layout, remote: Layout) -> Iterator[Span]:
    """Yield one span for each run, from our layer to the peer's layer `there`; blocks are of one size."""
    for run in runs:
        yield Span(
            local=local.offset(layer, run.local),
            remote=remote.offset(there, run.remote),
            size=run.count * local.block_bytes,
        )
