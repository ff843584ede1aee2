"""What the worker's front (process 1) and its engine core (process 2) say to each other, as msgpack over ZeroMQ.

The front knows text; the core knows token ids only.
"""

import msgspec

from headrace_api.frames import Token
from headrace_api.handoff import Dead
from headrace_api.sampling import Sampling


class PrefillPeer(msgspec.Struct, frozen=True, array_like=True):
    """A prefill worker that may serve a request, as the front resolved it."""

    worker: str
    address: str
    """ZeroMQ endpoint of its engine."""
    incarnation: str


class Choice(msgspec.Struct, frozen=True, array_like=True):
    """One of the `n` answers of a request; `output_ids` is not empty when an answer is resumed elsewhere."""

    index: int
    output_ids: tuple[int, ...] = ()


class Generate(msgspec.Struct, frozen=True, tag="generate", kw_only=True):
    """Front to core: run a request."""

    request: str
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    """`max_tokens` counts tokens already in `output_ids` too."""
    choices: tuple[Choice, ...] = (Choice(0),)
    peers: tuple[PrefillPeer, ...] = ()
    """Prefill workers, best first; empty: prefill here."""
    disaggregate: str = "auto"
    """`auto`: prefill here when what is left after the prefix hit is short; `always`; `never`."""
    priority: int = 0
    """Lower runs first."""
    salt: str = ""
    """Keeps the prefix caches of tenants apart."""


class Finish(msgspec.Struct, frozen=True, tag="finish"):
    """Front to core: this choice has ended (a stop string), free it; nothing more is reported for it."""

    request: str
    choice: int


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Front to core: the client has gone; free everything of the request within one step."""

    request: str


class PeerDead(msgspec.Struct, frozen=True, tag="peer_dead"):
    """Front to core: the backend saw processes end; their writes are impossible from now on."""

    dead: Dead


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    """Front to core: end now; what still runs is aborted."""


class Embed(msgspec.Struct, frozen=True, tag="embed"):
    """Front to core of an encoder: return a vector for each text; `Cancel` ends it too."""

    request: str
    texts: tuple[tuple[int, ...], ...]
    """Ids of each, special tokens included."""


ToCore = Generate | Embed | Finish | Cancel | PeerDead | Shutdown


class Output(msgspec.Struct, frozen=True, array_like=True):
    """New tokens of one choice, in order; `finish` is `stop` (an end token), `length` or None."""

    request: str
    choice: int
    tokens: tuple[Token, ...]
    finish: str | None = None
    prefill: str | None = None
    """With the first token: the prefill worker's name, or `local`."""
    cached_tokens: int = 0
    """With the first token: prompt tokens that were not computed for this choice."""
    prefill_s: float = 0.0
    """GPU-seconds since the last output of this choice that went into its prompt; see `engine.meter`."""
    decode_s: float = 0.0
    """The same for its generated tokens."""


class Outputs(msgspec.Struct, frozen=True, tag="outputs"):
    """Core to front: what one step made."""

    outputs: tuple[Output, ...]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Core to front: the request has ended without an answer."""

    request: str
    kind: str
    """`invalid` (the client's fault, 400), `overloaded` (503) or `internal` (500)."""
    message: str


class Loading(msgspec.Struct, frozen=True, tag="loading"):
    """Core to front, while it starts: bytes of weights read so far."""

    done: int
    total: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Core to front, once: the model is loaded and steps can run."""

    handoff_address: str
    kv_hash: str
    num_blocks: int
    block_size: int
    max_model_len: int
    """Most tokens of context, prompt and output together."""
    kv_bytes: int


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    """Core to front: the core ends; `message` is a sentence for the user."""

    message: str
    permanent: bool = False
    """Another start would end in the same way."""


class Stats(msgspec.Struct, frozen=True, tag="stats", kw_only=True):
    """Core to front, after steps and when idle (at most ten a second): gauges, and counters since the start."""

    running: int
    waiting: int
    waiting_prompt_tokens: int
    remote: int = 0
    """Of those waiting: the ones whose prompt is with a prefill worker."""
    blocks: dict[str, int]
    """By state, the keys of `names.BLOCK_STATES`."""
    counters: dict[str, int]
    """Keys: prompt_computed, prompt_cached, prompt_loaded, prompt_received, generated, preemptions, bytes_sent,
    bytes_received, handoff_admitted, handoff_aborted, handoff_refused, handoff_timed_out, gpu_load_ns, gpu_prefill_ns,
    gpu_decode_ns, gpu_idle_ns, gpu_lost_ns."""
    offload: dict[str, int] = {}
    """Of the tiers below the device, by TIER_NAME (`names.OFFLOAD_TIERS`, `names.OFFLOAD_EVENTS`, bytes, capacity)."""
    experts: dict[int, list[int]] = {}
    """By layer, of those that rank 0 holds: the tokens that went to each expert since the start."""
    step_s: tuple[float, ...] = ()
    """Durations of the steps since the last Stats."""
    transfer_s: tuple[float, ...] = ()
    """Durations of the transfers (first write to last end) that ended since the last Stats (prefill side)."""
    exposed_s: tuple[float, ...] = ()
    """Exposed hand-off times since the last Stats (decode side)."""


class Embedded(msgspec.Struct, frozen=True, tag="embedded"):
    """Core to front: the vectors of a request's texts, in order, each as little-endian float32."""

    request: str
    vectors: tuple[bytes, ...]


ToFront = Outputs | Embedded | Failed | Loading | Ready | Broken | Stats
