from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from headrace_api.handoff import Admit, Dead, Renew, pod_incarnation
from headrace_worker.transfer.target import Deadlines, Expired, Quarantine, State, Target

DEADLINES = Deadlines(queue_s=60.0, silence_s=5.0, attempt_s=30.0)


def admit(name: str, rank: int = 0, ranks: int = 1) -> Admit:
    return Admit(name, rank, ranks, 1, 0.0, 0.0, (), 0, 0.0)


@pytest.fixture
def target() -> Target:
    return Target("a", worker="p", incarnation="1", deadlines=DEADLINES, now=0.0)


def test_blocks_are_granted_once_and_only_after_the_start(target: Target) -> None:
    assert target.starting("1", 1.0)
    assert not target.starting("1", 1.1)
    assert target.grant(2, [7, 8], 1.2).blocks == (7, 8)


def test_the_admission_of_every_rank_is_waited_for(target: Target) -> None:
    target.starting("1", 1.0)
    target.grant(0, [7], 1.0)
    assert not target.admit(admit("a", 0, 2), "1")
    assert not target.admit(admit("a", 0, 2), "1")
    assert target.admit(admit("a", 1, 2), "1")
    assert target.state is State.ADMITTED


def test_an_admission_by_another_incarnation_is_ignored(target: Target) -> None:
    target.starting("1", 1.0)
    target.grant(0, [7], 1.0)
    assert not target.admit(admit("a"), "2")


def test_an_admission_after_giving_up_is_ignored(target: Target) -> None:
    target.starting("1", 1.0)
    target.grant(0, [7], 1.0)
    assert target.abandon() == (7,)
    assert not target.admit(admit("a"), "1")
    assert target.abandon() == ()


def test_a_start_by_another_incarnation_than_expected_is_taken_as_the_present_one(target: Target) -> None:
    target.starting("2", 1.0)
    assert target.incarnation == "2"


def test_silence_ends_an_attempt_in_the_queue_too(target: Target) -> None:
    assert target.tick(4.9) is None
    assert isinstance(target.tick(5.0), Expired)


def test_signs_of_life_hold_an_attempt_until_the_queue_deadline(target: Target) -> None:
    for now in range(0, 60, 4):
        target.alive(float(now))
        assert target.tick(float(now)) is None
    expired = target.tick(60.0)
    assert isinstance(expired, Expired)
    assert "did not start within 60 s" in expired.reason


def test_signs_of_life_do_not_hold_an_attempt_beyond_its_deadline(target: Target) -> None:
    target.starting("1", 10.0)
    target.grant(0, [7], 10.0)
    target.alive(39.0)
    assert not isinstance(target.tick(39.9), Expired)
    assert isinstance(target.tick(40.0), Expired)


def test_a_lease_is_renewed_several_times_within_its_length(target: Target) -> None:
    target.starting("1", 0.0)
    lease_s = target.grant(0, [7], 0.0).lease_s
    renewals = 0
    for tenth in range(int(10 * lease_s)):
        target.alive(tenth / 10)
        renewals += isinstance(target.tick(tenth / 10), Renew)
    assert renewals >= 3


def test_the_deadline_says_when_to_look_again(target: Target) -> None:
    assert target.deadline == 5.0
    target.starting("1", 1.0)
    target.grant(0, [7], 1.0)
    assert target.deadline == 1.0 + DEADLINES.lease_s / 4
    target.end()
    assert target.deadline is None


def test_quarantined_blocks_come_back_by_the_word_of_that_incarnation_only() -> None:
    quarantine = Quarantine()
    quarantine.add("a", worker="p", incarnation="1", blocks=[3, 4])
    assert quarantine.ended("a", "2") == ()
    assert quarantine.ended("b", "1") == ()
    assert quarantine.ended("a", "1") == (3, 4)
    assert quarantine.ended("a", "1") == ()


def test_quarantined_blocks_come_back_when_the_processes_have_ended() -> None:
    quarantine = Quarantine()
    quarantine.add("a", worker="p", incarnation="1", blocks=[3])
    quarantine.add("b", worker="p", incarnation="1", blocks=[4])
    quarantine.add("c", worker="q", incarnation="9", blocks=[5])
    assert quarantine.dead(Dead("1")) == (3, 4)
    assert len(quarantine) == 1


