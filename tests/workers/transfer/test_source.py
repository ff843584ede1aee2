from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace_api.frames import Token
from headrace_api.handoff import Grant, Layout
from headrace_worker.transfer.source import (
    Action,
    PostWrite,
    SendAborted,
    SendAdmit,
    SendRefused,
    Settle,
    Source,
    Stop,
    Terms,
)

LAYERS = 2
LAYOUT = Layout(base=0, num_layers=LAYERS, num_blocks=50, block_bytes=100)
TERMS = Terms(LAYOUT, LAYOUT)
TOKEN = Token(9, -0.1, 1.0)


@pytest.fixture
def source() -> Source:
    return Source("a", TERMS, queue_deadline_s=10.0, now=0.0)


def grant(first_block: int = 0, blocks: Sequence[int] = (20, 21, 22, 23), lease_s: float = 5.0) -> Grant:
    return Grant("a", first_block, tuple(blocks), lease_s)


def layer(
    source: Source, number: int, now: float, first: int = 0, blocks: Sequence[int] = (1, 2, 3, 4)
) -> list[Action]:
    return source.ready(range(number, number + 1), first, blocks, now, now)


def posted(actions: list[Action]) -> PostWrite:
    (action,) = actions
    assert isinstance(action, PostWrite)
    return action


def kinds(actions: list[Action]) -> list[type[Action]]:
    return [type(action) for action in actions]


def test_nothing_is_written_before_the_grant_and_all_that_waited_goes_together(source: Source) -> None:
    assert layer(source, 0, 1.0) == []
    assert layer(source, 1, 2.0) == []
    write = posted(source.grant(grant(), 3.0))
    assert [(span.local, span.remote, span.size) for span in write.spans] == [(100, 2000, 400), (5100, 7000, 400)]


def test_a_layer_is_written_as_soon_as_it_is_ready_once_blocks_are_granted(source: Source) -> None:
    source.grant(grant(), 0.5)
    assert len(posted(layer(source, 0, 1.0)).spans) == 1


def test_blocks_before_the_first_granted_one_are_not_written(source: Source) -> None:
    source.grant(grant(first_block=2, blocks=(20, 30)), 0.5)
    write = posted(layer(source, 0, 1.0))
    assert [(span.local, span.remote, span.size) for span in write.spans] == [(300, 2000, 100), (400, 3000, 100)]


def test_the_admission_comes_after_every_write_and_the_first_token(source: Source) -> None:
    source.grant(grant(), 0.0)
    writes = [posted(layer(source, number, 1.0 + number)) for number in range(LAYERS)]
    assert source.finish(TOKEN, 2, 2.5) == []
    assert source.write_done(writes[1].number, 3.0) == []
    actions = source.write_done(writes[0].number, 3.5)
    assert kinds(actions) == [SendAdmit, Settle]
    assert isinstance(actions[0], SendAdmit)
    assert (actions[0].admit.first_token, actions[0].admit.cached_tokens) == (9, 2)
    assert actions[0].admit.exposed_s == pytest.approx(1.5)
    assert source.transfer_s == pytest.approx(2.5)
    assert source.sent_bytes == 800


def test_the_admission_waits_for_the_token_when_writes_are_done_first(source: Source) -> None:
    source.grant(grant(), 0.0)
    for number in range(LAYERS):
        assert source.write_done(posted(layer(source, number, 1.0)).number, 1.5) == []
    assert kinds(source.finish(TOKEN, 0, 2.0)) == [SendAdmit, Settle]


def test_a_grant_of_no_blocks_is_admitted_with_the_token(source: Source) -> None:
    source.grant(grant(first_block=4, blocks=()), 0.0)
    layer(source, 0, 1.0)
    layer(source, 1, 1.0)
    assert kinds(source.finish(TOKEN, 0, 2.0)) == [SendAdmit, Settle]


def test_what_was_not_computed_is_never_admitted(source: Source) -> None:
    source.grant(grant(), 0.0)
    source.write_done(posted(layer(source, 0, 1.0)).number, 1.1)
    actions = source.finish(TOKEN, 0, 2.0)
    assert kinds(actions) == [Stop, SendRefused, Settle]


def test_an_abort_is_answered_only_when_no_write_is_in_flight(source: Source) -> None:
    source.grant(grant(), 0.0)
    write = posted(layer(source, 0, 1.0))
    assert kinds(source.abort(1.5)) == [Stop]
    assert layer(source, 1, 1.6) == []
    assert kinds(source.write_done(write.number, 2.0)) == [SendAborted, Settle]


def test_a_failed_write_after_an_abort_counts_as_ended(source: Source) -> None:
    source.grant(grant(), 0.0)
    write = posted(layer(source, 0, 1.0))
    source.abort(1.5)
    assert kinds(source.write_failed(write.number, "gone", 2.0)) == [SendAborted, Settle]


def test_a_failed_write_is_refused_once_all_others_have_ended(source: Source) -> None:
    source.grant(grant(), 0.0)
    writes = [posted(layer(source, number, 1.0)) for number in range(LAYERS)]
    assert kinds(source.write_failed(writes[0].number, "the peer is gone", 2.0)) == [Stop]
    actions = source.write_done(writes[1].number, 2.5)
    assert actions == [SendRefused("KV could not be written: the peer is gone"), Settle("refused")]


def test_a_grant_after_an_abort_is_ignored(source: Source) -> None:
    layer(source, 0, 1.0)
    assert kinds(source.abort(1.5)) == [Stop, SendAborted, Settle]
    assert source.grant(grant(), 2.0) == []


