"""Turns work into the tensors of a batch: rows of one token first, then chunks."""

from collections.abc import Sequence

import torch

from headrace_worker.layers.backend import Batch, Chunk
from headrace_worker.runner.work import Row, Work


def arrange(work: Work) -> list[int]:
    """Return the order of the rows in the batch: those of one token first."""
    return sorted(range(len(work.rows)), key=lambda number: len(work.rows[number].tokens) > 1)


def build(work: Work, order: Sequence[int], block_size: int, device: torch.device) -> Batch:
    """Return the batch of `work`; logits are wanted for each row with a draw, in the order of `order`."""
    rows = [work.rows[number] for number in order]
    singles = [row for row in rows if len(row.tokens) == 1]
    ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    chunks: list[Chunk] = []
    logit_rows: list[int] = []
    for row in rows:
        if len(row.tokens) > 1:
            chunks.append(_chunk(row, len(ids), block_size, device))
        ids += row.tokens
        for position in range(row.start, row.start + len(row.tokens)):
            positions.append(position)
            slots.append(row.blocks[position // block_size] * block_size + position % block_size)
        if row.draw is not None:
            logit_rows.append(len(ids) - 1)
    return Batch(
        ids=torch.tensor(ids, device=device),
        positions=torch.tensor(positions, dtype=torch.int32, device=device),
        slots=torch.tensor(slots, device=device),
        num_single=len(singles),
        tables=_tables(singles, block_size, device),
        contexts=torch.tensor([row.start + 1 for row in singles], dtype=torch.int32, device=device),
        chunks=chunks,
        logit_rows=torch.tensor(logit_rows, dtype=torch.int64, device=device),
        on_layer=work.on_layer,
    )


def _chunk(row: Row, first_row: int, block_size: int, device: torch.device) -> Chunk:
    used = -(-(row.start + len(row.tokens)) // block_size)
    blocks = torch.tensor(row.blocks[:used], dtype=torch.int64, device=device)
    return Chunk(first_row, len(row.tokens), row.start, blocks)


def _tables(singles: Sequence[Row], block_size: int, device: torch.device) -> torch.Tensor:
    width = max((row.start // block_size + 1 for row in singles), default=1)
    padded = [[*row.blocks[:width], *([0] * (width - len(row.blocks)))] for row in singles]
    return torch.tensor(padded, dtype=torch.int32, device=device).view(len(singles), width)
