"""The books of both tiers: what is kept, what is loaded, what moves from memory to disk and back (pure).

Every decision is made here at once and written into journals; copies between device and memory are done in the
journal's order before the next step, files are read and written after those copies, on another thread.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from typing_extensions import override

from headrace_worker.offload.cold import Cold, Owner
from headrace_worker.offload.disk import DiskTier
from headrace_worker.offload.memory import MemoryTier

_SPILLS = 32
"""Most files in flight at a time: what is spilled is pinned, and a crowd of writes delays reads."""
_CLEAN_SHARE = 2
"""The older half of the memory tier is written ahead: a long prompt takes many slots at once, and waits for no disk."""


@dataclass(frozen=True, slots=True)
class Save:
    """Copy a block of the device into a slot."""

    block: int
    slot: int


@dataclass(frozen=True, slots=True)
class Load:
    """Copy a slot into a block of the device."""

    slot: int
    block: int


@dataclass(frozen=True, slots=True)
class Move:
    """A block between a slot and its file."""

    key: bytes
    slot: int


@dataclass(slots=True)
class Hold:
    """What one owner waits for or is about to load."""

    keys: list[bytes] = field(default_factory=list)
    """Pinned ones."""
    pending: set[bytes] = field(default_factory=set)
    """Those among them that are being read."""
    fetched: int = 0
    """How many of them were read from disk for it."""
    waited: bool = False
    """It has waited for reads once and will not again."""


@dataclass(slots=True)
class Counts:
    """Blocks since the start, in one tier."""

    hits: int = 0
    """Looked for and loaded; on disk: read."""
    misses: int = 0
    """Looked for and not there."""
    stored: int = 0
    dropped: int = 0
    """Wanted in, or thrown out, and in no tier below."""
    corrupt: int = 0
    """Files that were not what they should be."""
    failed: int = 0
    """Files that could not be written."""


def always(memory: int, disk: int, queued: int) -> bool:  # noqa: ARG001
    """Load whatever is there."""
    return True


class Tiers(Cold):
    """Host memory, and disk below it.

    Args:
        memory: slots.
        disk: files; 0 is no disk.
        pays: called with blocks in memory, blocks on disk, and blocks that are read before these.
    """

    def __init__(self, memory: int, disk: int, pays: Callable[[int, int, int], bool] = always) -> None:
        self.memory = MemoryTier(memory)
        self.disk = DiskTier(disk)
        self.in_memory = Counts()
        self.on_disk = Counts()
        self.copies: list[Save | Load] = []
        """To be done in this order before the next step."""
        self.reads: list[Move] = []
        self.deletes: list[bytes] = []
        self.scanned = False
        """Whether the files of an earlier process are known."""
        self._pays = pays
        self._holds: dict[Owner, Hold] = {}
        self._ready: list[Owner] = []
        self._clean_slots = max(1, memory // _CLEAN_SHARE)

    # --- what leaves the device --------------------------------------------------------------------------------------

    @override
    def put(self, evicted: Sequence[tuple[int, bytes]]) -> None:
        for block, key in evicted:
            if key in self.memory:
                self.memory.touch(key)
            elif not self.memory.filling(key):
                self._make_room()
                slot = self.memory.hold(key)
                if slot is None:
                    self._lose(key)
                    continue
                self.in_memory.stored += 1
                self.copies.append(Save(block, slot))

    def _make_room(self) -> bool:
        """Free the slot of the least recently used block if none is free; False: all are pinned."""
        victim = self.memory.victim()
        if victim is not None:
            self.memory.forget(victim)
            self._lose(victim)
        return self.memory.free > 0

    def _lose(self, key: bytes) -> None:
        if key not in self.disk:
            self.in_memory.dropped += 1

    # --- what comes back ---------------------------------------------------------------------------------------------

    @override
    def known(self, keys: Sequence[bytes]) -> int:
        return _leading(keys, lambda key: key in self.memory or key in self.disk)

    @override
    def look(self, owner: Owner, keys: Sequence[bytes]) -> int | None:
        hold = self._holds.pop(owner, None) or Hold()
        self._unpin(hold.keys)
        ready = _leading(keys, self.memory.__contains__)
        if not hold.waited and (known := self._worth(keys, ready)) > ready:
            waiting = self._fetch(keys[:known])
            if waiting.pending:
                self._holds[owner] = waiting
                return None
        return self._keep(owner, keys, hold)

    @override
    def look_at_memory(self, owner: Owner, keys: Sequence[bytes]) -> int:
        hold = self._holds.pop(owner, None) or Hold()
        self._unpin(hold.keys)
        return self._keep(owner, keys, hold)

    def _keep(self, owner: Owner, keys: Sequence[bytes], hold: Hold) -> int:
        """Pin what can be loaded now, when that pays."""
        ready = _leading(keys, self.memory.__contains__)
        if ready and not self._pays(ready, 0, 0):
            ready = 0
        kept = Hold(list(keys[:ready]), fetched=hold.fetched, waited=hold.waited)
        for key in kept.keys:
            self.memory.pin(key)
        if kept.keys or kept.waited:
            self._holds[owner] = kept
        return ready

    def _worth(self, keys: Sequence[bytes], ready: int) -> int:
        """Return how many of the first keys to wait for: all that are known, or those in memory."""
        known = _leading(keys, lambda key: key in self.memory or key in self.disk or self.memory.filling(key))
        on_disk = sum(key not in self.memory for key in keys[:known])
        if not on_disk or not self._pays(known - on_disk, on_disk, self.memory.num_filling):
            return ready
        return known

    def _fetch(self, keys: Sequence[bytes]) -> Hold:
        """Pin what is in memory and start to read the rest, as far as there are slots; a quarter stays unpinned."""
        hold = Hold(waited=True)
        here = [key for key in keys if key in self.memory or self.memory.filling(key)]
        for key in here:
            self.memory.pin(key)  # all of them before any slot is taken
        reached = _leading(keys, lambda key: self._reach(key, hold))
        hold.keys = list(keys[:reached])
        self._unpin(here if not hold.pending else [key for key in here if key not in hold.keys])
        return hold

    def _reach(self, key: bytes, hold: Hold) -> bool:
        """Have the block in memory, or on its way there; False where there is no slot for it."""
        if key not in self.memory and not self.memory.filling(key):
            if self.memory.pinned >= self.memory.capacity - self.memory.capacity // 4 or not self._make_room():
                return False
            slot = self.memory.fill(key)
            assert slot is not None, "there was room"
            self.memory.pin(key)
            self.disk.read(key)
            self.reads.append(Move(key, slot))
            hold.fetched += 1
        if self.memory.filling(key):
            hold.pending.add(key)
        return True

    @override
    def load(self, owner: Owner, keys: Sequence[bytes], blocks: Sequence[int]) -> None:
        hold = self._holds.get(owner) or Hold()
        found = keys[: len(blocks)]
        for key, block in zip(reversed(found), reversed(blocks), strict=True):
            self.memory.touch(key)  # the beginning last, so that it outlives what continues it
            self.copies.append(Load(self.memory.slot(key), block))
        fetched, missing = min(hold.fetched, len(found)), len(keys) - len(found)
        self.in_memory.hits += len(found) - fetched
        self.in_memory.misses += missing + fetched
        self.on_disk.misses += missing if self.disk.budget else 0
        self.drop(owner)

    @override
    def drop(self, owner: Owner) -> None:
        hold = self._holds.pop(owner, None)
        if hold is not None:
            self._unpin(hold.keys)

    def _unpin(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self.memory.unpin(key)

    # --- what the disk did -------------------------------------------------------------------------------------------

    def was_read(self, key: bytes, *, good: bool) -> None:
        """End a read: the block is in memory now, or its file is corrupt and forgotten."""
        self.disk.was_read(key, good=good)
        self.memory.filled(key, good=good)
        if good:
            self.on_disk.hits += 1
        else:
            self.on_disk.corrupt += 1
            self.deletes.append(key)
        for owner, hold in self._holds.items():
            if not good and key in hold.keys:
                hold.keys.remove(key)
            if key in hold.pending:
                hold.pending.remove(key)
                if not hold.pending:
                    self._ready.append(owner)

    def waiting(self) -> list[Owner]:
        """Return owners that wait for reads."""
        return [owner for owner, hold in self._holds.items() if hold.pending]

    def give_up(self, owner: Owner) -> None:
        """Let an owner wait no longer; what is still read for it ends up in memory all the same."""
        hold = self._holds[owner]
        hold.pending.clear()
        self._ready.append(owner)

    def ready(self) -> list[Owner]:
        """Return owners whose reads have ended since the last call: they may look again."""
        done = [owner for owner in self._ready if owner in self._holds]
        self._ready.clear()
        return done

    def spills(self, *, everything: bool = False) -> list[Move]:
        """Return what is to be written now: the oldest blocks that have no file, or all of them."""
        if not self.disk.budget:
            return []
        moves: list[Move] = []
        for key in self._all() if everything else self._oldest():
            if self.disk.in_flight >= _SPILLS:
                break
            if key in self.disk or self.disk.writing(key):
                continue
            gone = self.disk.begin(key)
            if gone is None:
                break
            self.deletes += gone
            self.memory.pin(key)
            moves.append(Move(key, self.memory.slot(key)))
        return moves

    def _oldest(self) -> list[bytes]:
        """Return what is next to lose its slot."""
        return list(islice(self.memory.oldest(), max(0, self._clean_slots - self.memory.free)))

    def _all(self) -> list[bytes]:
        """Return what is in memory as far as the disk has room for it, the newest; none of it goes for another."""
        newest = list(self.memory.oldest())[-self.disk.budget :]
        for key in newest:
            if key in self.disk:
                self.disk.touch(key)
        return newest

    def written(self, key: bytes, *, good: bool) -> None:
        """End a spill."""
        self.memory.unpin(key)
        self.disk.written(key, good=good)
        if good:
            self.on_disk.stored += 1
        else:
            self.on_disk.failed += 1

    def found(self, keys: Iterable[bytes]) -> None:
        """Take in files of an earlier process, the oldest first."""
        self.deletes += self.disk.found(keys)
        self.scanned = True

    def check(self) -> None:
        """Prove that the books agree; raise AssertionError if not."""
        self.memory.check()
        self.disk.check()
        for hold in self._holds.values():
            assert all(self.memory.pins(key) for key in hold.keys)


def _leading(keys: Sequence[bytes], holds: Callable[[bytes], bool]) -> int:
    """Return how many of the first keys hold."""
    return next((number for number, key in enumerate(keys) if not holds(key)), len(keys))
