"""How the sockets transport puts writes and notifications on a stream, and how both ends prove that they know a secret.

A frame is a head (number of spans, bytes of payload, bytes of the notification), the table of spans (offset, size),
the spans' bytes, the notification's bytes. The answer is one byte.
"""

import hashlib
import hmac
import os
import socket
import struct
from collections.abc import Sequence

HEAD = struct.Struct("<IQI")
PLACE = struct.Struct("<QQ")
ACCEPTED = b"\x01"
MAX_SPANS = 1 << 20
MAX_NOTIFICATION_BYTES = 1 << 20
_NONCE_BYTES = 32


class StreamError(OSError):
    """The stream ended early, or what it carries is no frame, or the other side does not know the secret."""


def receive_into(connection: socket.socket, target: memoryview) -> None:
    """Fill `target` from the stream."""
    filled = 0
    while filled < len(target):
        size = connection.recv_into(target[filled:])
        if not size:
            raise StreamError(f"the peer closed the connection, {len(target) - filled} bytes too early")
        filled += size


def receive(connection: socket.socket, size: int) -> bytes:
    """Return exactly `size` bytes of the stream."""
    buffer = bytearray(size)
    receive_into(connection, memoryview(buffer))
    return bytes(buffer)


def head(places: Sequence[tuple[int, int]], notification: bytes) -> bytes:
    """Return a frame up to its first span's bytes, for spans of (offset, size)."""
    table = b"".join(PLACE.pack(offset, size) for offset, size in places)
    return HEAD.pack(len(places), sum(size for _, size in places), len(notification)) + table


def introduce(connection: socket.socket, sender: str, receiver: str, secret: bytes) -> None:
    """Prove to the receiver that we know the secret, check its own proof; raise StreamError where it has none."""
    names = (sender.encode(), receiver.encode())
    theirs = receive(connection, _NONCE_BYTES)
    ours = os.urandom(_NONCE_BYTES)
    connection.sendall(bytes(len(name) for name in names) + b"".join(names) + ours)
    connection.sendall(_proof(secret, b"sender", theirs, ours, *names))
    expected = _proof(secret, b"receiver", theirs, ours, *names)
    if not hmac.compare_digest(receive(connection, len(expected)), expected):
        raise StreamError(f"worker {receiver!r} does not know this deployment's secret")


def challenge(connection: socket.socket, receiver: str, secret: bytes) -> tuple[str, bytes]:
    """Return the name of a sender that proved to know the secret, and our proof, to be sent once it may write.

    A stream meant for another incarnation is refused: its spans are places in that one's memory.
    """
    ours = os.urandom(_NONCE_BYTES)
    connection.sendall(ours)
    sizes = receive(connection, 2)
    names = (receive(connection, sizes[0]), receive(connection, sizes[1]))
    theirs = receive(connection, _NONCE_BYTES)
    expected = _proof(secret, b"sender", ours, theirs, *names)
    if not hmac.compare_digest(receive(connection, len(expected)), expected):
        raise StreamError("a sender does not know this deployment's secret")
    if names[1] != receiver.encode():
        raise StreamError(f"a sender looks for incarnation {names[1].decode()!r}, but this is {receiver!r}")
    return names[0].decode(), _proof(secret, b"receiver", ours, theirs, *names)


def _proof(secret: bytes, *words: bytes) -> bytes:
    return hmac.digest(secret, b"".join(len(word).to_bytes(2, "big") + word for word in words), hashlib.sha256)
