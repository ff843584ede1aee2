"""What the runner is asked to do in one step: plain data, no torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headrace_api.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Draw:
    """How to sample the token that follows a row, and the context that penalties look at."""

    sampling: Sampling
    choice: int
    prompt_ids: Sequence[int]
    output_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Row:
    """Consecutive tokens of one sequence in one step."""

    tokens: Sequence[int]
    start: int
    """Position of the first token; all earlier ones have their KV in `blocks`."""
    blocks: Sequence[int]
    draw: Draw | None
    """None: a chunk that does not end the context."""


@dataclass(frozen=True, slots=True)
class Written:
    """Blocks that a step computes for an attempt of another worker."""

    attempt: str
    first: int
    """Number, within the sequence, of the first one."""
    blocks: Sequence[int]


@dataclass(frozen=True, slots=True)
class Work:
    """One step: rows in any order; `on_layer` is called with each layer's number once its KV is written."""

    rows: Sequence[Row]
    on_layer: Callable[[int], None] | None = None
    written: Sequence[Written] = ()
    """What of it other workers wait for."""
