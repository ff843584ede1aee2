import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from headrace_api.names import BLOCK_STATES
from headrace_worker.engine.blocks import BlockPool

CAPACITY = 12
KEYS = st.integers(0, 20).map(lambda number: number.to_bytes(2, "big"))


class BlockPoolMachine(RuleBasedStateMachine):
    """Random lives of blocks against a plain model of who holds what."""

    held = Bundle("held")
    attempts = Bundle("attempts")
    silent = Bundle("silent")

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(CAPACITY, 16)
        self.references: dict[int, int] = {}
        self.outside: dict[str, list[int]] = {}
        """Blocks granted or in quarantine, by attempt."""
        self.content: dict[int, bytes] = {}
        """What a block holds as far as the index may know."""
        self.serial = 0

    def in_use(self) -> set[int]:
        return set(self.references) | {block for blocks in self.outside.values() for block in blocks}

    def took(self, blocks: list[int]) -> None:
        assert not set(blocks) & self.in_use(), "a block was handed out twice"
        assert len(set(blocks)) == len(blocks)
        for block in blocks:
            self.content.pop(block, None)

    @rule(target=held, count=st.integers(0, 5))
    def allocate(self, count: int) -> object:
        available = self.pool.available
        blocks = self.pool.allocate(count)
        assert (blocks is None) == (count > available)
        if blocks is None:
            return multiple()
        self.took(blocks)
        self.references.update(dict.fromkeys(blocks, 1))
        return tuple(blocks)

    @rule(target=held, keys=st.lists(KEYS, max_size=4))
    def match_and_acquire(self, keys: list[bytes]) -> object:
        blocks = self.pool.match(keys)
        assert [self.content[block] for block in blocks] == keys[: len(blocks)]
        unique = tuple(dict.fromkeys(blocks))
        self.pool.acquire(unique)
        for block in unique:
            self.references[block] = self.references.get(block, 0) + 1
        return unique

    @rule(blocks=consumes(held))
    def release(self, blocks: tuple[int, ...]) -> None:
        self.pool.release(blocks)
        for block in blocks:
            self.references[block] -= 1
            if not self.references[block]:
                del self.references[block]

    @rule(blocks=held, key=KEYS)
    def register(self, blocks: tuple[int, ...], key: bytes) -> None:
        known = self.pool.match([key])
        for block in blocks[:1]:
            if block in self.references:
                self.pool.register(block, key)
                if not known and block not in self.content:
                    self.content[block] = key
                assert self.pool.match([key]) == (known or [b for b in (block,) if self.content[b] == key])

    @rule(blocks=held)
    def forget(self, blocks: tuple[int, ...]) -> None:
        keys = [self.content.pop(block) for block in blocks if block in self.content]
        self.pool.forget(blocks)
        assert not any(self.pool.match([key]) for key in keys)

    @rule(target=attempts, count=st.integers(0, 4))
    def grant(self, count: int) -> object:
        self.serial += 1
        attempt, available = f"attempt-{self.serial}", self.pool.available
        blocks = self.pool.grant(attempt, count)
        assert (blocks is None) == (count > available)
        if blocks is None:
            return multiple()
        self.took(blocks)
        self.outside[attempt] = blocks
        return attempt

    @rule(target=held, attempt=consumes(attempts))
    def admit(self, attempt: str) -> object:
        granted = self.outside.pop(attempt)
        assert self.pool.admit(attempt) == granted
        self.references.update(dict.fromkeys(granted, 1))
        return tuple(granted)

    @rule(target=silent, attempt=consumes(attempts))
    def quarantine(self, attempt: str) -> str:
        self.pool.quarantine(attempt)
        return attempt

    @rule(attempt=consumes(attempts) | consumes(silent))
    def clear(self, attempt: str) -> None:
        assert self.pool.clear(attempt) == len(self.outside.pop(attempt))
        assert self.pool.clear(attempt) == 0

    @precondition(lambda self: not self.references and not self.outside)
    @rule()
    def everything_can_be_allocated_when_nothing_is_in_use(self) -> None:
        blocks = self.pool.allocate(CAPACITY)
        assert sorted(blocks or []) == list(range(CAPACITY))
        self.content.clear()
        self.pool.release(range(CAPACITY))

    @invariant()
    def every_block_is_in_one_state(self) -> None:
        self.pool.check()
        counts = self.pool.counts()
        assert tuple(counts) == BLOCK_STATES
        assert sum(counts.values()) == CAPACITY
        assert counts["active"] == len(self.references)
        assert counts["granted"] + counts["quarantined"] == sum(map(len, self.outside.values()))
        assert counts["free"] + counts["cached"] == self.pool.available == CAPACITY - len(self.in_use())


