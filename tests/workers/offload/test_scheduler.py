"""The scheduler over tiers whose disk is slow, fails and rots, on contents that show what is read."""

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.workers.engine.test_scheduler import BLOCK, REQUESTS, Engine, make_prompt

from headrace_worker.engine.blocks import BlockPool
from headrace_worker.engine.scheduler import Plan, Scheduler
from headrace_worker.engine.sequence import Phase, Sequence
from headrace_worker.offload.tiers import Move, Save, Tiers

Block = list[Any]


class TieredEngine(Engine):
    """The same engine, with what it evicts in slots and files; a seed decides what the disk does."""

    def __init__(self, num_blocks: int, *, slots: int, files: int, seed: int, max_running: int) -> None:
        super().__init__(num_blocks, max_running=max_running)
        self.tiers = Tiers(slots, files)
        self.pool = BlockPool(num_blocks, BLOCK, self.tiers.put)
        self.scheduler = Scheduler(self.pool, max_running=max_running, chunk_tokens=16, cold=self.tiers)
        self.slots: dict[int, Block] = {}
        self.files: dict[bytes, Block] = {}
        self.reads: list[Move] = []
        self.writes: list[Move] = []
        self.loaded = 0
        self._chance = random.Random(seed)

    def check_plan(self, plan: Plan, decoding: list[Sequence]) -> None:
        """Do what is done between a plan and its step, then check it."""
        self._copy()
        self._serve_disk()
        self.loaded += sum(sequence.loaded for sequence in plan.started)
        super().check_plan(plan, decoding)

    def _copy(self) -> None:
        for copy in self.tiers.copies:
            if isinstance(copy, Save):
                self.slots[copy.slot] = [self.kv.get((copy.block, place)) for place in range(BLOCK)]
            else:
                for place, content in enumerate(self.slots[copy.slot]):
                    self.kv[copy.block, place] = content
        self.tiers.copies.clear()

    def _serve_disk(self) -> None:
        """Post what is new, and end some of what is under way, in any order."""
        writes = self.tiers.spills()
        for key in self.tiers.deletes:
            self.files.pop(key, None)
        self.tiers.deletes.clear()
        self.reads += self.tiers.reads
        self.tiers.reads.clear()
        self.writes += writes
        for _ in range(self._chance.randrange(4)):
            self._end_one(self.reads, self._read)
            self._end_one(self.writes, self._write)
        for arrival in self.tiers.ready():
            assert isinstance(arrival, int)
            self.scheduler.fetched(arrival)
        self.tiers.check()

    def _end_one(self, moves: list[Move], end: Any) -> None:
        if moves:
            end(moves.pop(self._chance.randrange(len(moves))), good=self._chance.random() < 0.8)

    def _read(self, move: Move, *, good: bool) -> None:
        if good:
            self.slots[move.slot] = self.files[move.key]
        self.tiers.was_read(move.key, good=good)

    def _write(self, move: Move, *, good: bool) -> None:
        if good:
            self.files[move.key] = list(self.slots[move.slot])
        self.tiers.written(move.key, good=good)


@settings(max_examples=150, deadline=None)
@given(REQUESTS, st.integers(13, 24), st.integers(0, 20), st.integers(0, 30), st.integers(1, 6), st.integers(0, 99))
def test_no_sequence_reads_what_is_not_its_own_and_each_ends(  # noqa: PLR0917  # what hypothesis draws
    requests: list[dict[str, Any]], num_blocks: int, slots: int, files: int, max_running: int, seed: int
) -> None:
    engine = TieredEngine(num_blocks, slots=slots, files=files if slots else 0, seed=seed, max_running=max_running)
    sequences: dict[int, Sequence] = {}
    for time in range(60):
        for number, request in enumerate(requests):
            if request["arrives"] == time % 20:
                how = {"priority": request["priority"], "salt": request["salt"]}
                sequences[number + time] = engine.add(make_prompt(number, request), request["num_tokens"], **how)
            if request["leaves"] == time and number in sequences:
                engine.scheduler.remove(sequences[number])
        if not engine.scheduler.idle:
            engine.step()
    engine.run(most_steps=2000)
    assert all(sequence.phase is Phase.FINISHED for sequence in sequences.values())
    assert not engine.tiers.waiting()
    assert engine.tiers.memory.pinned == len({move.slot for move in (*engine.reads, *engine.writes)})


def test_prompts_in_turns_are_loaded_and_not_computed() -> None:
    engine = TieredEngine(13, slots=100, files=0, seed=1, max_running=1)
    for _ in range(3):
        for number in range(8):
            engine.add([number] * 41)
            engine.run(most_steps=100)
    assert engine.loaded == 2 * 8 * 40, "each prompt was computed once, and its last token each time"
