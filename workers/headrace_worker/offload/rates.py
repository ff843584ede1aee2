"""Whether loading blocks pays beside computing them: measured rates, smoothed (pure)."""

from dataclasses import dataclass

_WEIGHT = 0.2
"""Of a new measurement; old ones fade with a half-life of three."""
_TRY_EVERY = 16
"""So many refusals in a row, and the next load is done all the same: a rate that is never used is never corrected."""


@dataclass(slots=True)
class Rates:
    """Seconds for each block by ways to get it; None: not measured yet.

    Args:
        always: loads pay whatever was measured.
    """

    always: bool = False
    compute_s: float | None = None
    memory_s: float | None = None
    disk_s: float | None = None
    refused: int = 0
    """Loads in a row that did not pay."""

    def computed(self, seconds: float, blocks: float) -> None:
        """Note what computing took."""
        self.compute_s = _mean(self.compute_s, seconds, blocks)

    def copied(self, seconds: float, blocks: float) -> None:
        """Note what copies from memory to the device took."""
        self.memory_s = _mean(self.memory_s, seconds, blocks)

    def read(self, seconds: float, blocks: float) -> None:
        """Note what reads from disk into memory took."""
        self.disk_s = _mean(self.disk_s, seconds, blocks)

    def pays(self, memory: int, disk: int, queued: int) -> bool:
        """Return whether to load blocks from these tiers rather than to compute them.

        Args:
            memory: blocks in memory.
            disk: blocks on disk, which are copied from memory once they are read.
            queued: blocks that are read before these.
        """
        if self.always or self.compute_s is None:
            return True
        load_s = (memory + disk) * (self.memory_s or 0.0)
        if disk:
            load_s += (disk + queued) * (self.disk_s or 0.0)
        pays = load_s <= (memory + disk) * self.compute_s or self.refused >= _TRY_EVERY
        self.refused = 0 if pays else self.refused + 1
        return pays


def _mean(before: float | None, seconds: float, blocks: float) -> float | None:
    if blocks <= 0:
        return before
    new = seconds / blocks
    return new if before is None else before + _WEIGHT * (new - before)