def test_an_abort_that_meets_our_own_refusal_is_answered_as_an_abort(source: Source) -> None:
    source.grant(grant(), 0.0)
    write = posted(layer(source, 0, 1.0))
    source.refuse("an error", 1.2)
    assert source.abort(1.3) == []
    assert source.write_done(write.number, 2.0) == [SendAborted(), Settle("refused")]


def test_a_repeated_grant_does_not_write_twice(source: Source) -> None:
    layer(source, 0, 1.0)
    posted(source.grant(grant(), 2.0))
    assert source.grant(grant(blocks=(30, 31, 32, 33)), 2.1) == []


def test_nothing_is_posted_after_the_lease(source: Source) -> None:
    source.grant(grant(lease_s=5.0), 0.0)
    actions = layer(source, 0, 5.1)
    assert kinds(actions) == [Stop, SendRefused, Settle]
    assert layer(source, 1, 5.2) == []


def test_a_renewed_lease_lasts_longer(source: Source) -> None:
    source.grant(grant(lease_s=5.0), 0.0)
    source.renew(5.0, 4.0)
    posted(layer(source, 0, 8.0))


def test_a_renewal_after_the_lease_does_not_bring_it_back(source: Source) -> None:
    source.grant(grant(lease_s=5.0), 0.0)
    assert kinds(source.renew(5.0, 5.5)) == [Stop, SendRefused, Settle]


def test_an_attempt_that_is_not_started_in_time_is_refused(source: Source) -> None:
    assert source.tick(9.9) == []
    (_, refused, _) = source.tick(10.1)
    assert refused == SendRefused("the attempt could not be started within 10 s")


def test_an_attempt_that_gets_no_grant_in_time_is_refused(source: Source) -> None:
    source.start(8.0)
    assert source.tick(17.9) == []
    (_, refused, _) = source.tick(18.1)
    assert refused == SendRefused("the attempt got no blocks granted within 10 s")


@pytest.mark.parametrize("blocks", [(20, 20), (20, 50), (-1,)])
def test_a_grant_of_impossible_blocks_is_refused(source: Source, blocks: tuple[int, ...]) -> None:
    layer(source, 0, 0.5)
    assert kinds(source.grant(grant(blocks=blocks), 1.0)) == [Stop, SendRefused, Settle]


def test_a_peer_that_has_gone_is_told_nothing(source: Source) -> None:
    source.grant(grant(), 0.0)
    write = posted(layer(source, 0, 1.0))
    assert kinds(source.gone(1.5)) == [Stop]
    assert source.write_failed(write.number, "gone", 2.0) == [Settle("aborted")]


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes in whatever order: writes only within the grant and its lease, one end, never too early."""

    def __init__(self) -> None:
        super().__init__()
        self.source = Source("a", TERMS, queue_deadline_s=10.0, now=0.0)
        self.now = 0.0
        self.flying: set[int] = set()
        self.next_layer = 0
        self.lease_until: float | None = None
        self.landed: set[tuple[int, int]] = set()
        self.spans: dict[int, set[tuple[int, int]]] = {}
        self.ends: list[Action] = []
        self.settled = 0

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            assert not self.settled, "an action after the end"
            if isinstance(action, PostWrite):
                assert self.lease_until is not None
                assert self.now <= self.lease_until
                self.flying.add(action.number)
                self.spans[action.number] = {
                    (at // 5000, at % 5000 // 100)
                    for span in action.spans
                    for at in range(span.remote, span.remote + span.size, 100)
                }
            elif isinstance(action, SendAdmit | SendAborted | SendRefused):
                assert not self.flying, "an end while a write is in flight"
                self.ends.append(action)
            elif isinstance(action, Settle):
                self.settled += 1

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.source.tick(self.now))

    @precondition(lambda self: self.next_layer < LAYERS)
    @rule()
    def a_layer_is_ready(self) -> None:
        self.next_layer += 1
        self.take(layer(self.source, self.next_layer - 1, self.now))

    @rule()
    def the_token_is_known(self) -> None:
        if self.next_layer == LAYERS:
            self.take(self.source.finish(TOKEN, 0, self.now))

    @rule()
    def blocks_are_granted(self) -> None:
        if self.lease_until is None:
            self.lease_until = self.now + 5.0
        self.take(self.source.grant(grant(), self.now))

    @rule()
    def the_lease_is_renewed(self) -> None:
        if self.lease_until is not None and self.now <= self.lease_until:
            self.lease_until = self.now + 5.0
        self.take(self.source.renew(5.0, self.now))

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), failed=st.booleans())
    def a_write_ends(self, data: st.DataObject, *, failed: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.flying)))
        self.flying.remove(number)
        if failed:
            self.take(self.source.write_failed(number, "broken", self.now))
        else:
            self.landed |= self.spans[number]
            self.take(self.source.write_done(number, self.now))

    @rule()
    def the_decode_worker_aborts(self) -> None:
        self.take(self.source.abort(self.now))

    @rule()
    def the_core_refuses(self) -> None:
        self.take(self.source.refuse("an error", self.now))

    @invariant()
    def it_ends_once_and_an_admission_means_that_all_has_landed(self) -> None:
        assert self.settled <= 1
        assert len(self.ends) == self.settled
        if any(isinstance(end, SendAdmit) for end in self.ends):
            assert self.landed == {(number, block) for number in range(LAYERS) for block in (20, 21, 22, 23)}


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestAnyOrder = AnyOrder.TestCase
