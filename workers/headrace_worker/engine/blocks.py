"""The block pool: which KV blocks are free, cached, in use, granted or in quarantine.

Every block is in exactly one of these states; `check` proves it. A block is cached when nothing refers to it but its
content is known by hash; the least recently used one is evicted when memory is needed. Granted blocks are written by
another process and quarantined ones may still be: neither is ever handed out before it is released by name.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence


def _lose(evicted: Sequence[tuple[int, bytes]]) -> None:
    """Keep nothing of what is evicted."""


class BlockPool:
    """Blocks 0 to capacity - 1.

    Args:
        capacity: number of blocks.
        block_size: tokens in each.
        on_evict: told (block, hash) of cached blocks that are about to be handed out; they are intact until written.
    """

    def __init__(
        self, capacity: int, block_size: int, on_evict: Callable[[Sequence[tuple[int, bytes]]], None] = _lose
    ) -> None:
        self.capacity = capacity
        self.block_size = block_size
        self._on_evict = on_evict
        self._free = list(range(capacity))  # a heap: low numbers first keeps runs of neighbours together
        self._references: dict[int, int] = {}
        self._cached: OrderedDict[int, None] = OrderedDict()
        self._hash_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}
        self._granted: dict[str, list[int]] = {}
        self._quarantined: dict[str, list[int]] = {}

    @property
    def available(self) -> int:
        """Blocks that can be allocated now: free ones and cached ones."""
        return len(self._free) + len(self._cached)

    @property
    def quarantined(self) -> int:
        """Blocks in quarantine."""
        return sum(map(len, self._quarantined.values()))

    def counts(self) -> dict[str, int]:
        """Return the number of blocks in each state; they add up to the capacity."""
        return {
            "free": len(self._free),
            "cached": len(self._cached),
            "active": len(self._references),
            "granted": sum(map(len, self._granted.values())),
            "quarantined": self.quarantined,
        }

    def match(self, hashes: Sequence[bytes]) -> list[int]:
        """Return the blocks of the longest known prefix of `hashes`; they are not acquired."""
        found = []
        for key in hashes:
            block = self._block_of.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def acquire(self, blocks: Iterable[int]) -> None:
        """Refer to blocks that `match` returned."""
        for block in blocks:
            self._cached.pop(block, None)
            self._references[block] = self._references.get(block, 0) + 1

    def allocate(self, count: int) -> list[int] | None:
        """Return `count` empty blocks, evicting cached ones as needed; None when there are too few."""
        taken = self._take(count)
        if taken is not None:
            self._references.update(dict.fromkeys(taken, 1))
        return taken

    def _take(self, count: int) -> list[int] | None:
        if count > self.available:
            return None
        self._evict(count - len(self._free))
        return [heapq.heappop(self._free) for _ in range(count)]

    def _evict(self, count: int) -> None:
        evicted = []
        for _ in range(count):
            block, _ = self._cached.popitem(last=False)
            key = self._hash_of.pop(block)
            del self._block_of[key]
            heapq.heappush(self._free, block)
            evicted.append((block, key))
        if evicted:
            self._on_evict(evicted)

    def empty(self) -> None:
        """Evict everything that is cached."""
        self._evict(len(self._cached))

    def release(self, blocks: Sequence[int]) -> None:
        """Refer to these blocks no longer; the last reference leaves a block cached or free.

        The end of a sequence is evicted before its beginning, which more sequences may share.
        """
        for block in reversed(blocks):
            left = self._references[block] - 1
            if left:
                self._references[block] = left
                continue
            del self._references[block]
            if block in self._hash_of:
                self._cached[block] = None
            else:
                heapq.heappush(self._free, block)

    def register(self, block: int, key: bytes) -> None:
        """Enter a full block into the prefix index; a hash that is known already keeps its older block."""
        assert block in self._references, f"block {block} is registered but nobody holds it"
        if key not in self._block_of and block not in self._hash_of:
            self._block_of[key] = block
            self._hash_of[block] = key

    def forget(self, blocks: Iterable[int]) -> None:
        """Take blocks out of the prefix index: what they hold cannot be trusted."""
        for block in blocks:
            key = self._hash_of.pop(block, None)
            if key is None:
                continue
            del self._block_of[key]
            if block in self._cached:
                del self._cached[block]
                heapq.heappush(self._free, block)

    def grant(self, attempt: str, count: int) -> list[int] | None:
        """Pin `count` fresh blocks for writes of another process under `attempt`; None when there are too few."""
        assert attempt not in self._granted, f"attempt {attempt} was granted twice"
        assert attempt not in self._quarantined, f"attempt {attempt} is in quarantine"
        taken = self._take(count)
        if taken is not None:
            self._granted[attempt] = taken
        return None if taken is None else list(taken)

    def admit(self, attempt: str) -> list[int]:
        """Turn granted blocks, all written, into blocks held by the caller, with one reference each."""
        blocks = self._granted.pop(attempt)
        self._references.update(dict.fromkeys(blocks, 1))
        return blocks

    def quarantine(self, attempt: str) -> None:
        """Set granted blocks aside: the writer fell silent and may still write."""
        self._quarantined[attempt] = self._granted.pop(attempt)

    def clear(self, attempt: str) -> int:
        """Free the attempt's granted or quarantined blocks: no write can come any more. Returns how many."""
        blocks = self._quarantined.pop(attempt, None) or self._granted.pop(attempt, None) or []
        for block in blocks:
            heapq.heappush(self._free, block)
        return len(blocks)

    def check(self) -> None:
        """Prove that every block is in exactly one state and that the index agrees; raise AssertionError if not."""
        outside = [b for group in (self._granted, self._quarantined) for blocks in group.values() for b in blocks]
        everywhere = sorted([*self._free, *self._cached, *self._references, *outside])
        assert everywhere == list(range(self.capacity)), f"blocks do not add up: {self.counts()} of {self.capacity}"
        assert {block: key for key, block in self._block_of.items()} == self._hash_of
        assert set(self._cached) <= set(self._hash_of)
        assert not set(self._hash_of) & {*self._free, *outside}
