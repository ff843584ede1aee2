"""What a request may cost at most, before it runs (pure).

By token the bound is a real one: a token is at least a byte, and no more are generated than were asked for. By the
hour it is a guess from what requests took so far, and a request that outgrows it reserves more while it runs.
"""

import dataclasses

from headrace_router.cost.budget import Purse
from headrace_router.cost.price import Tariff, Usage

UNSTATED_TOKENS = 256
"""Reserved at first for a request that names no limit; its answer reserves more as it grows."""
_SAFETY = 1.5
_WEIGHT = 0.1
"""Of the newest request in the running means."""


@dataclasses.dataclass(frozen=True, slots=True)
class Terms:
    """What a request says about its size and its cost."""

    body_bytes: int
    max_tokens: int | None
    choices: int = 1
    own: Purse | None = None
    """The budget that it sets for itself."""

    @property
    def tokens(self) -> int:
        """Tokens to reserve for, over all choices."""
        return max(0, UNSTATED_TOKENS if self.max_tokens is None else self.max_tokens) * max(1, self.choices)


@dataclasses.dataclass(slots=True)
class Paces:
    """How long prompts and tokens of one model took so far, in GPU-seconds."""

    prefill_s_per_byte: float
    decode_s_per_token: float

    def learn(self, terms: Terms, usage: Usage) -> None:
        """Take in a finished request."""
        if usage.prefill_s > 0 and terms.body_bytes > 0:
            self.prefill_s_per_byte += _WEIGHT * (usage.prefill_s / terms.body_bytes - self.prefill_s_per_byte)
        if usage.decode_s > 0 and usage.completion_tokens > 1:
            self.decode_s_per_token += _WEIGHT * (usage.decode_s / usage.completion_tokens - self.decode_s_per_token)

    def bound(self, tariff: Tariff, terms: Terms) -> int:
        """Return what to reserve for a request, in billionths."""
        usage = Usage(
            prompt_tokens=terms.body_bytes,
            completion_tokens=terms.tokens,
            prefill_s=_SAFETY * terms.body_bytes * self.prefill_s_per_byte,
            decode_s=_SAFETY * terms.tokens * self.decode_s_per_token,
        )
        return tariff.cost(usage).total