def test_the_end_of_a_pod_frees_the_blocks_of_every_process_that_ran_in_it_and_no_others() -> None:
    quarantine = Quarantine()
    for attempt, incarnation in {"a": pod_incarnation("u1", "x"), "b": pod_incarnation("u1", "y"), "c": "u1"}.items():
        quarantine.add(attempt, worker="p", incarnation=incarnation, blocks=[ord(attempt)])
    quarantine.add("d", worker="q", incarnation=pod_incarnation("u12", "x"), blocks=[5])
    assert quarantine.dead(Dead(pod="u1")) == (ord("a"), ord("b"))
    assert set(quarantine.attempts) == {"c", "d"}


def test_quarantined_blocks_come_back_when_the_worker_returns_as_another_process() -> None:
    quarantine = Quarantine()
    quarantine.add("a", worker="p", incarnation="1", blocks=[3])
    quarantine.add("b", worker="q", incarnation="9", blocks=[5])
    assert quarantine.returned("p", "1") == ()
    assert quarantine.returned("p", "2") == (3,)


class Blocks(RuleBasedStateMachine):
    """Each granted block is in one place: with a running attempt, with a sequence, in quarantine, or free."""

    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.names = (f"a{number}" for number in count())
        self.free = set(range(30))
        self.held: set[int] = set()
        self.admitted: set[int] = set()
        self.targets: dict[str, Target] = {}
        self.quarantine = Quarantine()

    def release(self, blocks: tuple[int, ...], origin: set[int]) -> None:
        assert len(set(blocks)) == len(blocks)
        assert not self.free & set(blocks), "a block came back twice"
        assert set(blocks) <= origin
        origin -= set(blocks)
        self.free |= set(blocks)

    @rule(
        target=attempts,
        size=st.integers(0, 4),
        worker=st.sampled_from("pq"),
        incarnation=st.sampled_from("12"),
    )
    def granted(self, size: int, worker: str, incarnation: str) -> object:
        if size > len(self.free):
            return multiple()
        name = next(self.names)
        made = Target(name, worker=worker, incarnation=worker + incarnation, deadlines=DEADLINES, now=0.0)
        blocks = [self.free.pop() for _ in range(size)]
        self.held |= set(blocks)
        assert made.starting(worker + incarnation, 0.0)
        made.grant(0, blocks, 0.0)
        self.targets[name] = made
        return name

    @rule(name=attempts, incarnation=st.sampled_from(["p1", "p2", "q1", "q2"]))
    def admission(self, name: str, incarnation: str) -> None:
        target = self.targets[name]
        if target.admit(admit(name), incarnation):
            assert target.incarnation == incarnation
            self.held -= set(target.blocks)
            self.admitted |= set(target.blocks)

    @rule(name=attempts)
    def silence(self, name: str) -> None:
        target = self.targets[name]
        blocks = target.abandon()
        self.held -= set(blocks)
        if blocks:
            self.quarantine.add(name, worker=target.worker, incarnation=target.incarnation, blocks=blocks)

    @rule(name=attempts, incarnation=st.sampled_from(["p1", "p2", "q1", "q2"]))
    def the_peer_says_it_has_ended(self, name: str, incarnation: str) -> None:
        target = self.targets[name]
        before = self.quarantined()
        if target.running and incarnation == target.incarnation:
            self.release(target.end(), self.held)
        else:
            self.release(self.quarantine.ended(name, incarnation), before)

    @rule(incarnation=st.sampled_from(["p1", "p2", "q1", "q2"]))
    def the_peer_has_died(self, incarnation: str) -> None:
        before = self.quarantined()
        self.release(self.quarantine.dead(Dead(incarnation)), before)

    @rule(worker=st.sampled_from("pq"), incarnation=st.sampled_from("12"))
    def the_peer_returns(self, worker: str, incarnation: str) -> None:
        before = self.quarantined()
        self.release(self.quarantine.returned(worker, worker + incarnation), before)

    def quarantined(self) -> set[int]:
        return {block for entry in self.quarantine._entries.values() for block in entry.blocks}

    @rule(name=consumes(attempts))
    def the_sequence_ends(self, name: str) -> None:
        target = self.targets[name]
        if target.state is State.ADMITTED:
            self.release(target.blocks, self.admitted)

    @invariant()
    def every_block_is_in_one_place(self) -> None:
        quarantined = self.quarantined()
        assert len(quarantined) == len(self.quarantine)
        places = [self.free, self.held, self.admitted, quarantined]
        assert sum(map(len, places)) == 30
        assert set.union(*places) == set(range(30))


Blocks.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestBlocks = Blocks.TestCase
