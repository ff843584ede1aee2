"""What the courier tells the core; the core takes these with `Courier.poll`."""

from dataclasses import dataclass

from headrace_api.handoff import Admit, Attempt

# --- at a prefill worker ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """A decode worker wants a sequence prefilled: `Courier.open` or `Courier.refuse` it."""

    incarnation: str
    worker: str
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Stopped:
    """Compute no more of this attempt; its blocks stay until `Settled`."""

    attempt: str
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """No write reads the attempt's blocks any more; each attempt that was `Asked` is settled once."""

    attempt: str
    outcome: str
    """`admitted`, `aborted` or `refused`."""
    sent_bytes: int
    transfer_s: float
    exposed_s: float


# --- at a decode worker ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The prefill worker computes the attempt: reserve blocks and `Courier.grant` them to this incarnation."""

    attempt: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class Alive:
    """Signs of life for these attempts."""

    incarnation: str
    attempts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Admitted:
    """One source rank has written everything."""

    incarnation: str
    admit: Admit


@dataclass(frozen=True, slots=True)
class Refused:
    """The attempt has ended and nothing writes for it; `incarnation` is None when no prefill worker was reached."""

    attempt: str
    incarnation: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Aborted:
    """The answer to `Courier.abort`: nothing writes for this attempt any more."""

    attempt: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection to a prefill worker broke: give its attempts up; that proves nothing about its writes."""

    worker: str
    incarnation: str
    reason: str


@dataclass(frozen=True, slots=True)
class Returned:
    """A worker runs as a new incarnation: the process of the old one has gone, and so have its writes."""

    worker: str
    old: str
    new: str


# --- at both ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Down:
    """The courier's thread has ended by an error of its own; hand-offs are over for this process."""

    reason: str


Event = Asked | Stopped | Settled | Started | Alive | Admitted | Refused | Aborted | Lost | Returned | Down
