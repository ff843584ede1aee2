"""What one request has used so far, as the frames of its answer say it (pure)."""

import dataclasses

from headrace_api import frames
from headrace_router.cost.price import Usage


@dataclasses.dataclass(slots=True)
class Meter:
    """Adds up frames; what a replay computes again is kept apart."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    lost_s: float = 0.0
    replaying: bool = False
    """Another worker has taken over: its prompt was computed, and is paid for, already."""

    def take(self, head: frames.FrameHead) -> None:
        """Add one frame."""
        self.completion_tokens += len(head.tokens)
        self.decode_s += head.decode_s
        if self.replaying:
            self.lost_s += head.prefill_s
        else:
            self.prefill_s += head.prefill_s
            self.prompt_tokens += head.prompt_tokens
            self.cached_tokens += head.cached_tokens if head.prompt_tokens else 0
        if head.usage is not None:
            self.count(head.usage)

    def count(self, usage: frames.Usage) -> None:
        """Take the counts at the end of an answer for what was added up."""
        self.prompt_tokens = usage.prompt_tokens
        self.cached_tokens = usage.cached_tokens
        self.completion_tokens = usage.completion_tokens

    @property
    def idle(self) -> bool:
        """Whether nothing was computed."""
        return not (self.completion_tokens or self.prefill_s or self.decode_s or self.lost_s)

    def usage(self) -> Usage:
        """Return what was used so far."""
        return Usage(
            self.prompt_tokens,
            self.cached_tokens,
            self.completion_tokens,
            self.prefill_s,
            self.decode_s,
            self.lost_s,
        )
