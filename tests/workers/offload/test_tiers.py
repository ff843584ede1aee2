"""The books of the tiers, driven at random against a model that holds real contents."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headrace_worker.offload.tiers import Load, Move, Save, Tiers

KEYS = [bytes([number]) * 16 for number in range(14)]
CHAIN = st.integers(0, 9).flatmap(lambda start: st.integers(1, 4).map(lambda count: KEYS[start : start + count]))
BLOCKS = 8


class Machine(RuleBasedStateMachine):
    """Blocks, slots and files hold the key they should hold; the disk may fail and files may rot."""

    def __init__(self) -> None:
        super().__init__()
        self.tiers: Tiers = Tiers(6, 5)
        self.device: dict[int, bytes] = {}
        self.slots: dict[int, bytes] = {}
        self.files: dict[bytes, bytes] = {}
        self.reading: list[Move] = []
        self.writing: list[Move] = []
        self.owners: dict[int, list[bytes]] = {}
        self.waiting: set[int] = set()
        self.serial = 0

    def flush(self) -> None:
        """Do what the engine does before a step."""
        for copy in self.tiers.copies:
            if isinstance(copy, Save):
                self.slots[copy.slot] = self.device[copy.block]
            else:
                self.device[copy.block] = self.slots[copy.slot]
        self.tiers.copies.clear()
        writes = self.tiers.spills()
        for key in self.tiers.deletes:
            self.files.pop(key, None)
        self.tiers.deletes.clear()
        self.reading += self.tiers.reads
        self.tiers.reads.clear()
        self.writing += writes

    @rule(first=st.integers(0, BLOCKS - 1), keys=CHAIN)
    def evict(self, first: int, keys: list[bytes]) -> None:
        blocks = [(first + number) % BLOCKS for number in range(len(keys))]
        for block, key in zip(blocks, keys, strict=True):
            self.device[block] = key
        self.tiers.put(list(zip(blocks, keys, strict=True)))
        self.flush()

    @rule(keys=CHAIN, starts=st.booleans())
    def look(self, *, keys: list[bytes], starts: bool) -> None:
        self.serial += 1
        self.seek(self.serial, keys, starts=starts)

    def seek(self, owner: int, keys: list[bytes], *, starts: bool) -> None:
        known = self.tiers.known(keys)
        found = self.tiers.look(owner, keys)
        if found is None:
            assert owner not in self.waiting, "an owner waits twice"
            self.owners[owner] = keys
            self.waiting.add(owner)
        elif starts:
            assert found <= known
            blocks = list(range(found))
            self.tiers.load(owner, keys, blocks)
            self.flush()
            assert [self.device[block] for block in blocks] == keys[:found], "a block has the wrong content"
        else:
            self.tiers.drop(owner)
        self.flush()

    @rule(data=st.data(), good=st.booleans())
    def read(self, *, data: Any, good: bool) -> None:
        if not self.reading:
            return
        move = self.reading.pop(data.draw(st.integers(0, len(self.reading) - 1)))
        content = self.files.get(move.key)
        if good and content is not None:
            self.slots[move.slot] = content
        self.tiers.was_read(move.key, good=good and content is not None)
        self.flush()
        for owner in self.tiers.ready():
            assert isinstance(owner, int)
            self.seek(owner, self.owners.pop(owner), starts=data.draw(st.booleans()))
            self.waiting.discard(owner)

    @rule(data=st.data(), good=st.booleans())
    def write(self, *, data: Any, good: bool) -> None:
        if not self.writing:
            return
        move = self.writing.pop(data.draw(st.integers(0, len(self.writing) - 1)))
        if good:
            assert self.slots[move.slot] == move.key, "a slot changed while it was written"
            self.files[move.key] = self.slots[move.slot]
        self.tiers.written(move.key, good=good)
        self.flush()

    @rule(data=st.data(), gives_up=st.booleans())
    def leave(self, *, data: Any, gives_up: bool) -> None:
        if not self.waiting:
            return
        owner = data.draw(st.sampled_from(sorted(self.waiting)))
        self.waiting.remove(owner)
        keys = self.owners.pop(owner)
        if gives_up:
            self.tiers.give_up(owner)
            assert self.tiers.ready() == [owner]
            self.seek(owner, keys, starts=True)
        else:
            self.tiers.drop(owner)

    @rule(keys=CHAIN)
    def restart(self, keys: list[bytes]) -> None:
        """Take in files of an earlier process while this one runs already."""
        fresh = [key for key in keys if key not in self.files and not self.tiers.disk.writing(key)]
        self.files |= {key: key for key in fresh}
        self.tiers.found(fresh)
        self.flush()

    @invariant()
    def books_agree(self) -> None:
        self.tiers.check()
        assert set(self.tiers.waiting()) == self.waiting
        assert all(key in self.files for key in KEYS if key in self.tiers.disk)
        assert len(self.files) <= 5
        for key in self.tiers.memory.oldest():
            assert self.slots[self.tiers.memory.slot(key)] == key


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def filled(tiers: Tiers, keys: list[bytes]) -> None:
    tiers.put([(number, key) for number, key in enumerate(keys)])
    tiers.copies.clear()


def test_what_was_evicted_is_found_and_loaded() -> None:
    tiers = Tiers(4, 0)
    filled(tiers, KEYS[:3])
    assert tiers.look(1, KEYS[:4]) == 3
    tiers.load(1, KEYS[:4], [7, 8, 9])
    assert sorted(copy.block for copy in tiers.copies if isinstance(copy, Load)) == [7, 8, 9]
    assert (tiers.in_memory.hits, tiers.in_memory.misses) == (3, 1)


def test_the_least_recently_used_block_loses_its_slot() -> None:
    tiers = Tiers(3, 0)
    filled(tiers, KEYS[:3])
    tiers.look(1, KEYS[:1])
    tiers.load(1, KEYS[:1], [0])
    filled(tiers, KEYS[3:4])
    assert [key in tiers.memory for key in KEYS[:4]] == [True, False, True, True]
    assert tiers.in_memory.dropped == 1


def test_a_beginning_outlives_what_continues_it() -> None:
    tiers = Tiers(3, 0)
    filled(tiers, KEYS[:3])
    tiers.look(1, KEYS[:3])
    tiers.load(1, KEYS[:3], [0, 1, 2])
    filled(tiers, KEYS[5:7])
    assert [key in tiers.memory for key in KEYS[:3]] == [True, False, False]


def test_what_was_found_stays_until_it_is_loaded_whatever_is_evicted() -> None:
    tiers = Tiers(3, 0)
    filled(tiers, KEYS[:2])
    assert tiers.look(1, KEYS[:2]) == 2
    filled(tiers, KEYS[4:9])
    tiers.load(1, KEYS[:2], [5, 6])
    assert len(tiers.copies) == 2


def on_disk(tiers: Tiers, keys: list[bytes]) -> None:
    """Have only the disk hold these keys."""
    tiers.found(keys)


def test_a_prompt_waits_for_the_disk_and_then_finds_its_blocks_in_memory() -> None:
    tiers = Tiers(8, 8)
    on_disk(tiers, KEYS[:3])
    assert tiers.look(1, KEYS[:3]) is None
    assert [move.key for move in tiers.reads] == KEYS[:3]
    for key in KEYS[:3]:
        assert tiers.ready() == []
        tiers.was_read(key, good=True)
    assert tiers.ready() == [1]
    assert tiers.look(1, KEYS[:3]) == 3


def test_two_prompts_that_wait_for_one_block_read_it_once() -> None:
    tiers = Tiers(8, 8)
    on_disk(tiers, KEYS[:1])
    assert (tiers.look(1, KEYS[:1]), tiers.look(2, KEYS[:1])) == (None, None)
    assert len(tiers.reads) == 1
    tiers.was_read(KEYS[0], good=True)
    assert tiers.ready() == [1, 2]


def test_a_corrupt_file_is_counted_and_forgotten_and_its_prompt_goes_on_without_it() -> None:
    tiers = Tiers(8, 8)
    on_disk(tiers, KEYS[:2])
    tiers.look(1, KEYS[:2])
    tiers.was_read(KEYS[0], good=True)
    tiers.was_read(KEYS[1], good=False)
    assert tiers.ready() == [1]
    assert tiers.look(1, KEYS[:2]) == 1
    assert tiers.on_disk.corrupt == 1
    assert tiers.deletes == [KEYS[1]]
    assert tiers.known(KEYS[:2]) == 1


def test_the_next_victims_are_written_ahead_and_lose_nothing_when_their_slots_go() -> None:
    tiers = Tiers(8, 8)
    filled(tiers, KEYS[:8])
    moves = tiers.spills()
    assert [move.key for move in moves] == KEYS[:4]
    for key in KEYS[:4]:
        tiers.written(key, good=True)
    filled(tiers, KEYS[8:9])
    assert KEYS[0] not in tiers.memory
    assert tiers.known(KEYS[:1]) == 1
    assert tiers.in_memory.dropped == 0


def test_an_ending_worker_writes_the_newest_blocks_that_the_disk_has_room_for() -> None:
    tiers = Tiers(8, 3)
    filled(tiers, KEYS[:8])
    assert [move.key for move in tiers.spills(everything=True)] == KEYS[5:8]
    for key in KEYS[5:8]:
        tiers.written(key, good=True)
    assert tiers.spills(everything=True) == []


def test_a_disk_that_is_full_before_its_budget_goes_on_with_what_it_has() -> None:
    tiers = Tiers(4, 100)
    on_disk(tiers, KEYS[:2])
    filled(tiers, KEYS[4:8])
    for move in tiers.spills():
        tiers.written(move.key, good=False)
    tiers.spills()
    assert tiers.deletes == KEYS[:2], "the next writes take the places of the oldest files"
    assert tiers.on_disk.failed == 2


def test_loads_that_do_not_pay_are_not_done() -> None:
    tiers = Tiers(4, 4, lambda _memory, _disk, _queued: False)
    filled(tiers, KEYS[:2])
    on_disk(tiers, KEYS[2:4])
    assert tiers.look(1, KEYS[:4]) == 0
    assert tiers.reads == []


@pytest.mark.parametrize("capacity", [0, 1])
def test_a_budget_of_nothing_keeps_nothing(capacity: int) -> None:
    tiers = Tiers(capacity, 0)
    filled(tiers, KEYS[:3])
    assert tiers.known(KEYS[2:3]) == capacity
    assert tiers.spills() == []
    tiers.check()
