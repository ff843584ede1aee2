"""The tier on disk: which blocks have a file, least recently used first (pure)."""

from collections import OrderedDict
from collections.abc import Iterable


class DiskTier:
    """At most `budget` files, one for each block.

    A disk that is full before the budget is spent lowers the bound; each write that succeeds raises it by one again.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._bound = budget
        self._held: OrderedDict[bytes, None] = OrderedDict()
        self._writing: set[bytes] = set()
        self._reading: set[bytes] = set()

    def __contains__(self, key: bytes) -> bool:
        return key in self._held

    def __len__(self) -> int:
        return len(self._held)

    @property
    def in_flight(self) -> int:
        """Files that are being written."""
        return len(self._writing)

    def writing(self, key: bytes) -> bool:
        """Return whether the key's file is being written."""
        return key in self._writing

    def touch(self, key: bytes) -> None:
        """Make a key with a file the most recently used one."""
        self._held.move_to_end(key)

    def begin(self, key: bytes) -> list[bytes] | None:
        """Start to write a file; return the keys whose files must be deleted for it. None: there is no room."""
        assert key not in self._held, "a key has two files"
        assert key not in self._writing, "a key has two files"
        gone = self._make_room(1)
        if gone is not None:
            self._writing.add(key)
        return gone

    def _make_room(self, count: int) -> list[bytes] | None:
        over = len(self._held) + len(self._writing) + count - self._bound
        if over <= 0:
            return []
        idle = [key for key, _ in zip(self._idle(), range(over), strict=False)]
        if len(idle) < over:
            return None
        for key in idle:
            del self._held[key]
        return idle

    def _idle(self) -> Iterable[bytes]:
        return (key for key in self._held if key not in self._reading)

    def written(self, key: bytes, *, good: bool) -> None:
        """End the writing of a file, which is there now or not at all."""
        self._writing.remove(key)
        if good:
            self._held[key] = None
            self._bound = min(self.budget, self._bound + 1)
        else:
            self._bound = max(min(1, self.budget), min(self._bound, len(self._held)))

    def read(self, key: bytes) -> None:
        """Start to read a file; it stays until the read has ended."""
        assert key in self._held, "a key without a file is read"
        assert key not in self._reading, "a file is read twice at a time"
        self._reading.add(key)

    def was_read(self, key: bytes, *, good: bool) -> None:
        """End a read; a file that is not what it should be is forgotten."""
        self._reading.remove(key)
        if good:
            self._held.move_to_end(key)
        else:
            del self._held[key]

    def found(self, keys: Iterable[bytes]) -> list[bytes]:
        """Take in files of an earlier process, the oldest first; return those that are too many."""
        fresh = [key for key in keys if key not in self._held and key not in self._writing]
        held = OrderedDict.fromkeys([*fresh, *self._held])
        over = max(0, len(held) + len(self._writing) - self._bound)
        gone = [key for key, _ in zip((key for key in held if key not in self._reading), range(over), strict=False)]
        for key in gone:
            del held[key]
        self._held = held
        return gone

    def check(self) -> None:
        """Prove that the books agree; raise AssertionError if not."""
        assert not self._held.keys() & self._writing
        assert len(self._held) + len(self._writing) <= self.budget
        assert self._reading <= self._held.keys()
