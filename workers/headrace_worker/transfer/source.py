"""One attempt at its prefill worker: what has been computed, what may be written, what has ended.

Pure: times come in as arguments, actions go out as values. The rules of block safety that concern the writing side are
here: nothing is posted before the grant or after the lease, the end of an attempt is announced only when no write is in
flight, and the admission only when every block of every layer has arrived.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from headrace_api.frames import Token
from headrace_api.handoff import Admit, Grant, Layout
from headrace_worker.transfer.routes import Route, straight
from headrace_worker.transfer.runs import merge
from headrace_worker.transfer.transport import Span


@dataclass(frozen=True, slots=True)
class PostWrite:
    """Start one write; its end is reported by `write_done` or `write_failed` with this number."""

    number: int
    spans: tuple[Span, ...]
    to: str = ""
    """Which rank of D, by its transport's name; empty: the only one."""


@dataclass(frozen=True, slots=True)
class SendAdmit:
    """Notify D that all of its blocks are there."""

    admit: Admit


@dataclass(frozen=True, slots=True)
class SendAborted:
    """Tell D, which gave the attempt up, that nothing writes any more."""


@dataclass(frozen=True, slots=True)
class SendRefused:
    """Tell D that we gave the attempt up and that nothing writes any more."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The core should compute no more of this attempt."""

    reason: str


@dataclass(frozen=True, slots=True)
class Settle:
    """No write reads our blocks any more: they may be freed once their compute has ended too."""

    outcome: str
    """`admitted`, `aborted` (by D) or `refused` (by us)."""


Action = PostWrite | SendAdmit | SendAborted | SendRefused | Stop | Settle


@dataclass(slots=True)
class Piece:
    """Blocks that became ready together, and when: times of the injected clock."""

    layers: range
    first: int
    blocks: tuple[int, ...]
    computed_s: float
    size_bytes: int = 0
    posted_s: float | None = None
    ended_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Ending:
    action: SendAborted | SendRefused | None
    outcome: str


