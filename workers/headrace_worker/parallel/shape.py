"""How many ranks a worker has, and which place in the model each of them takes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """Ranks of one worker by dimension; ranks of one stage have neighbouring numbers."""

    tensor: int = 1
    """Ranks that share the heads and the columns of each layer."""
    pipeline: int = 1
    """Stages that share the layers."""
    expert: int = 1
    """Ranks that share the experts of each layer."""

    @property
    def width(self) -> int:
        """Ranks of one stage."""
        return max(self.tensor, self.expert)

    @property
    def size(self) -> int:
        """Ranks of the worker."""
        return self.pipeline * self.width

    def stage_of(self, rank: int) -> int:
        """Return which part of the layers a rank holds."""
        return rank // self.width

    def column_of(self, rank: int) -> int:
        """Return which part of each of its layers a rank holds."""
        return rank % self.width


def split(total: int, parts: int, number: int, unit: int = 1) -> range:
    """Return part `number` of `total` things: neighbours, cut between units, sizes that differ by a unit at most."""
    units = -(-total // unit)
    return range(min(total, units * number // parts * unit), min(total, units * (number + 1) // parts * unit))
