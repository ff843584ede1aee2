"""What workers have to do, by their own count."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Load:
    """What one worker says of itself."""

    running: float = 0.0
    """Sequences in its current step."""
    waiting: float = 0.0
    """Requests that wait for room in its steps; not those whose prompt another worker has."""
    waiting_tokens: float = 0.0
    """Tokens of prompts that wait."""
    used: float = 0.0
    """Share of its KV blocks that cannot be evicted, 0 to 1."""
    ended: float = 0.0
    """Requests that have ended since it started: one may come and go between two looks."""


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """What the workers of one pool have to do together."""

    workers: int = 0
    """That said it."""
    running: float = 0.0
    busy: float = 0.0
    """Workers with anything in their step."""
    waiting: float = 0.0
    waiting_tokens: float = 0.0
    used: float = 0.0
    """Sum of the shares of KV blocks in use: 1.5 would fill one worker and half of another."""
    ended: float = 0.0
    is_known: bool = True
    """Every worker that serves was heard; else there may be more to do than is told here."""

    @property
    def asks(self) -> bool:
        """Whether anything is to do."""
        return bool(self.running or self.waiting or self.waiting_tokens)

    @classmethod
    def of(cls, loads: Iterable[Load | None]) -> Self:
        """Return the sum; None stands for a worker that serves and does not say what it has to do."""
        workers, running, busy, waiting, tokens, used, ended, is_known = 0, 0.0, 0, 0.0, 0.0, 0.0, 0.0, True
        for load in loads:
            if load is None:
                is_known = False
                continue
            workers += 1
            running += load.running
            busy += load.running > 0
            waiting += load.waiting
            tokens += load.waiting_tokens
            used += load.used
            ended += load.ended
        return cls(workers, running, busy, waiting, tokens, used, ended, is_known)
