"""What every KV transport does: one-sided writes into a peer's KV memory, watched to their end, and notifications."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NewType

from headrace_api.handoff import Layout

Write = NewType("Write", int)
"""A write that was started; the number is the transport's own."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes to copy: `size` bytes from offset `local` of our KV memory to offset `remote` of the peer's."""

    local: int
    remote: int
    size: int


@dataclass(frozen=True, slots=True)
class Notification:
    """A message that a peer sent over the transport; `sender` is the incarnation that the transport saw."""

    sender: str
    payload: bytes


class Transport(ABC):
    """Writes into peers' memory and notifies them.

    All methods are called on one thread, the courier's, and none may block for longer than its copy takes. Failures
    are `TransferError`. A write that cannot be proved to have ended is never reported as failed: `done` answers False
    until it can be, because the caller frees memory on the strength of it.
    """

    name: ClassVar[str]
    """As in `Hello.transport`; both sides must use the same."""

    @abstractmethod
    def register(self, address: int, size: int, device: int | None) -> None:
        """Announce the KV memory, once and before `metadata`; `device` None is host memory, else a CUDA ordinal."""

    @abstractmethod
    def metadata(self) -> bytes:
        """Return what a peer needs to write into our memory; opaque to all but this transport."""

    @abstractmethod
    def connect(self, incarnation: str, metadata: bytes, layout: Layout) -> None:
        """Make a peer known, so that it can be written to; `metadata` is trusted, so compare hashes first."""

    @abstractmethod
    def disconnect(self, incarnation: str) -> None:
        """Forget a peer; its running writes end as failed. Unknown peers are ignored."""

    @abstractmethod
    def write(self, incarnation: str, spans: Sequence[Span]) -> Write:
        """Start one write of all `spans`; may copy in the calling thread. A raised error means nothing was started."""

    @abstractmethod
    def done(self, write: Write) -> bool:
        """Return whether the write completed; raise TransferError once it has failed and can no longer write.

        After True or an error the write is forgotten.
        """

    @abstractmethod
    def notify(self, incarnation: str, payload: bytes) -> None:
        """Send a message that the peer sees only after every write to it that was `done` before."""

    @abstractmethod
    def notifications(self) -> list[Notification]:
        """Return what peers sent since the last call."""

    @abstractmethod
    def close(self) -> None:
        """End everything: no thread, descriptor or shared memory is left. A second call does nothing."""
