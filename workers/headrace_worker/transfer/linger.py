"""Has a process that dies take its unsent bytes with it.

The kernel goes on sending what a dead process had written to a TCP connection, for minutes where the network is cut.
A KV write that arrives so late would meet blocks that others use by then: the decode worker was told that the process
has ended, and that its writes are impossible. With SO_LINGER at zero a connection ends with its process, and nothing
of its queue is sent any more.
"""

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress

_AT_ONCE = struct.pack("ii", 1, 0)


def end_at_once(connection: socket.socket) -> None:
    """Have a connection send nothing after its process has ended, and nothing after it was closed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)


class Watcher:
    """Does so for connections that a library makes: to be called again whenever there may be new ones."""

    def __init__(self) -> None:
        self._done: set[int] = set()
        """Numbers of sockets, which the kernel gives to no second one."""

    def look(self) -> int:
        """Look at all descriptors of this process; return how many TCP sockets were new."""
        found = dict(_sockets())
        fresh = found.keys() - self._done
        self._done = set(found)
        return sum(_end_at_once(found[number]) for number in fresh)


def _sockets() -> Iterator[tuple[int, int]]:
    """Yield number and descriptor of each socket; nothing where the system has no such list."""
    with suppress(OSError), os.scandir("/proc/self/fd") as entries:
        for entry in entries:
            with suppress(OSError):
                seen = entry.stat()
                if stat.S_ISSOCK(seen.st_mode):
                    yield seen.st_ino, int(entry.name)


def _end_at_once(descriptor: int) -> bool:
    """Return whether it was a TCP socket; another thread may close it meanwhile."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as own:
        if own.family in {socket.AF_INET, socket.AF_INET6} and own.type == socket.SOCK_STREAM:
            end_at_once(own)
            return True
    return False
