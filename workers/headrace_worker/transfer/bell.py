"""Wakes a thread that sleeps on sockets."""

import socket
from contextlib import suppress


class Bell:
    """Rung by any thread, heard by the one that polls it."""

    def __init__(self) -> None:
        self._heard, self._rope = socket.socketpair()
        self._heard.setblocking(False)
        self._rope.setblocking(False)

    def fileno(self) -> int:
        """Return what to poll for reading."""
        return self._heard.fileno()

    def ring(self) -> None:
        """Wake the sleeper, now or when it next goes to sleep."""
        # A full pair means that it is being woken already, a closed one that it has ended.
        with suppress(OSError):
            self._rope.send(b"\0")

    def hush(self) -> None:
        """Take note of all rings so far."""
        with suppress(BlockingIOError):
            self._heard.recv(4096)

    def close(self) -> None:
        """Take it down; nobody may be asleep on it."""
        self._heard.close()
        self._rope.close()
