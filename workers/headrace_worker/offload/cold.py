"""What a scheduler asks of the tiers below the device; a worker without them keeps nothing there.

Pure: `tiers` answers from its books, and what has to be copied or read waits in a journal until somebody does it.
"""

from collections.abc import Sequence

Owner = int | str
"""Whoever looks for blocks: the arrival of a sequence, or the name of an attempt."""


class Cold:
    """No tiers: every lookup misses and what is evicted is lost."""

    def put(self, evicted: Sequence[tuple[int, bytes]]) -> None:
        """Take note of (block, hash) that are evicted from the device; the blocks are intact until the next step."""

    def known(self, keys: Sequence[bytes]) -> int:  # noqa: ARG002
        """Return how many of the first `keys` lie in some tier."""
        return 0

    def look(self, owner: Owner, keys: Sequence[bytes]) -> int | None:  # noqa: ARG002
        """Return how many of the first `keys` can be loaded now; they stay until `load` or `drop`.

        None: some are being read from disk, and waiting for them pays; the owner is told when it may look again.
        """
        return 0

    def look_at_memory(self, owner: Owner, keys: Sequence[bytes]) -> int:  # noqa: ARG002
        """Do the same without a wait."""
        return 0

    def load(self, owner: Owner, keys: Sequence[bytes], blocks: Sequence[int]) -> None:
        """Copy the first keys, which `look` found, into these blocks of the device before the next step.

        An owner that starts says this once, with all keys it wanted and no block where nothing was found.
        """

    def drop(self, owner: Owner) -> None:
        """Forget an owner that has ended before it could start."""
