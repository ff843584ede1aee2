"""Connections between ranks of several nodes: TCP, and both ends prove that they know the deployment's secret.

Each end answers a random challenge of the other with an HMAC-SHA256, so the secret never travels and nothing that was
overheard opens a second connection. What follows is not encrypted, as little as what the ranks compute together is.
"""

import hashlib
import hmac
import logging
import os
import socket
import struct
import sys
import time
from typing import Final, Self

from headrace_worker.errors import RankError

logger = logging.getLogger(__name__)
_NONCE: Final = 32
_PROOF: Final = 32
_NUMBER: Final = struct.Struct("!I")
_PROVE_S: Final = 10.0
"""How long one end may take to prove itself: a stranger who says nothing holds up the others no longer."""
_SILENT_S: Final = 5
"""Asked for a sign of life after so long without traffic, and as often again; three missing ones end a connection."""
_PURPOSE: Final = b"headrace rank connection 1"


def key_of(secret: str) -> bytes:
    """Return the key that both ends derive from the deployment's secret."""
    return hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256)


class Door:
    """Where rank 0 lets the other ranks in.

    Args:
        host: address to listen on.
        key: see `key_of`.
    """

    def __init__(self, host: str, key: bytes) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family)
        self._key = key

    @property
    def port(self) -> int:
        """The port that ranks connect to."""
        return int(self._socket.getsockname()[1])

    def accept(self, timeout_s: float) -> tuple[int, socket.socket] | None:
        """Return the next rank that proves itself, and its connection; None where none has come in time."""
        until = time.monotonic() + timeout_s
        while (left_s := until - time.monotonic()) > 0:
            self._socket.settimeout(left_s)
            try:
                connection, (peer, *_) = self._socket.accept()
            except TimeoutError:
                return None
            try:
                return _admit(connection, self._key), connection
            except (OSError, EOFError, RankError) as error:
                connection.close()
                logger.warning("a connection from %s was closed: %s", peer, error)
        return None

    def close(self) -> None:
        """Let nobody in any more."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def dial(host: str, port: int, rank: int, key: bytes, timeout_s: float) -> socket.socket:
    """Return a connection to rank 0; raise RankError where it is not there, or does not know the secret."""
    try:
        connection = socket.create_connection((host, port), timeout=timeout_s)
    except OSError as error:
        raise RankError(f"rank 0 cannot be reached at {host} port {port}: {error}") from error
    try:
        known = _present(connection, rank, key)
    except (OSError, EOFError) as error:
        connection.close()
        raise RankError(f"rank 0 at {host} port {port} did not let rank {rank} in; the secrets may differ") from error
    if not known:
        connection.close()
        raise RankError(f"who listens at {host} port {port} does not know the deployment's secret")
    return connection


def _present(connection: socket.socket, rank: int, key: bytes) -> bool:
    """Prove ourselves, and return whether the other end has proved itself too."""
    connection.settimeout(_PROVE_S)
    theirs, ours = _take(connection, _NONCE), os.urandom(_NONCE)
    connection.sendall(_NUMBER.pack(rank) + ours + _proof(key, b"rank", theirs, ours, rank))
    known = hmac.compare_digest(_take(connection, _PROOF), _proof(key, b"rank 0", theirs, ours, rank))
    _settle(connection)
    return known


def _admit(connection: socket.socket, key: bytes) -> int:
    connection.settimeout(_PROVE_S)
    ours = os.urandom(_NONCE)
    connection.sendall(ours)
    answer = _take(connection, _NUMBER.size + _NONCE + _PROOF)
    (rank,) = _NUMBER.unpack_from(answer)
    theirs, proof = answer[_NUMBER.size : -_PROOF], answer[-_PROOF:]
    if not hmac.compare_digest(proof, _proof(key, b"rank", ours, theirs, rank)):
        raise RankError("it does not know the deployment's secret")
    connection.sendall(_proof(key, b"rank 0", ours, theirs, rank))
    _settle(connection)
    return int(rank)


def _proof(key: bytes, side: bytes, first: bytes, second: bytes, rank: int) -> bytes:
    return hmac.digest(key, side + b"\0" + first + second + _NUMBER.pack(rank), hashlib.sha256)


def _take(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise EOFError("it was closed early")
        found += part
    return found


def _settle(connection: socket.socket) -> None:
    """Make the connection ready for small messages, and notice the end of a machine that says nothing any more."""
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _SILENT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
