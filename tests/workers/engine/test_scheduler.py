from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_api.sampling import Sampling
from headrace_worker.engine.blocks import BlockPool
from headrace_worker.engine.scheduler import Plan, Scheduler, waiting_tokens
from headrace_worker.engine.sequence import Phase, Sequence, blocks_for

BLOCK = 4


class Engine:
    """Runs a scheduler's plans on KV of plain tuples: each slot holds the token and everything before it."""

    def __init__(self, num_blocks: int, *, chunk_tokens: int = 16, max_running: int = 8) -> None:
        self.pool = BlockPool(num_blocks, BLOCK)
        self.scheduler = Scheduler(self.pool, max_running=max_running, chunk_tokens=chunk_tokens)
        self.chunk_tokens, self.max_running = max(chunk_tokens, BLOCK), max_running
        self.kv: dict[tuple[int, int], tuple[int, ...]] = {}
        self.preemptions = 0
        self._serial = 0

    def add(self, prompt: list[int], num_tokens: int = 1, **changes: Any) -> Sequence:
        self._serial += 1
        how = Sampling(max_tokens=num_tokens)
        capacity = self.pool.capacity * BLOCK
        sequence = Sequence(f"r{self._serial}", 0, tuple(prompt), how, **{"max_len": capacity, **changes})
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> Plan:
        decoding = [sequence for sequence in self.scheduler.running if sequence.decoding]
        plan = self.scheduler.schedule()
        self.check_plan(plan, decoding)
        self.preemptions += len(plan.preempted)
        for item in plan.items:
            self._compute(item.sequence, item.start, item.count)
        self.scheduler.complete(plan)
        for item in plan.items:
            if item.samples:
                self._append(item.sequence)
        self.pool.check()
        return plan

    def check_plan(self, plan: Plan, decoding: list[Sequence]) -> None:
        """Hold one plan to the rules of every plan."""
        planned = [item.sequence for item in plan.items]
        assert len(set(map(id, planned))) == len(planned), "a sequence is planned twice"
        singles = [sequence for sequence in decoding if sequence not in plan.preempted]
        assert planned[: len(singles)] == singles, "decoding sequences run in every step, before all prompts"
        chunks = plan.items[len(singles) :]
        assert sum(item.count for item in chunks) <= self.chunk_tokens
        assert len(self.scheduler.running) <= self.max_running
        for item in plan.items:
            sequence, end = item.sequence, item.start + item.count
            assert item.count > 0
            assert item.start == sequence.computed
            assert item.samples or end % BLOCK == 0, "a chunk ends within a block"
            assert blocks_for(end, BLOCK) <= len(sequence.blocks)
            for block in sequence.blocks[item.start // BLOCK :]:
                assert self.pool._references[block] == 1, "a block is written that another sequence reads"
        assert not (plan.preempted and plan.started), "memory that was just missing is given to a newcomer"
        for victim in plan.preempted:
            kept = [(s.priority, s.arrival) for s in self.scheduler.running if s not in plan.started]
            assert all(rank < (victim.priority, victim.arrival) for rank in kept)

    def _compute(self, sequence: Sequence, start: int, count: int) -> None:
        context = sequence.tokens(0, start + count)
        for position in range(start + count):
            slot = (sequence.blocks[position // BLOCK], position % BLOCK)
            if position >= start:
                self.kv[slot] = tuple(context[: position + 1])
            assert self.kv[slot] == tuple(context[: position + 1]), "a sequence reads KV of another context"

    def _append(self, sequence: Sequence) -> None:
        sequence.output_ids.append(len(sequence.output_ids) % 3)
        if sequence.finish_reason() is not None:
            self.scheduler.remove(sequence)

    def run(self, *, most_steps: int) -> list[Plan]:
        """Run until nothing is left; all blocks must be free or cached then."""
        plans: list[Plan] = []
        while not self.scheduler.idle:
            assert len(plans) < most_steps, "some sequence starves"
            plans.append(self.step())
        counts = self.pool.counts()
        assert counts["free"] + counts["cached"] == self.pool.capacity
        return plans


REQUESTS = st.lists(
    st.fixed_dictionaries(
        {
            "shared": st.integers(0, 20),
            "own": st.integers(1, 20),
            "num_tokens": st.integers(1, 12),
            "arrives": st.integers(0, 15),
            "leaves": st.none() | st.integers(0, 25),
            "priority": st.integers(0, 1),
            "salt": st.sampled_from(["", "tenant"]),
            "resumed": st.integers(0, 2),
        }
    ),
    min_size=1,
    max_size=8,
)


def make_prompt(number: int, request: dict[str, Any]) -> list[int]:
    return [*range(100, 100 + request["shared"]), *[number] * request["own"]]


@settings(max_examples=150, deadline=None)
@given(REQUESTS, st.integers(13, 40), st.integers(1, 40), st.integers(1, 6))
def test_every_sequence_ends_whatever_comes_and_goes(
    requests: list[dict[str, Any]], num_blocks: int, chunk_tokens: int, max_running: int
) -> None:
    engine = Engine(num_blocks, chunk_tokens=chunk_tokens, max_running=max_running)
    sequences: dict[int, Sequence] = {}
    for time in range(26):
        for number, request in enumerate(requests):
            if request["arrives"] == time:
                output = [0, 1][: min(request["resumed"], request["num_tokens"] - 1)]
                how = {"priority": request["priority"], "salt": request["salt"], "output_ids": output}
                sequences[number] = engine.add(make_prompt(number, request), request["num_tokens"], **how)
            if request["leaves"] == time and number in sequences:
                engine.scheduler.remove(sequences[number])
        if not engine.scheduler.idle:
            engine.step()
    engine.run(most_steps=400)
    for number, sequence in sequences.items():
        assert sequence.phase is Phase.FINISHED
        assert sequence.blocks == []
        if requests[number]["leaves"] is None:
            assert len(sequence.output_ids) == requests[number]["num_tokens"]


def test_memory_for_little_more_than_one_context_serves_many() -> None:
    engine = Engine(12, chunk_tokens=8)
    sequences = [engine.add([number] * 20, 20) for number in range(5)]
    engine.run(most_steps=400)
    assert engine.preemptions > 0
    assert [len(sequence.output_ids) for sequence in sequences] == [20] * 5


def test_two_that_grow_beyond_memory_take_turns_and_the_older_one_never_yields() -> None:
    engine = Engine(8)
    older, newer = engine.add([1] * 12, 14), engine.add([2] * 12, 14)
    preempted = [sequence for plan in engine.run(most_steps=100) for sequence in plan.preempted]
    assert preempted
    assert older not in preempted
    assert len(newer.output_ids) == 14


def test_a_sequence_of_lower_priority_yields_although_it_is_older() -> None:
    engine = Engine(8)
    low = engine.add([1] * 12, 14, priority=1)
    engine.step()
    high = engine.add([2] * 12, 14, priority=0)
    preempted = [sequence for plan in engine.run(most_steps=100) for sequence in plan.preempted]
    assert low in preempted
    assert high not in preempted


def test_a_sequence_that_yields_is_taken_out_of_the_step_it_was_planned_in() -> None:
    engine = Engine(9)
    low = engine.add([1] * 9, 9, priority=1)
    engine.step()
    high = engine.add([2] * 15, 9)
    engine.step()
    engine.step()
    engine.pool.grant("attempt", engine.pool.available)
    plan = engine.step()
    assert (plan.preempted, [item.sequence for item in plan.items]) == ([low], [high])
    engine.pool.clear("attempt")
    engine.run(most_steps=40)


def test_a_preempted_sequence_goes_on_before_those_that_came_after_it() -> None:
    engine = Engine(8)
    newer = [engine.add([number] * 12, 14) for number in (1, 2)][1]
    later = engine.add([3] * 12, 2)
    started = [sequence for plan in engine.run(most_steps=100) for sequence in plan.started]
    assert started.count(newer) > 1
    assert started[-1] is later


def test_a_newcomer_leaves_room_for_one_more_block_of_each_that_runs() -> None:
    engine = Engine(9)
    for number in range(2):
        engine.add([number] * 9, 8)
    engine.step()
    exact = engine.add([2] * 8)
    engine.step()
    assert exact in engine.scheduler.waiting
    fitting = engine.add([3] * 4, priority=-1)
    engine.step()
    assert fitting not in engine.scheduler.waiting
    engine.run(most_steps=40)


def test_a_preempted_sequence_finds_its_full_blocks_again_when_nobody_needed_them() -> None:
    engine = Engine(9)
    engine.add([1] * 16, 9)
    newer = engine.add([2] * 10, 14)
    while not engine.preemptions:
        engine.step()
    assert newer in engine.scheduler.waiting
    assert newer.blocks == []
    (item,) = [item for plan in engine.run(most_steps=30) for item in plan.items if newer in plan.started][-1:]
    assert item.sequence is newer
    assert item.start > 0
    assert item.start % BLOCK == 0


def test_decoding_goes_on_while_a_long_prompt_is_computed_in_chunks() -> None:
    engine = Engine(40, chunk_tokens=8)
    talker = engine.add([1] * 4, 30)
    engine.step()
    long = engine.add([2] * 60, 1)
    for step in range(7):
        plan = engine.step()
        assert [(item.sequence, item.count) for item in plan.items] == [(talker, 1), (long, 8)], step
    assert [item.count for item in engine.step().items] == [1, 4]


def test_what_a_chunk_leaves_of_the_budget_goes_to_the_next_prompt() -> None:
    engine = Engine(40, chunk_tokens=16)
    first, second = engine.add([1] * 6), engine.add([2] * 20)
    assert [(item.sequence, item.count) for item in engine.step().items] == [(first, 6), (second, 8)]


def test_a_chunk_budget_below_a_block_still_moves_on() -> None:
    engine = Engine(10, chunk_tokens=1)
    engine.add([1] * 9)
    assert [plan.items[0].count for plan in engine.run(most_steps=5)] == [4, 4, 1]


def test_sequences_start_by_priority_then_by_arrival() -> None:
    engine = Engine(40, max_running=1)
    low, first, second = (engine.add([number] * 4, priority=number == 0) for number in range(3))
    started = [sequence for plan in engine.run(most_steps=5) for sequence in plan.started]
    assert started == [first, second, low]


def test_a_sequence_that_finds_no_room_is_not_overtaken() -> None:
    engine = Engine(8)
    engine.add([1] * 16, 4)
    engine.step()
    large, small = engine.add([2] * 20), engine.add([3])
    engine.step()
    assert large.phase is small.phase is Phase.WAITING
    engine.run(most_steps=20)


def test_no_more_run_than_allowed() -> None:
    engine = Engine(40, max_running=2)
    for number in range(5):
        engine.add([number] * 4, 3)
    assert len(engine.step().started) == 2
    engine.run(most_steps=20)


# --- prefix hits -----------------------------------------------------------------------------------------------------


def test_a_prompt_that_was_computed_before_is_a_prefix_hit_but_for_its_end() -> None:
    engine = Engine(20)
    prompt = list(range(16))
    engine.add(prompt)
    engine.run(most_steps=2)
    again = engine.add(prompt)
    (item,) = engine.step().items
    assert (item.start, item.count, again.cached_tokens) == (12, 4, 12)


@pytest.mark.parametrize(("tail", "start"), [([], 12), ([7], 16), ([7, 8, 9, 9, 9], 16)])
def test_a_longer_prompt_hits_all_full_blocks_it_shares(tail: list[int], start: int) -> None:
    engine = Engine(20)
    engine.add(list(range(16)), 3)
    engine.run(most_steps=4)
    engine.add([*range(16), *tail])
    assert engine.step().items[0].start == start


def test_a_hit_is_shared_with_a_sequence_that_still_runs() -> None:
    engine = Engine(20)
    first = engine.add(list(range(8)), 5)
    engine.step()
    second = engine.add([*range(8), 50])
    engine.step()
    assert second.blocks == [] or second.blocks[:2] == first.blocks[:2]
    assert second.cached_tokens == 8
    engine.run(most_steps=10)


def test_tenants_do_not_hit_each_others_blocks() -> None:
    engine = Engine(20)
    engine.add(list(range(16)), salt="a")
    engine.run(most_steps=2)
    engine.add(list(range(16)), salt="b")
    assert engine.step().items[0].start == 0


def test_a_resumed_sequence_hits_the_blocks_of_its_output_too() -> None:
    engine = Engine(20)
    first = engine.add(list(range(6)), 8)
    engine.run(most_steps=10)
    resumed = engine.add(list(range(6)), 10, output_ids=list(first.output_ids))
    (item,) = engine.step().items
    assert item.start == 12
    assert resumed.cached_tokens == 6


# --- entering, holding, leaving --------------------------------------------------------------------------------------


def test_a_sequence_computed_elsewhere_enters_with_its_blocks_and_decodes() -> None:
    engine = Engine(8)
    prompt = list(range(9))
    sequence = Sequence("r", 0, tuple(prompt), Sampling(max_tokens=4), 32)
    sequence.blocks = engine.pool.allocate(3) or []
    sequence.computed = 9
    for position in range(9):
        engine.kv[sequence.blocks[position // BLOCK], position % BLOCK] = tuple(prompt[: position + 1])
    sequence.output_ids.append(0)
    engine.scheduler.enter(sequence)
    hit = engine.add([*range(8), 50])
    plan = engine.step()
    assert [(item.start, item.count) for item in plan.items] == [(9, 1), (8, 1)]
    assert hit.cached_tokens == 8
    engine.run(most_steps=10)


def test_a_held_sequence_is_not_run_but_keeps_its_blocks_until_it_is_removed() -> None:
    engine = Engine(8)
    sequence = engine.add([1] * 8, 5)
    engine.step()
    engine.scheduler.hold(sequence)
    assert engine.scheduler.idle
    assert engine.step().items == []
    assert engine.pool.counts()["active"] == 2
    engine.scheduler.remove(sequence)
    assert engine.pool.counts()["active"] == 0


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_removing_a_sequence_frees_its_blocks_at_once_wherever_it_stands(steps: int) -> None:
    engine = Engine(20, chunk_tokens=4)
    sequence = engine.add([1] * 10, 5)
    for _ in range(steps):
        engine.step()
    engine.scheduler.remove(sequence)
    engine.scheduler.remove(sequence)
    assert engine.scheduler.idle
    assert engine.pool.counts()["active"] == 0


@pytest.mark.parametrize(("tokens", "fits"), [(1, True), (32, True), (33, False)])
def test_a_context_fits_when_all_blocks_hold_it(tokens: int, *, fits: bool) -> None:
    assert Engine(8).scheduler.fits(tokens) is fits


def test_waiting_tokens_add_up() -> None:
    engine = Engine(8, max_running=1)
    for size in (4, 5, 6):
        engine.add([size] * size, 3)
    engine.step()
    assert waiting_tokens(engine.scheduler.waiting) == 11


@pytest.mark.parametrize("silent", [False, True])
def test_granted_and_quarantined_blocks_are_waited_for(*, silent: bool) -> None:
    engine = Engine(8)
    engine.pool.grant("attempt", 6)
    if silent:
        engine.pool.quarantine("attempt")
    sequence = engine.add([1] * 12)
    assert engine.step().items == []
    engine.pool.clear("attempt")
    engine.run(most_steps=3)
    assert sequence.phase is Phase.FINISHED
