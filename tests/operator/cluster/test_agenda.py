"""The queue's order as properties: whatever is asked for is worked on, one at a time per key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headrace_operator.kubernetes.agenda import CALM_S, PATIENCE_S, Agenda, Lane
from headrace_operator.kubernetes.queue import ROOM

KEYS = st.sampled_from("abcdef")
LANES = st.sampled_from(Lane)
WIDE = dict.fromkeys(Lane, 100)


class AgendaMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.agenda: Agenda[str] = Agenda(ROOM)
        self.now = 0.0
        self.wanted: set[str] = set()

    @rule(key=KEYS, lane=LANES, after_s=st.sampled_from((0.0, 1.0, 5.0)), fresh=st.booleans())
    def add(self, key: str, lane: Lane, after_s: float, *, fresh: bool) -> None:
        self.agenda.add(key, self.now, lane, after_s=after_s, fresh=fresh)
        self.wanted.add(key)

    @rule()
    def take(self) -> None:
        before = dict(self.agenda.running)
        if (taken := self.agenda.take(self.now)) is not None:
            assert taken[0] not in before
            assert taken[0] in self.wanted
            self.wanted.discard(taken[0])

    @rule(again=st.none() | st.tuples(st.sampled_from((0.0, 2.0)), LANES))
    def finish(self, again: tuple[float, Lane] | None) -> None:
        if self.agenda.running:
            key = next(iter(self.agenda.running))
            self.agenda.finish(key, self.now, again)
            self.wanted |= {key} if again is not None else set()

    @rule(jitter=st.floats(0, 0.99))
    def fail(self, jitter: float) -> None:
        if self.agenda.running:
            key = next(iter(self.agenda.running))
            assert self.agenda.fail(key, self.now, jitter) > 0
            self.wanted.add(key)

    @rule(seconds=st.sampled_from((0.1, 1.0, 200.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def nothing_is_lost_and_no_lane_overflows(self) -> None:
        assert self.agenda.depth == len(self.wanted)
        for lane, room in ROOM.items():
            assert sum(held is lane for held in self.agenda.running.values()) <= room

    @invariant()
    def due_in_tells_when_something_can_be_taken(self) -> None:
        due = self.agenda.due_in(self.now)
        if due == 0.0:
            assert self.wanted

    def teardown(self) -> None:
        """Everything that waits is worked on in the end, and nothing else."""
        for _ in range(100):
            for key in list(self.agenda.running):
                self.agenda.finish(key, self.now)
            self.now += 1000
            while (taken := self.agenda.take(self.now)) is not None:
                self.wanted.discard(taken[0])
        assert not self.wanted
        assert self.agenda.depth == 0


TestAgenda = AgendaMachine.TestCase


def test_urgent_work_is_taken_before_what_came_earlier() -> None:
    agenda: Agenda[str] = Agenda(WIDE)
    agenda.add("bulk", 0, Lane.LOW)
    agenda.add("new", 0, Lane.NORMAL)
    agenda.add("ready", 0, Lane.URGENT)

    assert [agenda.take(0) for _ in range(4)] == [
        ("ready", Lane.URGENT),
        ("new", Lane.NORMAL),
        ("bulk", Lane.LOW),
        None,
    ]


def test_a_lane_that_is_full_holds_no_other_back() -> None:
    agenda: Agenda[str] = Agenda(dict.fromkeys(Lane, 1))
    for key in "ab":
        agenda.add(key, 0, Lane.URGENT)
    agenda.add("c", 0, Lane.LOW)

    assert [agenda.take(0) for _ in range(3)] == [("a", Lane.URGENT), ("c", Lane.LOW), None]


def test_idle_work_gives_way_to_all_other_until_its_patience_ends() -> None:
    agenda: Agenda[str] = Agenda(WIDE)
    agenda.add("status", 0, Lane.IDLE)
    agenda.add("new", 0)

    assert [agenda.take(0) for _ in range(2)] == [("new", Lane.NORMAL), None]
    assert agenda.due_in(0) == PATIENCE_S
    assert agenda.take(PATIENCE_S - 1) is None
    assert agenda.take(PATIENCE_S) == ("status", Lane.IDLE)


def test_idle_work_begins_when_nothing_else_is_left() -> None:
    agenda: Agenda[str] = Agenda(WIDE)
    agenda.add("status", 0, Lane.IDLE)
    agenda.add("new", 0)
    agenda.add("later", 0, Lane.LOW, after_s=5)
    agenda.take(0)

    agenda.finish("new", 1)

    assert agenda.due_in(1) == CALM_S
    assert agenda.take(1) is None
    assert agenda.take(1 + CALM_S) == ("status", Lane.IDLE)


def test_idle_work_that_ends_delays_no_other_idle_work() -> None:
    agenda: Agenda[str] = Agenda(WIDE)
    agenda.add("status", 0, Lane.IDLE)
    agenda.add("numbers", 0, Lane.IDLE)
    agenda.take(0)

    agenda.finish("status", 1)

    assert agenda.take(1) == ("numbers", Lane.IDLE)


def test_work_that_comes_again_and_again_holds_idle_work_back_no_longer_than_its_patience() -> None:
    agenda: Agenda[str] = Agenda(WIDE)
    agenda.add("status", 0, Lane.IDLE)
    now = 0.0
    while now < PATIENCE_S:
        agenda.add("new", now)
        assert agenda.take(now) == ("new", Lane.NORMAL)
        agenda.finish("new", now + CALM_S / 4)
        assert agenda.take(now + CALM_S / 2) is None
        now += CALM_S

    assert agenda.take(now) == ("status", Lane.IDLE)


def test_news_that_come_while_a_key_is_worked_on_are_worked_on_once_more() -> None:
    agenda: Agenda[str] = Agenda(WIDE)
    agenda.add("a", 0)
    agenda.take(0)
    for _ in range(3):
        agenda.add("a", 0)
    assert agenda.take(0) is None

    agenda.finish("a", 0)

    assert agenda.take(0) == ("a", Lane.NORMAL)
    agenda.finish("a", 0)
    assert agenda.take(0) is None


def test_news_do_not_shorten_the_pause_after_a_failure_unless_they_are_fresh() -> None:
    agenda: Agenda[str] = Agenda(WIDE)
    agenda.add("a", 0)
    agenda.take(0)
    agenda.fail("a", 0, 0.5, at_least_s=60)

    agenda.add("a", 1)
    assert agenda.take(1) is None

    agenda.add("a", 1, fresh=True)
    assert agenda.take(1) == ("a", Lane.NORMAL)


@given(jitter=st.floats(0, 0.999))
def test_pauses_grow_with_failures_up_to_a_bound(jitter: float) -> None:
    agenda: Agenda[str] = Agenda(WIDE)
    pauses = []
    for number in range(12):
        agenda.add("a", number * 1000.0)
        agenda.take(number * 1000.0)
        pauses.append(agenda.fail("a", number * 1000.0, jitter))

    assert pauses == sorted(pauses)
    assert 60 <= pauses[-1] <= 120


def test_a_success_ends_the_series_of_failures() -> None:
    agenda: Agenda[str] = Agenda(WIDE)
    agenda.add("a", 0)
    agenda.take(0)
    agenda.fail("a", 0, 0.5)
    agenda.take(1000)

    agenda.finish("a", 1000)

    assert agenda.failures("a") == 0


def test_what_is_forgotten_is_not_worked_on() -> None:
    agenda: Agenda[str] = Agenda(WIDE)
    agenda.add("a", 0)

    agenda.forget("a")

    assert agenda.take(0) is None
    assert agenda.due_in(0) is None


@pytest.mark.parametrize("lane", Lane)
def test_work_that_asks_for_more_of_itself_gets_it_in_the_lane_it_asks_for(lane: Lane) -> None:
    agenda: Agenda[str] = Agenda(WIDE)
    agenda.add("a", 0)
    agenda.take(0)

    agenda.finish("a", 0, (5.0, lane))

    assert agenda.take(4.9) is None
    assert agenda.take(5.0) == ("a", lane)
