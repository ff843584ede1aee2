"""The tier in host memory: which slot holds which block, least recently used first (pure)."""

from collections import OrderedDict
from collections.abc import Iterator


class MemoryTier:
    """Slots 0 to capacity - 1, each with room for one block.

    A key is held (its slot can be read) or filling (its slot is being read from disk). Pinned keys keep their slots.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free = list(range(capacity))  # the end goes first: blocks are evicted from their end, too
        self._held: OrderedDict[bytes, int] = OrderedDict()
        self._filling: dict[bytes, int] = {}
        self._pins: dict[bytes, int] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._held

    def __len__(self) -> int:
        return len(self._held)

    @property
    def free(self) -> int:
        """Slots that hold nothing."""
        return len(self._free)

    @property
    def pinned(self) -> int:
        """Slots that cannot be taken: pinned ones and those being filled."""
        return len(self._pins.keys() | self._filling.keys())

    @property
    def num_filling(self) -> int:
        """Slots that are being filled."""
        return len(self._filling)

    def slot(self, key: bytes) -> int:
        """Return the slot of a held or filling key."""
        return self._held[key] if key in self._held else self._filling[key]

    def filling(self, key: bytes) -> bool:
        """Return whether the key is on its way from disk."""
        return key in self._filling

    def touch(self, key: bytes) -> None:
        """Make a held key the most recently used one."""
        self._held.move_to_end(key)

    def victim(self) -> bytes | None:
        """Return the key whose slot is the next to be taken; None: a slot is free, or all are pinned."""
        if self._free:
            return None
        return next((key for key in self._held if key not in self._pins), None)

    def oldest(self) -> Iterator[bytes]:
        """Yield held keys, the least recently used first."""
        return iter(self._held)

    def forget(self, key: bytes) -> None:
        """Give the slot of a held key back."""
        assert key not in self._pins, "a pinned key is forgotten"
        self._free.append(self._held.pop(key))

    def hold(self, key: bytes) -> int | None:
        """Take a free slot for a key that can be read at once; None without one."""
        slot = self._take(key)
        if slot is not None:
            self._held[key] = slot
        return slot

    def fill(self, key: bytes) -> int | None:
        """Take a free slot for a key that is read from disk; None without one."""
        slot = self._take(key)
        if slot is not None:
            self._filling[key] = slot
        return slot

    def _take(self, key: bytes) -> int | None:
        assert key not in self._held, "a key has two slots"
        assert key not in self._filling, "a key has two slots"
        return self._free.pop() if self._free else None

    def filled(self, key: bytes, *, good: bool) -> None:
        """End the filling of a slot: it holds its block now, or it is free again and nobody's pin counts."""
        slot = self._filling.pop(key)
        if good:
            self._held[key] = slot
        else:
            self._pins.pop(key, None)
            self._free.append(slot)

    def pin(self, key: bytes) -> None:
        """Keep a held or filling key where it is until it is unpinned as often."""
        assert key in self._held or key in self._filling, "a key without a slot is pinned"
        self._pins[key] = self._pins.get(key, 0) + 1

    def unpin(self, key: bytes) -> None:
        """Take one pin back; a key that was lost since has none."""
        left = self._pins.get(key, 0) - 1
        if left > 0:
            self._pins[key] = left
        else:
            self._pins.pop(key, None)

    def pins(self, key: bytes) -> int:
        """Return how often a key is pinned."""
        return self._pins.get(key, 0)

    def check(self) -> None:
        """Prove that every slot is in exactly one state; raise AssertionError if not."""
        slots = sorted([*self._free, *self._held.values(), *self._filling.values()])
        assert slots == list(range(self.capacity)), "slots do not add up"
        assert not self._held.keys() & self._filling.keys()
        assert self._pins.keys() <= self._held.keys() | self._filling.keys()
        assert all(count > 0 for count in self._pins.values())
