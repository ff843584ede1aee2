"""Which bytes of a prefill rank's blocks go to which rank of a decode worker.

Both workers may divide the model in their own way. Every head of every layer of every decode rank is written by exactly
one prefill rank: where several hold the same head (more ranks than key/value heads) they take turns over the decode
ranks. Pure: layouts in, byte ranges out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headrace_api.handoff import Hello, Layout
from headrace_worker.transfer.runs import Run, spans
from headrace_worker.transfer.transport import Span


@dataclass(frozen=True, slots=True)
class Strip:
    """Bytes within a block: `size` bytes at `local` of ours become those at `remote` of theirs."""

    local: int
    remote: int
    size: int


@dataclass(frozen=True, slots=True)
class Route:
    """What one prefill rank writes to one decode rank."""

    incarnation: str
    """Of the decode rank's transport."""
    remote: Layout
    layers: range
    """Of the whole model."""
    strips: tuple[Strip, ...]

    def spans(self, runs: Sequence[Run], layer: int, local: Layout) -> Iterator[Span]:
        """Yield the spans of these blocks in our layer `layer`; nothing where the layer does not go there."""
        number = layer + local.first_layer
        if number not in self.layers:
            return
        there = number - self.remote.first_layer
        if self.strips == (Strip(0, 0, local.block_bytes),) and local.block_bytes == self.remote.block_bytes:
            yield from spans(runs, layer, there, local, self.remote)
            return
        for run in runs:
            for step in range(run.count):
                ours, theirs = local.offset(layer, run.local + step), self.remote.offset(there, run.remote + step)
                for strip in self.strips:
                    yield Span(ours + strip.local, theirs + strip.remote, strip.size)


def straight(local: Layout, remote: Layout) -> Route:
    """Return the route between two workers of one rank each."""
    return Route("", remote, range(local.num_layers), (Strip(0, 0, local.block_bytes),))


def places(hello: Hello) -> list[tuple[str, Layout]]:
    """Return the transport's name and the layout of each rank of a decode worker."""
    return [(hello.incarnation, hello.layout), *((rank.incarnation, rank.layout) for rank in hello.ranks)]


def routes(ours: Sequence[Layout], rank: int, theirs: Sequence[tuple[str, Layout]]) -> tuple[Route, ...]:
    """Return what our `rank` writes.

    Args:
        ours: layout of each prefill rank.
        rank: which of them asks.
        theirs: transport's name and layout of each decode rank.
    """
    found: list[Route] = []
    for number, (incarnation, remote) in enumerate(theirs):
        for first, layers in _alike(ours, rank, number, remote):
            strips = tuple(strip for heads in first for strip in _strips(heads, ours[rank], remote))
            found.append(Route(incarnation, remote, layers, _joined(strips)))
    return tuple(found)


def _alike(ours: Sequence[Layout], rank: int, number: int, remote: Layout) -> Iterator[tuple[list[range], range]]:
    """Yield runs of layers in which our rank writes the same heads to that decode rank, and those heads."""
    known: tuple[list[range], range] | None = None
    for layer in _layers(remote):
        heads = _runs([head for head in _heads(remote) if _writer(ours, layer, head, number) == rank])
        if known is not None and heads == known[0]:
            known = heads, range(known[1].start, layer + 1)
            continue
        if known is not None and known[0]:
            yield known
        known = heads, range(layer, layer + 1)
    if known is not None and known[0]:
        yield known


def _writer(ours: Sequence[Layout], layer: int, head: int, number: int) -> int | None:
    """Return which of our ranks writes this head of this layer to decode rank `number`."""
    holders = [rank for rank, one in enumerate(ours) if layer in _layers(one) and head in _heads(one)]
    return holders[number % len(holders)] if holders else None


def _layers(layout: Layout) -> range:
    return range(layout.first_layer, layout.first_layer + layout.num_layers)


def _heads(layout: Layout) -> range:
    return range(layout.first_head, layout.first_head + layout.num_heads)


def _runs(numbers: Sequence[int]) -> list[range]:
    found: list[range] = []
    for number in numbers:
        if found and number == found[-1].stop:
            found[-1] = range(found[-1].start, number + 1)
        else:
            found.append(range(number, number + 1))
    return found


def _strips(heads: range, local: Layout, remote: Layout) -> Iterator[Strip]:
    """Yield where keys, then values, of these heads lie: a block is (K/V, head, token, dim)."""
    size = local.head_bytes
    for part in range(2):
        ours = (part * local.num_heads + heads.start - local.first_head) * size
        theirs = (part * remote.num_heads + heads.start - remote.first_head) * size
        yield Strip(ours, theirs, len(heads) * size)


def _joined(strips: Sequence[Strip]) -> tuple[Strip, ...]:
    """Return the strips with neighbours on both sides joined."""
    found: list[Strip] = []
    for strip in strips:
        last = found[-1] if found else None
        if last and (last.local + last.size, last.remote + last.size) == (strip.local, strip.remote):
            found[-1] = Strip(last.local, last.remote, last.size + strip.size)
        else:
            found.append(strip)
    return tuple(found)


def covered(layouts: Sequence[Layout]) -> int:
    """Return how many heads of how many layers these ranks hold together, each counted once."""
    return len({(layer, head) for one in layouts for layer in _layers(one) for head in _heads(one)})
