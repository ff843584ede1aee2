"""The protocol between a decode worker D and a prefill worker P.

D asks (`Attempt`); P says when it starts (`Starting`); only then D reserves fresh blocks and names them (`Grant`).
P writes KV into those blocks, watches every write to its end and sends one `Admit` per source rank as a notification
of the KV transport. Either side may end an attempt (`Abort`, `Refused`); P answers `Aborted` only once none of its
transfers for that attempt can still write. Peers show that they know the deployment's secret before any of this, and
`Hello`/`Welcome` compare the compatibility hash before the transport's metadata is decoded.
"""

import msgspec

from headrace_api.sampling import Sampling

PROTOCOL_VERSION = 2


class Layout(msgspec.Struct, frozen=True):
    """Where KV blocks lie: one tensor (layer, block, K/V, head, token, dim) at `base` on the owner's side."""

    base: int
    num_layers: int
    num_blocks: int
    block_bytes: int
    """Bytes of one block of one layer, keys and values together."""
    device: int = 0
    """CUDA ordinal where the tensor lies on a GPU."""
    first_layer: int = 0
    """Number, within the model, of the first layer that lies here."""
    first_head: int = 0
    """Number, within the model, of the first key/value head that lies here."""
    num_heads: int = 1
    """Key/value heads that share a block."""

    @property
    def head_bytes(self) -> int:
        """Bytes of the keys of one head in one block; its values have as many."""
        return self.block_bytes // (2 * self.num_heads)

    def offset(self, layer: int, block: int) -> int:
        """Return the byte offset of one block of one layer from `base`."""
        return (layer * self.num_blocks + block) * self.block_bytes


class Rank(msgspec.Struct, frozen=True, tag="rank"):
    """One of the ranks of a worker beside its first: where its part of the KV lies, and how to write there."""

    incarnation: str
    """Name of its transport: the worker's incarnation and `/` and the rank's number."""
    layout: Layout
    metadata: bytes


def leader_of(incarnation: str) -> str:
    """Return the incarnation of the worker that a rank's transport belongs to."""
    return incarnation.partition("/")[0]


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """D introduces itself to P; the first message on a connection, and again after either side restarted."""

    worker: str
    incarnation: str
    """Unique for each start of a worker: a new one proves that the old one's process has gone."""
    protocol: int
    kv_hash: str
    """Compatibility hash over model, revision, dtype, KV layout, block size, KV dtype and protocol version."""
    transport: str
    layout: Layout
    metadata: bytes
    """The transport's own, opaque; decoded only after `kv_hash` was found equal."""
    ranks: tuple[Rank, ...] = ()
    """The other ranks of D; `layout` and `metadata` are those of its first."""


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """P accepts D's hello and introduces itself."""

    worker: str
    incarnation: str
    kv_hash: str
    metadata: bytes


class Attempt(msgspec.Struct, frozen=True, tag="attempt"):
    """D asks P to prefill one sequence; a second attempt for the same sequence has another id."""

    attempt: str
    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    """Tokens generated before (a replay): part of the context, and kept apart from the prompt for penalties."""
    choice: int
    sampling: Sampling
    hit_tokens: int
    """Prefix that D holds now; advisory, the grant decides what is written."""
    queue_deadline_s: float
    """P drops the attempt (`Refused`) when it could not start within this time."""


class Starting(msgspec.Struct, frozen=True, tag="starting"):
    """P is about to run the attempt's first chunk (or already computes it); D may now reserve memory."""

    attempt: str


class Grant(msgspec.Struct, frozen=True, tag="grant"):
    """D's fresh blocks for this attempt; block `first_block + i` of the sequence goes to `blocks[i]`."""

    attempt: str
    first_block: int
    """Blocks of the sequence before this one are already on D and are not written."""
    blocks: tuple[int, ...]
    lease_s: float
    """P posts no write when more than this time has passed since the grant arrived, unless renewed."""


class Renew(msgspec.Struct, frozen=True, tag="renew"):
    """D extends the lease of a grant by `lease_s` from its arrival."""

    attempt: str
    lease_s: float


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """P's sign of life for its running attempts, sent every half second; silence beyond a deadline ends them."""

    attempts: tuple[str, ...]


class Abort(msgspec.Struct, frozen=True, tag="abort"):
    """D gives the attempt up; P stops computing and writing for it and answers `Aborted`."""

    attempt: str


class Aborted(msgspec.Struct, frozen=True, tag="aborted"):
    """No transfer of this attempt is running or will be posted; also the answer for an attempt P does not know."""

    attempt: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """P will not run the attempt (or fails it): nothing was written after this message was sent."""

    attempt: str
    """Empty when a hello is refused."""
    reason: str
    """A sentence: hashes differ (both named), queue full, deadline, draining, an error."""


class Admit(msgspec.Struct, frozen=True, tag="admit"):
    """All writes of one source rank have completed; travels as a notification of the KV transport."""

    attempt: str
    rank: int
    ranks: int
    first_token: int
    logprob: float
    margin: float
    top: tuple[tuple[int, float], ...]
    cached_tokens: int
    """Prompt tokens that P took from its own prefix cache."""
    exposed_s: float
    """Seconds from the end of the last layer's compute to the end of the last write."""
    spent_s: float = 0.0
    """GPU-seconds that P's steps spent on this prompt: the decode worker tells them as its own."""


Message = Hello | Welcome | Attempt | Starting | Grant | Renew | Alive | Abort | Aborted | Refused | Admit

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """Return the message as msgpack."""
    return _encoder.encode(message)


def decode(data: bytes) -> Message:
    """Return the message in `data`; raise msgspec.DecodeError or msgspec.ValidationError where it is none."""
    return _decoder.decode(data)


def pod_incarnation(pod: str, start: str) -> str:
    """Return the incarnation of a worker that runs in a pod: the pod's UID, and what differs from start to start."""
    return f"{pod}.{start}"


class Dead(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of `POST /handoff/dead` to a decode worker: whoever started processes vouches that they have ended.

    From then on their writes are impossible, and blocks that they might have written come back at once. The word is
    final, so say it only of what cannot run any more: a node that does not answer proves nothing. Exactly one is given.
    """

    incarnation: str | None = None
    """One start of one worker, as its `GET /handoff` named it."""
    pod: str | None = None
    """UID of a pod that is gone, or whose containers have ended and are not started again: every incarnation that
    `pod_incarnation` made of it. After a restart within a living pod name the ended incarnation instead, or nothing:
    the worker comes back under its own name and proves by itself that its former process has gone."""

    def __post_init__(self) -> None:
        if (self.incarnation is None) == (self.pod is None) or "" in (self.incarnation, self.pod):
            raise ValueError("name either an incarnation or a pod")

    def covers(self, incarnation: str) -> bool:
        """Whether that incarnation is among those that have ended."""
        if self.pod is not None:
            return incarnation.startswith(pod_incarnation(self.pod, ""))
        return incarnation == self.incarnation


def authorization(secret: str) -> str:
    """Return the header of that name for `POST /handoff/dead` and `POST /drain`, which ask for the deployment's secret.

    A false word about a process that lives would let it write into blocks that others use.
    """
    return f"Bearer {secret}"


class HandoffAddress(msgspec.Struct, frozen=True):
    """What a worker's `GET /handoff` answers: where and as whom its engine takes part in hand-offs."""

    worker: str
    role: str
    incarnation: str
    address: str
    """ZeroMQ endpoint of the engine's control socket."""
    kv_hash: str
