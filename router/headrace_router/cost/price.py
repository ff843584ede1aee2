"""What a request costs, from what it used and the price of its tier (pure)."""

import dataclasses

from headrace_api.resources.money import Price
from headrace_router.cost.money import to_nano

_HOUR_S = 3600.0
_MILLION = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """What a request used, as far as it is known; GPU-seconds are its share of the workers' steps."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt tokens."""
    completion_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    lost_s: float = 0.0
    """GPU-seconds of attempts that failed and of prompts computed again for a replay: nobody is billed for them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What a request costs its tenant, and what it did to the tier's GPUs beside; in billionths."""

    prefill: int = 0
    decode: int = 0
    lost: int = 0
    """Cost that is nobody's bill: failed attempts and replays."""
    saving: int = 0
    """What the prompt tokens that came out of a cache would have cost beside; not part of the total."""

    @property
    def total(self) -> int:
        """What the tenant pays."""
        return self.prefill + self.decode


@dataclasses.dataclass(frozen=True, slots=True)
class Tariff:
    """A price in billionths: by GPU-second or by token, never both."""

    gpu_hour: int | None
    input_million: int = 0
    cached_million: int = 0
    output_million: int = 0

    def cost(self, usage: Usage) -> Cost:
        """Return what the usage costs."""
        fresh = usage.prompt_tokens - usage.cached_tokens
        if self.gpu_hour is None:
            return Cost(
                prefill=_tokens(fresh, self.input_million) + _tokens(usage.cached_tokens, self.cached_million),
                decode=_tokens(usage.completion_tokens, self.output_million),
                saving=_tokens(usage.cached_tokens, self.input_million - self.cached_million),
            )
        saved_s = usage.prefill_s * usage.cached_tokens / fresh if fresh > 0 else 0.0
        return Cost(
            prefill=self._seconds(usage.prefill_s),
            decode=self._seconds(usage.decode_s),
            lost=self._seconds(usage.lost_s),
            saving=self._seconds(saved_s),
        )

    def _seconds(self, seconds: float) -> int:
        assert self.gpu_hour is not None
        return round(seconds * self.gpu_hour / _HOUR_S)


FREE = Tariff(None)
"""Of a tier without a price."""


def tariff(price: Price | None) -> Tariff:
    """Return a price as numbers to reckon with."""
    if price is None:
        return FREE
    if price.gpu_hour is not None:
        return Tariff(to_nano(price.gpu_hour))
    assert price.input_tokens is not None
    assert price.output_tokens is not None
    cached = price.input_tokens if price.cached_input_tokens is None else price.cached_input_tokens
    return Tariff(None, to_nano(price.input_tokens), to_nano(cached), to_nano(price.output_tokens))


def _tokens(count: int, per_million: int) -> int:
    """Return the price of tokens, rounded half up in whole numbers: the same on every machine."""
    return (2 * count * per_million + _MILLION) // (2 * _MILLION)
