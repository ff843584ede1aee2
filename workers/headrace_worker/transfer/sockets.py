"""A transport on plain TCP, for systems without NIXL and for tests of the protocol.

The owner of the memory runs a receiver thread for each connection, which checks the bounds of a write and reads its
bytes straight into the registered memory; then it acknowledges. A sender thread for each peer sends one frame at a
time and waits for its acknowledgement, so notifications come after the writes before them.

When a connection breaks, bytes of an unacknowledged write may still lie in the receiver's buffers. Such a write counts
as running until the sender has a new connection (the receiver ends the old one before it accepts), or finds nobody
listening any more. The connection is authenticated by the shared secret, not encrypted.
"""

import ctypes
from collections.abc import Sequence
from itertools import count
from typing import ClassVar

import msgspec

from headrace_api.handoff import Layout
from headrace_worker.errors import TransferError
from headrace_worker.transfer.receiver import Receiver
from headrace_worker.transfer.sender import Frame, Sender
from headrace_worker.transfer.transport import Notification, Span, Transport, Write


class Address(msgspec.Struct, frozen=True, array_like=True):
    """The transport's metadata."""

    host: str
    port: int


class SocketTransport(Transport):
    """One receiver for our memory, one sender for each peer.

    Args:
        incarnation: ours.
        host: address to listen on.
        advertise: address that peers are told; default: `host`.
        secret: shared by all peers; each proves that it knows it.
        deadline_s: how long a peer may keep one frame waiting before the connection is given up.
    """

    name: ClassVar[str] = "sockets"

    def __init__(
        self, *, incarnation: str, host: str, secret: str, advertise: str | None = None, deadline_s: float = 10.0
    ) -> None:
        self._incarnation = incarnation
        self._host = host
        self._advertise = advertise or host
        self._secret = secret.encode()
        self._deadline_s = deadline_s
        self._memory: memoryview | None = None
        self._receiver: Receiver | None = None
        self._senders: dict[str, Sender] = {}
        self._frames: dict[Write, Frame] = {}
        self._numbers = count(1)

    def register(self, address: int, size: int, device: int | None) -> None:
        """Listen for writes into this memory."""
        if device is not None:
            raise TransferError(
                f"the sockets transport writes host memory only, but the KV memory is on CUDA device {device}; "
                "use `transport: nixl`"
            )
        self._memory = memoryview((ctypes.c_char * size).from_address(address)).cast("B")
        self._receiver = Receiver(self._incarnation, self._host, self._secret, self._memory)

    def metadata(self) -> bytes:
        """Return the address that the receiver listens on."""
        assert self._receiver is not None
        return msgspec.msgpack.encode(Address(self._advertise, self._receiver.port))

    def connect(self, incarnation: str, metadata: bytes, layout: Layout) -> None:  # noqa: ARG002
        """Start a sender for the peer; it connects on its own thread."""
        if incarnation in self._senders:
            return
        assert self._memory is not None
        try:
            address = msgspec.msgpack.decode(metadata, type=Address)
        except msgspec.MsgspecError as error:
            raise TransferError(f"peer {incarnation!r} sent metadata that is not of this transport: {error}") from error
        self._senders[incarnation] = Sender(
            (address.host, address.port),
            sender=self._incarnation,
            receiver=incarnation,
            secret=self._secret,
            memory=self._memory,
            deadline_s=self._deadline_s,
        )

    def disconnect(self, incarnation: str) -> None:
        """End the peer's sender; frames that it had not finished have failed."""
        sender = self._senders.pop(incarnation, None)
        if sender is not None:
            sender.close()

    def write(self, incarnation: str, spans: Sequence[Span]) -> Write:
        """Queue one frame."""
        write = Write(next(self._numbers))
        self._frames[write] = self._sender(incarnation).send(Frame(tuple(spans)))
        return write

    def done(self, write: Write) -> bool:
        """Return whether the peer acknowledged the frame."""
        frame = self._frames[write]
        if not frame.ended:
            return False
        del self._frames[write]
        if frame.error is not None:
            raise TransferError(frame.error)
        return True

    def notify(self, incarnation: str, payload: bytes) -> None:
        """Queue a frame without spans; it is not watched, as a lost notification is covered by deadlines."""
        self._sender(incarnation).send(Frame((), payload))

    def notifications(self) -> list[Notification]:
        """Return what the receivers read."""
        return [] if self._receiver is None else self._receiver.take()

    def close(self) -> None:
        """End all threads."""
        for incarnation in list(self._senders):
            self.disconnect(incarnation)
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None
        self._memory = None

    def _sender(self, incarnation: str) -> Sender:
        sender = self._senders.get(incarnation)
        if sender is None:
            raise TransferError(f"peer {incarnation!r} is not connected; it must say hello first")
        return sender
