"""The decode worker's side of hand-offs over a courier that only takes notes."""

from collections.abc import Iterator
from typing import Any

import pytest

from headrace_api.handoff import Grant
from headrace_api.sampling import Sampling
from headrace_worker.engine.blocks import BlockPool
from headrace_worker.engine.report import Report
from headrace_worker.engine.scheduler import Scheduler
from headrace_worker.engine.sequence import Sequence
from headrace_worker.engine.target import Asking, Policy
from headrace_worker.errors import TransferError
from headrace_worker.messages import PrefillPeer
from headrace_worker.transfer.courier import Courier
from headrace_worker.transfer.events import Aborted, Event, Started
from headrace_worker.transfer.target import Deadlines

BLOCK = 4
PATIENCE_S = 30.0
PEER = PrefillPeer("prefill-0", "tcp://127.0.0.1:1", "p" * 16)


class Notes(Courier):
    """Takes what is said to a courier; events are what a test puts there."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.granted: list[Grant] = []
        self.aborted: list[str] = []
        self.coming: list[Event] = []

    def ask(self, peer: PrefillPeer, attempt: Any) -> None:
        assert peer is PEER
        self.asked.append(attempt.attempt)

    def grant(self, incarnation: str, grant: Grant) -> None:
        assert incarnation == PEER.incarnation
        self.granted.append(grant)

    def abort(self, incarnation: str, attempt: str) -> None:
        assert incarnation == PEER.incarnation
        self.aborted.append(attempt)

    def renew(self, incarnation: str, renew: Any) -> None:
        pass

    def poll(self) -> list[Event]:
        coming, self.coming = self.coming, []
        return coming


class Decode:
    """A decode worker's hand-off side with a clock of its own."""

    def __init__(self, num_blocks: int = 16) -> None:
        self.now = 100.0
        self.courier = Notes()
        self.pool = BlockPool(num_blocks, BLOCK)
        self.scheduler = Scheduler(self.pool, max_running=8, chunk_tokens=16)
        self.asking = Asking(
            self.courier,
            self.scheduler,
            Report(),
            kv_block_bytes=64,
            deadlines=Deadlines(60.0, 5.0, 300.0),
            policy=Policy(0, num_blocks // 2, PATIENCE_S),
            incarnation="d",
            prepare=lambda _: None,
            clock=lambda: self.now,
        )
        self._numbers = iter(range(1000))

    def start(self, num_blocks: int) -> Sequence:
        """Have a prompt of so many blocks asked for, started and granted."""
        number = next(self._numbers)
        ids = tuple(number * 100 + at for at in range(num_blocks * BLOCK))
        sequence = Sequence(f"r{number}", 0, ids, Sampling(max_tokens=4), 1000)
        assert self.asking.take(sequence, [PEER], "always")
        self.courier.coming.append(Started(self.courier.asked[-1], PEER.incarnation))
        self.poll()
        assert self.courier.granted[-1].attempt == self.courier.asked[-1]
        return sequence

    def poll(self) -> None:
        self.asking.poll(self.now)

    def answer_aborts(self) -> None:
        self.courier.coming += [Aborted(attempt, PEER.incarnation) for attempt in self.courier.aborted]
        self.courier.aborted.clear()
        self.poll()


@pytest.fixture
def decode() -> Iterator[Decode]:
    decode = Decode()
    yield decode
    decode.pool.check()


def test_clients_that_leave_together_do_not_end_the_worker(decode: Decode) -> None:
    sequences = [decode.start(4) for _ in range(4)]
    for sequence in sequences:
        decode.asking.cancel(sequence)
    decode.poll()
    assert decode.pool.quarantined == decode.pool.capacity
    decode.answer_aborts()
    assert decode.pool.quarantined == 0
    decode.now += 2 * PATIENCE_S
    decode.poll()


def test_a_worker_whose_blocks_stay_in_quarantine_ends_with_a_sentence(decode: Decode) -> None:
    for _ in range(3):
        decode.asking.cancel(decode.start(4))
    decode.poll()
    decode.now += PATIENCE_S - 0.1
    decode.poll()
    assert decode.asking.deadline() == pytest.approx(100.0 + PATIENCE_S)
    decode.now += 0.2
    with pytest.raises(TransferError, match="12 of 16 KV blocks have been in quarantine for 30 s"):
        decode.poll()


def test_blocks_that_come_back_in_time_begin_the_wait_anew(decode: Decode) -> None:
    for _ in range(2):
        for _ in range(3):
            decode.asking.cancel(decode.start(4))
        decode.poll()
        decode.now += PATIENCE_S - 0.1
        decode.poll()
        decode.answer_aborts()
        assert decode.asking.deadline() is None


def test_half_of_the_blocks_may_stay_in_quarantine_for_good(decode: Decode) -> None:
    for _ in range(2):
        decode.asking.cancel(decode.start(4))
    for _ in range(3):
        decode.now += PATIENCE_S
        decode.poll()
    assert decode.pool.quarantined == 8