TestBlockPool = BlockPoolMachine.TestCase
TestBlockPool.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@pytest.fixture
def pool() -> BlockPool:
    return BlockPool(4, 16)


def held(pool: BlockPool, keys: list[bytes]) -> list[int]:
    """Return one registered block per key."""
    blocks = pool.allocate(len(keys))
    assert blocks is not None
    for block, key in zip(blocks, keys, strict=True):
        pool.register(block, key)
    return blocks


def test_neighbouring_blocks_are_handed_out_together(pool: BlockPool) -> None:
    assert pool.allocate(3) == [0, 1, 2]


def test_the_least_recently_used_content_is_evicted_first_and_its_end_before_its_beginning(pool: BlockPool) -> None:
    first = held(pool, [b"a", b"b"])
    second = held(pool, [b"c", b"d"])
    pool.release(first)
    pool.release(second)
    pool.acquire(pool.match([b"a", b"b"]))
    pool.release(first)
    pool.allocate(1)
    assert [bool(pool.match([key])) for key in (b"a", b"b", b"c", b"d")] == [True, True, True, False]
    pool.allocate(2)
    assert [bool(pool.match([key])) for key in (b"a", b"b", b"c", b"d")] == [True, False, False, False]


def test_free_blocks_are_taken_before_any_content_is_evicted(pool: BlockPool) -> None:
    pool.release(held(pool, [b"a"]))
    assert pool.allocate(3) == [1, 2, 3]
    assert pool.match([b"a"]) == [0]


def test_a_match_ends_at_the_first_unknown_block(pool: BlockPool) -> None:
    held(pool, [b"a", b"c"])
    assert pool.match([b"a", b"b", b"c"]) == [0]
    assert pool.match([b"b", b"a"]) == []


def test_shared_content_stays_until_the_last_holder_has_released_it(pool: BlockPool) -> None:
    blocks = held(pool, [b"a"])
    pool.acquire(blocks)
    pool.release(blocks)
    assert pool.counts()["active"] == 1
    pool.release(blocks)
    assert pool.counts()["cached"] == 1


def test_two_blocks_of_equal_content_keep_the_older_one_in_the_index(pool: BlockPool) -> None:
    older, newer = held(pool, [b"a"]), held(pool, [b"a"])
    assert pool.match([b"a"]) == older
    pool.release(newer)
    assert pool.counts() == {"free": 3, "cached": 0, "active": 1, "granted": 0, "quarantined": 0}


def test_blocks_in_quarantine_are_never_handed_out(pool: BlockPool) -> None:
    pool.grant("one", 3)
    pool.quarantine("one")
    assert pool.quarantined == 3
    assert pool.allocate(2) is None
    assert pool.grant("two", 2) is None
    assert pool.allocate(1) == [3]
    assert pool.clear("one") == 3
    assert pool.allocate(3) == [0, 1, 2]


def test_an_attempt_is_granted_once(pool: BlockPool) -> None:
    pool.grant("one", 1)
    with pytest.raises(AssertionError, match="granted twice"):
        pool.grant("one", 1)
    pool.quarantine("one")
    with pytest.raises(AssertionError, match="in quarantine"):
        pool.grant("one", 1)


def test_content_is_registered_by_a_holder_only(pool: BlockPool) -> None:
    with pytest.raises(AssertionError, match="nobody holds it"):
        pool.register(0, b"a")


def test_what_is_forgotten_is_found_by_nobody_and_free_once_nobody_holds_it(pool: BlockPool) -> None:
    active, cached = held(pool, [b"active", b"cached"])
    pool.release([cached])
    pool.forget([active, cached, active])
    assert (pool.match([b"active"]), pool.match([b"cached"])) == ([], [])
    assert pool.counts()["cached"] == 0
    pool.release([active])
    pool.check()
    assert pool.counts()["free"] == pool.capacity


def test_the_check_finds_a_lost_block(pool: BlockPool) -> None:
    pool._free.pop()
    with pytest.raises(AssertionError, match="do not add up"):
        pool.check()
