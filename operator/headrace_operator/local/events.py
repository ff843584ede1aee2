"""What happens to the processes, for whoever tells the user."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Started:
    """A process was started; `restart` unless it is the first of its name."""

    name: str
    pid: int
    restart: bool


@dataclass(frozen=True, slots=True)
class BecameReady:
    """A process can serve; `after_s` since it was started or since it stopped answering."""

    name: str
    after_s: float


@dataclass(frozen=True, slots=True)
class BecameUnready:
    """A process that was ready cannot serve now."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A process ended unasked and will be started again after `pause_s`; `lines` are the last ones of its log."""

    name: str
    reason: str
    pause_s: float
    failures: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drained:
    """A process ended as asked; `overdue` when its drain took too long and it was killed."""

    name: str
    overdue: bool


@dataclass(frozen=True, slots=True)
class HandoffVerified:
    """A trial hand-off worked: so many bytes of KV went from one to the other; `took_s` for the whole request."""

    prefill: str
    decode: str
    size_bytes: int
    took_s: float


@dataclass(frozen=True, slots=True)
class HandoffFailed:
    """A trial hand-off did not work; it is tried again."""

    prefill: str
    decode: str
    reason: str


Event = Started | BecameReady | BecameUnready | Ended | Drained | HandoffVerified | HandoffFailed
