"""Experts: each token goes to a few of them, chosen by a router, and their outputs are added up by its weights.

Letters of shapes: T tokens, E experts, C experts per token, I hidden. Whole experts may lie on different ranks: each
rank then routes its share of the tokens, sends their rows to the ranks of their experts, and gets the outputs back (two
all-to-all exchanges), so that a token's outputs are added in the router's order wherever they were computed.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from headrace_worker.layers.backend import Backend, Weight
from headrace_worker.parallel.balance import replicate
from headrace_worker.parallel.group import Group
from headrace_worker.parallel.shape import split

Tensor = torch.Tensor
logger = logging.getLogger(__name__)
SPARES: Final = 1
"""Copies of hot experts that a rank has room for, in each layer."""


@dataclass(frozen=True, slots=True)
class Expert:
    """A gated feed-forward part."""

    gate_up: Weight
    down: Weight

    def compute(self, backend: Backend, rows: Tensor) -> Tensor:
        """Return (T, I) float32 for rows (T, I) float32."""
        gate_up = backend.linear(backend.product_input(rows), self.gate_up)
        return backend.linear(backend.silu_mul(gate_up), self.down).float()


@dataclass(frozen=True, slots=True)
class Routing:
    """How tokens are routed."""

    table: Tensor
    """(E, I) float32."""
    count: int
    """Experts of each token."""
    normalize: bool
    """Whether the weights of a token's experts add up to 1."""

    def choose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights (T, C) float32 and experts (T, C) int64 of rows x (T, I) float32."""
        weights, chosen = (x @ self.table.T).softmax(-1).topk(self.count, dim=-1)
        return (weights / weights.sum(-1, keepdim=True) if self.normalize else weights), chosen


class Experts:
    """The experts of one layer, or this rank's share of them.

    Args:
        backend: computes.
        routing: the same on every rank.
        load: reads one whole expert; called again for copies.
        ours: experts whose home is this rank.
        group: ranks that divide the experts.
        rebalance_steps: after so many steps hot experts are copied anew; 0 is never.
    """

    def __init__(
        self,
        backend: Backend,
        routing: Routing,
        load: Callable[[int], Expert],
        ours: range,
        group: Group,
        *,
        rebalance_steps: int = 0,
    ) -> None:
        self._backend = backend
        self._routing = routing
        self._load = load
        self._group = group
        self._held = {number: load(number) for number in ours}
        self._ours = ours
        total = routing.table.shape[0]
        self._homes = [rank for rank in range(group.size) for _ in split(total, group.size, rank)]
        self.places: list[tuple[int, ...]] = [(home,) for home in self._homes]
        self.tokens = torch.zeros(total, dtype=torch.int64)
        """Tokens that went to each expert since the start, those of all ranks."""
        self._rebalanced = self.tokens.clone()
        """What they were at the last rebalance."""
        self._rebalance_steps = rebalance_steps
        self._steps = 0

    def compute(self, x: Tensor) -> Tensor:
        """Return the experts' weighted sum (T, I) float32 for normed rows x (T, I) float32, equal on all ranks."""
        share = split(x.shape[0], self._group.size, self._group.rank)
        mine = x[share.start : share.stop]
        weights, chosen = self._routing.choose(mine)
        outputs = self._outputs(mine, chosen, share.start)
        summed = (outputs * weights[..., None]).sum(1)
        if self._group.size > 1:
            # The choices travel beside the outputs, so that every rank counts the tokens of all of them.
            both = torch.cat([summed, chosen.float()], dim=1)
            both = self._group.join_rows(both, [len(part) for part in self._shares(x.shape[0])])
            summed, chosen = both[:, : x.shape[1]], both[:, x.shape[1] :].long()
        self.tokens += torch.bincount(chosen.flatten(), minlength=len(self.places)).cpu()
        self._step()
        return summed

    def _shares(self, total: int) -> list[range]:
        return [split(total, self._group.size, rank) for rank in range(self._group.size)]

    def _outputs(self, x: Tensor, chosen: Tensor, first: int) -> Tensor:
        """Return the outputs (T, C, I) of each token's experts."""
        experts = chosen.flatten()
        rows = x.repeat_interleave(self._routing.count, dim=0)
        if self._group.size == 1:
            return self._through(rows, experts).view(*chosen.shape, x.shape[1])
        to = self._destinations(experts, first)
        order = to.argsort(stable=True)
        counts = torch.bincount(to, minlength=self._group.size)
        theirs = self._group.exchange_counts(counts)
        sizes, their_sizes = counts.tolist(), theirs.tolist()
        arrived = self._group.exchange(rows[order], sizes, their_sizes)
        wanted = self._group.exchange(experts[order], sizes, their_sizes)
        back = self._group.exchange(self._through(arrived, wanted), their_sizes, sizes)
        outputs = torch.empty_like(back)
        outputs[order] = back
        return outputs.view(*chosen.shape, x.shape[1])

    def _destinations(self, experts: Tensor, first: int) -> Tensor:
        """Return the rank of each row: copies of an expert take turns by the token's place in the step."""
        copies = max(len(place) for place in self.places)
        table = torch.tensor([[place[turn % len(place)] for turn in range(copies)] for place in self.places])
        sizes = torch.tensor([len(place) for place in self.places])
        tokens = torch.arange(experts.shape[0]) // self._routing.count + first
        ids = experts.cpu()
        return table[ids, tokens % sizes[ids]].to(experts.device)

    def _through(self, rows: Tensor, experts: Tensor) -> Tensor:
        """Return the output of each row's expert, all of which are held here."""
        outputs = torch.empty_like(rows)
        for number in sorted(set(experts.tolist())):
            at = (experts == number).nonzero().flatten()
            outputs[at] = self._held[number].compute(self._backend, rows[at])
        return outputs

    def _step(self) -> None:
        self._steps += 1
        if self._group.size > 1 and self._rebalance_steps and self._steps % self._rebalance_steps == 0:
            self.rebalance((self.tokens - self._rebalanced).tolist())
            self._rebalanced = self.tokens.clone()

    def rebalance(self, tokens: Sequence[int]) -> None:
        """Copy the experts that had the most tokens to ranks with room; every rank is told the same numbers."""
        self.places = replicate(tokens, self._homes, self._group.size, SPARES)
        wanted = {number for number, place in enumerate(self.places) if self._group.rank in place}
        for number in set(self._held) - wanted:
            del self._held[number]
        for number in sorted(wanted - set(self._held)):
            self._held[number] = self._load(number)
        logger.debug("experts have moved", extra={"copies": sum(len(place) - 1 for place in self.places)})
