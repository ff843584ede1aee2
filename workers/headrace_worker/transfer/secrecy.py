"""How control sockets prove the deployment's secret: ZeroMQ's CURVE with a server key that both sides derive from it.

The server's public key never travels, so a client that does not know the secret cannot even say hello, and a server
that does not know it cannot answer. All that follows is encrypted. Without a secret the sockets are plain.
"""

import hashlib
import hmac
from typing import Any

import zmq
from zmq.utils import z85

_PURPOSE = b"headrace hand-off control server key 1"


def guard_server(socket: zmq.Socket[Any], secret: str) -> None:
    """Let only clients that know the secret connect; before `bind`."""
    if secret:
        socket.curve_server = True
        socket.curve_secretkey = _server_key(secret)


def guard_client(socket: zmq.Socket[Any], secret: str) -> None:
    """Connect only to a server that knows the secret; before `connect`."""
    if secret:
        socket.curve_serverkey = zmq.curve_public(_server_key(secret))
        socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()


def _server_key(secret: str) -> bytes:
    return z85.encode(hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256))