@dataclass(slots=True)
class _Covered:
    """Which of the granted blocks have been posted, a bit for each, layer by layer."""

    layers: list[int]
    all: int = 0

    def add(self, layers: range, mask: int) -> None:
        for layer in layers:
            self.layers[layer] |= mask

    @property
    def complete(self) -> bool:
        return all(layer == self.all for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Terms:
    """What every attempt between this rank and one peer shares."""

    local: Layout
    remote: Layout
    """Of the peer's first rank; all of its ranks have as many blocks."""
    rank: int = 0
    ranks: int = 1
    routes: tuple[Route, ...] | None = None
    """None: one rank on both sides."""

    @property
    def ways(self) -> tuple[Route, ...]:
        """What this rank writes where."""
        return (straight(self.local, self.remote),) if self.routes is None else self.routes


class Source:
    """The state of one attempt.

    Args:
        attempt: its id.
        terms: layouts of both sides.
        queue_deadline_s: how long it may wait to be started, and then for its grant.
        now: when it was asked for.
        branches: other ranks of this worker that write for the attempt; this one settles after them.
    """

    def __init__(self, attempt: str, terms: Terms, *, queue_deadline_s: float, now: float, branches: int = 0) -> None:
        self.attempt = attempt
        self.pieces: list[Piece] = []
        self.opened_s = now
        self.started_s: float | None = None
        self.granted_s: float | None = None
        self.finished_s: float | None = None
        self._terms = terms
        self._patience_s = queue_deadline_s
        self._grant: Grant | None = None
        self._lease_until = 0.0
        self._waiting: list[Piece] = []
        self._flying: dict[int, list[Piece]] = {}
        self._numbers = count(1)
        self._covered = _Covered([0] * terms.local.num_layers)
        self._token: Token | None = None
        self._cached_tokens = 0
        self._spent_s = 0.0
        self._ending: _Ending | None = None
        self._branches = branches
        self._branch_bytes = 0
        self._admitted = False
        self.settled = False

    @property
    def ending(self) -> bool:
        """Whether the attempt has been given up; it settles when its last write has ended."""
        return self._ending is not None

    @property
    def sent_bytes(self) -> int:
        """Bytes of completed and running writes."""
        return self._branch_bytes + sum(piece.size_bytes for piece in self.pieces)

    @property
    def transfer_s(self) -> float:
        """Seconds from the first post to the last end."""
        written = self._written()
        return max(end for _, end in written) - min(post for post, _ in written) if written else 0.0

    @property
    def exposed_s(self) -> float:
        """Seconds by which the last write outlived the last layer's compute: what the hand-off added."""
        written = self._written()
        if not written:
            return 0.0
        return max(0.0, max(end for _, end in written) - max(piece.computed_s for piece in self.pieces))

    def _written(self) -> list[tuple[float, float]]:
        return [
            (piece.posted_s, piece.ended_s)
            for piece in self.pieces
            if piece.size_bytes and piece.posted_s is not None and piece.ended_s is not None
        ]

    # --- what the core says ------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Action]:
        """The core runs the attempt's first chunk."""
        if self.started_s is None:
            self.started_s = now
        return []

    def ready(self, layers: range, first: int, blocks: Sequence[int], computed_s: float, now: float) -> list[Action]:
        """Blocks `[first, first + len(blocks))` of the sequence lie in our `blocks` since `computed_s`."""
        if self._ending is not None or self.settled or not blocks:
            return []
        piece = Piece(layers, first, tuple(blocks), computed_s)
        self.pieces.append(piece)
        self._waiting.append(piece)
        return self._advance(now)

    def finish(self, token: Token, cached_tokens: int, now: float, spent_s: float = 0.0) -> list[Action]:
        """Compute is over; `token` follows the context, which took `spent_s` GPU-seconds."""
        if self._ending is not None or self.settled:
            return []
        self._token = token
        self._cached_tokens = cached_tokens
        self._spent_s = spent_s
        self.finished_s = now
        return self._advance(now)

    def refuse(self, reason: str, now: float) -> list[Action]:
        """We give up: an error, a full queue, a deadline."""
        return self._end(_Ending(SendRefused(reason), "refused"), reason, now)

    # --- what the peer says ------------------------------------------------------------------------------------------

    def grant(self, grant: Grant, now: float) -> list[Action]:
        """D names its blocks. A second grant, and one after the end, is ignored."""
        if self._grant is not None or self._ending is not None or self.settled:
            return []
        if not _sound(grant, self._terms.remote.num_blocks):
            return self.refuse("the grant names blocks that the decode worker does not have, or one of them twice", now)
        self._grant = grant
        self.granted_s = now
        self._lease_until = now + grant.lease_s
        self._covered.all = (1 << len(grant.blocks)) - 1
        return self._advance(now)

    def renew(self, lease_s: float, now: float) -> list[Action]:
        """D extends the lease; one that has run out stays so."""
        if self._grant is None or now > self._lease_until:
            return self.tick(now)
        self._lease_until = max(self._lease_until, now + lease_s)
        return []

    def abort(self, now: float) -> list[Action]:
        """D gives up."""
        if self._ending is not None and not self.settled:
            # D wants the answer to its own message, whatever ended the attempt first.
            self._ending = _Ending(SendAborted(), self._ending.outcome)
            return self._advance(now)
        return self._end(_Ending(SendAborted(), "aborted"), "the decode worker gave the attempt up", now)

    def gone(self, now: float) -> list[Action]:
        """D cannot be reached any more; nobody is told."""
        return self._end(_Ending(None, "aborted"), "the decode worker has gone", now)

    # --- what the transport says -------------------------------------------------------------------------------------

    def write_done(self, number: int, now: float) -> list[Action]:
        """A write has completed."""
        for piece in self._flying.pop(number):
            piece.ended_s = now
        return self._advance(now)

    def write_failed(self, number: int, reason: str, now: float) -> list[Action]:
        """A write has failed and can no longer land."""
        for piece in self._flying.pop(number):
            piece.ended_s = now
        if self._ending is not None:
            return self._advance(now)
        return self.refuse(f"KV could not be written: {reason}", now)

    # --- what the other ranks say ------------------------------------------------------------------------------------

    def branch_ended(self, sent_bytes: int, reason: str | None, now: float) -> list[Action]:
        """Another rank writes no more for the attempt; with a reason it has given up by itself."""
        self._branches -= 1
        self._branch_bytes += sent_bytes
        if reason is not None and self._ending is None and not self.settled:
            return self.refuse(reason, now)
        return self._advance(now)

    def tick(self, now: float) -> list[Action]:
        """Act on deadlines."""
        if self._ending is not None or self.settled:
            return []
        if self._grant is not None:
            if now > self._lease_until:
                return self.refuse(f"the lease of {self._grant.lease_s:g} s ran out without a renewal", now)
        elif now > (self.opened_s if self.started_s is None else self.started_s) + self._patience_s:
            what = "could not be started" if self.started_s is None else "got no blocks granted"
            return self.refuse(f"the attempt {what} within {self._patience_s:g} s", now)
        return []

    # --- rules -------------------------------------------------------------------------------------------------------

    def _end(self, ending: _Ending, reason: str, now: float) -> list[Action]:
        if self.settled or self._ending is not None:
            return []
        self._ending = ending
        self._waiting.clear()
        return [Stop(reason), *self._advance(now)]

    def _advance(self, now: float) -> list[Action]:
        if self.settled:
            return []
        if self._ending is not None:
            waits = self._flying or self._branches
            return [] if waits else self._settle(self._ending.action, self._ending.outcome)
        if self._grant is None:
            return []
        return self._post(now) if self._waiting else self._complete(now)

    def _complete(self, now: float) -> list[Action]:
        if self._token is None or self._flying:
            return []
        if not self._covered.complete:
            return self.refuse("not all granted blocks were computed; this is a bug of the prefill worker", now)
        if not self._branches:
            return self._settle(None if self._admitted else SendAdmit(self._admit(self._token)), "admitted")
        if self._admitted:
            return []
        self._admitted = True
        return [SendAdmit(self._admit(self._token))]

    def _post(self, now: float) -> list[Action]:
        """Write all that is ready as one transfer to each rank of D: what waited for the grant goes together."""
        assert self._grant is not None
        if now > self._lease_until:
            return self.tick(now)
        pieces, self._waiting = self._waiting, []
        wanted: dict[str, list[Span]] = {}
        for piece in pieces:
            for to, placed in self._place(piece, self._grant, now):
                wanted.setdefault(to, []).extend(placed)
        actions: list[Action] = []
        for to, found in wanted.items():
            number = next(self._numbers)
            self._flying[number] = pieces
            actions.append(PostWrite(number, tuple(found), to))
        return actions or self._advance(now)

    def _place(self, piece: Piece, grant: Grant, now: float) -> list[tuple[str, list[Span]]]:
        """Return the piece's spans within the grant for each rank of D, and mark its blocks as posted."""
        begin = max(piece.first, grant.first_block)
        end = min(piece.first + len(piece.blocks), grant.first_block + len(grant.blocks))
        piece.posted_s = now
        if begin >= end:
            piece.ended_s = now
            return []
        ours = piece.blocks[begin - piece.first : end - piece.first]
        theirs = grant.blocks[begin - grant.first_block : end - grant.first_block]
        self._covered.add(piece.layers, ((1 << (end - begin)) - 1) << (begin - grant.first_block))
        merged, local = tuple(merge(zip(ours, theirs, strict=True))), self._terms.local
        placed = [
            (way.incarnation, [span for layer in piece.layers for span in way.spans(merged, layer, local)])
            for way in self._terms.ways
        ]
        piece.size_bytes = sum(span.size for _, found in placed for span in found)
        if not piece.size_bytes:
            piece.ended_s = now
        return [(to, found) for to, found in placed if found]

    def _settle(self, action: SendAdmit | SendAborted | SendRefused | None, outcome: str) -> list[Action]:
        self.settled = True
        return [Settle(outcome)] if action is None else [action, Settle(outcome)]

    def _admit(self, token: Token) -> Admit:
        return Admit(
            attempt=self.attempt,
            rank=self._terms.rank,
            ranks=self._terms.ranks,
            first_token=token.id,
            logprob=token.logprob,
            margin=token.margin,
            top=token.top,
            cached_tokens=self._cached_tokens,
            exposed_s=self.exposed_s,
            spent_s=self._spent_s,
        )


def _sound(grant: Grant, num_blocks: int) -> bool:
    in_range = all(0 <= block < num_blocks for block in grant.blocks)
    return in_range and grant.first_block >= 0 and len(set(grant.blocks)) == len(grant.blocks)
