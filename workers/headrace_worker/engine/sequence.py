"""One choice of one request on its way through the engine: plain data, and what follows from it."""

import hashlib
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from enum import Enum

from headrace_api.sampling import Sampling


class Phase(Enum):
    """Where a sequence stands."""

    WAITING = "waiting"
    """Queued; holds no blocks."""
    REMOTE = "remote"
    """A prefill worker is asked or computes it; not scheduled here."""
    FETCHING = "fetching"
    """Blocks of its beginning are read from disk; holds none of the device."""
    RUNNING = "running"
    """Holds blocks; scheduled in every step."""
    HELD = "held"
    """Computed for another worker; its blocks are still being read by transfers."""
    FINISHED = "finished"


@dataclass(slots=True, eq=False)
class Sequence:
    """Tokens, the KV they have, and how to go on."""

    request: str
    choice: int
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    max_len: int
    """Most tokens of context, prompt and output together."""
    output_ids: list[int] = field(default_factory=list)
    priority: int = 0
    salt: str = ""
    attempt: str | None = None
    """On a prefill worker: the attempt it is computed for; it ends with its first token."""
    phase: Phase = Phase.WAITING
    arrival: int = 0
    computed: int = 0
    """Tokens whose KV is in `blocks`."""
    blocks: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    """Chain hashes of the context's full blocks, as far as they were needed."""
    registered: int = 0
    """Blocks at the front that went through the prefix index."""
    cached_tokens: int = 0
    """Prompt tokens that came out of a prefix cache when it was first admitted."""
    loaded: int = 0
    """Tokens that came from memory or disk below the device when it was last admitted."""
    doubted: bool = False
    """Whether it has led to no number once: from then on it computes its whole context itself."""
    opened: bool = False
    """Whether the front has had a token of it from this worker."""
    prefill: str = "local"
    """Who computed the prompt."""
    prefill_s: float = 0.0
    """GPU-seconds for the prompt that were not told yet; see `meter`."""
    decode_s: float = 0.0
    """The same for generated tokens."""

    @property
    def length(self) -> int:
        """Tokens of prompt and output."""
        return len(self.prompt_ids) + len(self.output_ids)

    @property
    def pending(self) -> int:
        """Tokens without KV; 1 while decoding."""
        return self.length - self.computed

    @property
    def borrowed(self) -> bool:
        """Whether some of its context was computed for others, or by others."""
        return self.cached_tokens > 0 or self.loaded > 0 or self.prefill != "local"

    @property
    def decoding(self) -> bool:
        """Whether only the newest token lacks KV, and it was generated here or resumed."""
        return self.pending == 1 and bool(self.output_ids)

    def tokens(self, start: int, stop: int) -> list[int]:
        """Return the ids of positions start to stop - 1 of the context."""
        size = len(self.prompt_ids)
        if stop <= size:
            return list(self.prompt_ids[start:stop])
        if start >= size:
            return self.output_ids[start - size : stop - size]
        return [*self.prompt_ids[start:], *self.output_ids[: stop - size]]

    def finish_reason(self) -> str | None:
        """Return why the newest token ends the sequence: `stop`, `length`, or None when it does not."""
        generated = len(self.output_ids)
        if generated >= max(1, self.sampling.min_tokens) and self.output_ids[-1] in self.sampling.stop_ids:
            return "stop"
        if generated >= self.sampling.max_tokens or self.length >= self.max_len:
            return "length"
        return None

    def block_hashes(self, count: int, block_size: int) -> list[bytes]:
        """Return the chain hashes of the first `count` full blocks, computing those not known yet."""
        while len(self.hashes) < count:
            at = len(self.hashes) * block_size
            parent = self.hashes[-1] if self.hashes else self.salt.encode()
            self.hashes.append(chain_hash(parent, self.tokens(at, at + block_size)))
        return self.hashes[:count]


def chain_hash(parent: bytes, tokens: Tokens[int]) -> bytes:
    """Return the hash of a block that follows `parent`: BLAKE2b, so equal in every process and hard to collide."""
    content = b"".join(token.to_bytes(4, "little") for token in tokens)
    return hashlib.blake2b(content, key=hashlib.blake2b(parent, digest_size=16).digest(), digest_size=16).digest()


def blocks_for(num_tokens: int, block_size: int) -> int:
    """Return how many blocks hold so many tokens."""
    return -(-num_tokens // block_size)
