"""The prefix index: which worker has prefilled which beginnings of texts lately (pure).

A text is cut into chunks of a fixed size; each chunk's hash is seeded with the hash before it, so equal hashes mean
equal beginnings. Without a tokenizer this is as near as a router comes to the workers' own block hashes.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from xxhash import xxh64_intdigest

CHUNK_BYTES = 256
"""About 64 tokens: four KV blocks on CPU, and 4 us of hashing for 4 KiB of text."""
MAX_CHUNKS = 4096
"""Text beyond 1 MiB is not indexed; by then the shared beginning has long decided."""


def chain(text: bytes, salt: str) -> tuple[int, ...]:
    """Return the hashes of the whole chunks of `text`, each covering everything before it; salted by the model."""
    digest = xxh64_intdigest(salt.encode())
    view = memoryview(text)
    end = min(len(text) // CHUNK_BYTES, MAX_CHUNKS) * CHUNK_BYTES
    hashes = []
    for start in range(0, end, CHUNK_BYTES):
        digest = xxh64_intdigest(view[start : start + CHUNK_BYTES], digest)
        hashes.append(digest)
    return tuple(hashes)


class PrefixIndex:
    """Remembers who holds which chunks, at most `max_entries` chunks, the least recently used forgotten first."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._holders: OrderedDict[int, set[int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._holders)

    def record(self, hashes: Sequence[int], holder: int) -> None:
        """Note that `holder` now has the text behind `hashes`.

        Entries are refreshed from the longest to the shortest, so a beginning always outlives what continues it.
        """
        for digest in reversed(hashes):
            holders = self._holders.get(digest)
            if holders is None:
                self._holders[digest] = {holder}
            else:
                holders.add(holder)
                self._holders.move_to_end(digest)
        while len(self._holders) > self._max_entries:
            self._holders.popitem(last=False)

    def hits(self, hashes: Sequence[int]) -> dict[int, int]:
        """Return, for each holder of a beginning of the text, the bytes of the longest one it holds."""
        found: dict[int, int] = {}
        for number in range(len(hashes), 0, -1):
            holders = self._holders.get(hashes[number - 1])
            if holders:
                for holder in holders.difference(found):
                    found[holder] = number * CHUNK_BYTES
        return found

    def forget(self, gone: Iterable[int]) -> None:
        """Drop these holders everywhere; chunks that nobody holds any more go too."""
        lost = set(gone)
        empty = []
        for digest, holders in self._holders.items():
            holders.difference_update(lost)
            if not holders:
                empty.append(digest)
        for digest in empty:
            del self._holders[digest]

    def check(self) -> None:
        """Assert the index's own invariants; for tests and debugging."""
        assert len(self._holders) <= self._max_entries
        assert all(self._holders.values())
        assert all(first != second for first, second in pairwise(self._holders))
