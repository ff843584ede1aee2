"""What happens to one packet on its way: delay, loss, a narrow line, a cut (pure)."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """How bad one direction between two networks is; the default is a good one."""

    delay_s: float = 0.0
    loss: float = 0.0
    """Share of packets that vanish."""
    bytes_per_s: float | None = None
    cut: bool = False
    """Nothing arrives; nobody is told."""


@dataclass(slots=True)
class Lane:
    """One direction between two networks.

    Args:
        dice: of what gets lost.
    """

    dice: random.Random
    fault: Fault = Fault()
    carried: int = 0
    dropped: int = 0
    _free_s: float = 0.0
    """When the last packet will have left a narrow line."""

    def arrival_s(self, size_bytes: int, now_s: float) -> float | None:
        """Return when a packet that is sent now arrives; None for never."""
        fault = self.fault
        if fault.cut or self.dice.random() < fault.loss:
            self.dropped += 1
            return None
        self.carried += 1
        leaves_s = now_s
        if fault.bytes_per_s is not None:
            leaves_s = self._free_s = max(now_s, self._free_s) + size_bytes / fault.bytes_per_s
        return leaves_s + fault.delay_s
