"""The writes of attempts on one rank: the rules of `source` meet the transport.

Runs on a courier's thread. Who the peers are and who is told what is the owner's business: it gets every action that is
no write.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from headrace_api.handoff import Hello
from headrace_worker.errors import TransferError
from headrace_worker.transfer.source import Action, PostWrite, Source, Terms
from headrace_worker.transfer.transport import Transport, Write

Peer = TypeVar("Peer")


class Ready(Protocol):
    """A CUDA event, as far as the courier needs one."""

    def query(self) -> bool:
        """Return whether the work before the event has ended."""


@dataclass(frozen=True, slots=True)
class Computed:
    """The core says: blocks from number `first` of the sequence on lie in our `blocks`, in these layers of ours."""

    attempt: str
    layers: range
    first: int
    blocks: Sequence[int]
    moment_s: float


@dataclass(slots=True, eq=False)
class Job(Generic[Peer]):
    """One attempt, whom it is for, and its writes in flight."""

    source: Source
    peer: Peer
    incarnation: str
    """Of the peer."""
    writes: dict[Write, int] = field(default_factory=dict)
    gates: deque[tuple[Ready | None, Callable[[], list[Action]]]] = field(default_factory=deque)
    """What the core said, in order, from the first entry whose event has not come yet."""


class Writing(Generic[Peer]):
    """Posts what jobs want written and watches it to its end.

    Args:
        transport: to write with.
        clock: monotonic seconds.
        act: performs an action that is no write.
        broken: told of a job whose write has failed.
    """

    def __init__(
        self,
        transport: Transport,
        clock: Callable[[], float],
        *,
        act: Callable[[Job[Peer], Action], None],
        broken: Callable[[Job[Peer], TransferError], None],
    ) -> None:
        self.jobs: dict[str, Job[Peer]] = {}
        self._transport = transport
        self._clock = clock
        self._act = act
        self._broken = broken

    @property
    def busy(self) -> bool:
        """Whether writes or events must be watched closely."""
        return any(job.writes or job.gates for job in self.jobs.values())

    def ready(self, computed: Computed, event: Ready | None) -> None:
        """Take blocks that are ready, or will be once `event` has come."""
        if (job := self.jobs.get(computed.attempt)) is None:
            return
        source, clock = job.source, self._clock

        def say() -> list[Action]:
            computed_s = computed.moment_s if event is None else clock()
            return source.ready(computed.layers, computed.first, computed.blocks, computed_s, clock())

        self.gate(job, event, say)

    def gate(self, job: Job[Peer], event: Ready | None, say: Callable[[], list[Action]]) -> None:
        """Say something to a job once the event has come, and all events before it."""
        job.gates.append((event, say))
        self._open_gates(job)

    def perform(self, job: Job[Peer], actions: Sequence[Action]) -> None:
        """Perform what a source wants."""
        for action in actions:
            if isinstance(action, PostWrite):
                self._post(job, action)
            else:
                self._act(job, action)

    def watch(self) -> None:
        """See which events have come and which writes have ended."""
        for job in list(self.jobs.values()):
            self._open_gates(job)
            self._check_writes(job)

    def tick(self) -> None:
        """Act on deadlines."""
        for job in list(self.jobs.values()):
            self.perform(job, job.source.tick(self._clock()))

    def _open_gates(self, job: Job[Peer]) -> None:
        while job.gates and ((event := job.gates[0][0]) is None or event.query()):
            self.perform(job, job.gates.popleft()[1]())

    def _post(self, job: Job[Peer], action: PostWrite) -> None:
        try:
            write = self._transport.write(action.to or job.incarnation, action.spans)
        except TransferError as error:
            self._failed(job, action.number, error)
            return
        job.writes[write] = action.number
        self._check_writes(job)

    def _check_writes(self, job: Job[Peer]) -> None:
        for write, number in list(job.writes.items()):
            try:
                ended = self._transport.done(write)
            except TransferError as error:
                del job.writes[write]
                self._failed(job, number, error)
                continue
            if ended:
                del job.writes[write]
                self.perform(job, job.source.write_done(number, self._clock()))

    def _failed(self, job: Job[Peer], number: int, error: TransferError) -> None:
        self._broken(job, error)
        self.perform(job, job.source.write_failed(number, str(error), self._clock()))


def connect(transport: Transport, hello: Hello, terms: Terms) -> None:
    """Make those ranks of a decode worker known that this rank writes to, and the first, which it notifies."""
    wanted = {way.incarnation for way in terms.ways}
    transport.connect(hello.incarnation, hello.metadata, hello.layout)
    for rank in hello.ranks:
        if rank.incarnation in wanted:
            transport.connect(rank.incarnation, rank.metadata, rank.layout)


def disconnect(transport: Transport, incarnation: str, terms: Terms) -> None:
    """Forget all ranks of a decode worker."""
    for name in sorted({incarnation, *(way.incarnation for way in terms.ways)}):
        transport.disconnect(name)
