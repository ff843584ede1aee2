"""How a sequence is sampled: the part of a request that front, prefill and decode all need."""

import msgspec


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Sampling of one choice; bounds are checked where a request enters (the worker's front)."""

    max_tokens: int
    """Most tokens to generate, at least 1."""
    min_tokens: int = 0
    """End tokens (`stop_ids`) are impossible before this many generated tokens."""
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps all."""
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    """Above 1 makes tokens of prompt and output less likely (CTRL, Keskar et al. 2019, section 4.1)."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0
    """Random numbers are a function of seed, choice and position only."""
    stop_ids: tuple[int, ...] = ()
    """Tokens that end the sequence: the model's end tokens (unless ignored) and the request's own."""
    top_logprobs: int | None = None
    """How many alternatives to report for each token; None reports none, 0 the chosen token's alone."""
