"""A network namespace with one interface, and threads that live in it; it goes with the process that made it.

Linux keeps namespaces by thread, so a test stays where it is and has a thread of the space do what must happen there:
start a worker, which inherits the network, or speak to one. The interface is a TUN device: the kernel hands every
packet for another space to its file descriptor, and takes packets from there.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

INTERFACE = "hr0"
_NETWORK, _MOUNTS = 0x40000000, 0x00020000  # CLONE_NEWNET, CLONE_NEWNS
_RECURSIVE, _PRIVATE = 0x4000, 1 << 18  # MS_REC, MS_PRIVATE
_MAKE_TUN, _TUN_WITHOUT_HEAD = 0x400454CA, 0x1001  # TUNSETIFF; IFF_TUN | IFF_NO_PI
_SET_FLAGS, _SET_ADDRESS, _SET_MASK = 0x8914, 0x8916, 0x891C
_UP_AND_RUNNING = 0x41
_THREADS = 16
P = ParamSpec("P")
R = TypeVar("R")


class Space:
    """A network of its own.

    Args:
        address: IPv4 of its interface; spaces of one /24 reach each other over a `Wire`.

    Raises:
        OSError: this process may not make networks, or the kernel has no TUN devices.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        with ThreadPoolExecutor(1) as once:
            self._network, self.packets = once.submit(_make, address).result()
        self._threads = ThreadPoolExecutor(_THREADS, initializer=_enter, initargs=(self._network,))

    def submit(self, act: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> Future[R]:
        """Have a thread of this space do something."""
        return self._threads.submit(act, *arguments, **named)

    def call(self, act: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Have a thread of this space do something, and wait for it."""
        return self.submit(act, *arguments, **named).result()

    def close(self) -> None:
        """End the threads; the network goes with the last process in it."""
        self._threads.shutdown()
        os.close(self.packets)
        os.close(self._network)


def missing() -> str | None:
    """Return why there can be no spaces here; None where they work."""
    try:
        Space("10.77.0.254").close()
    except OSError as error:
        return f"network namespaces with TUN devices need root on Linux: {error}"
    return None


def _make(address: str) -> tuple[int, int]:
    """Make a network on this thread, which ends afterwards; return it and the packets of its interface."""
    _system("unshare", _NETWORK)
    packets = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(packets, _MAKE_TUN, struct.pack("16sH22x", INTERFACE.encode(), _TUN_WITHOUT_HEAD))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command, at in ((_SET_ADDRESS, address), (_SET_MASK, "255.255.255.0")):
            place = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(at))
            fcntl.ioctl(control, command, struct.pack("16s16s8x", INTERFACE.encode(), place))
        for name in (INTERFACE, "lo"):
            fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sH22x", name.encode(), _UP_AND_RUNNING))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY), packets


def _enter(network: int) -> None:
    """Move this thread into a network, with a /sys that shows its interfaces: UCX reads them there."""
    _system("unshare", _MOUNTS)
    _system("setns", network, _NETWORK)
    _system("mount", None, b"/", None, _RECURSIVE | _PRIVATE, None)
    _system("mount", b"sysfs", b"/sys", b"sysfs", 0, None)


def _system(name: str, *arguments: int | bytes | None) -> None:
    """Call what Python 3.11 has no function for."""
    call = getattr(_LIBC, name, None)
    if call is None or call(*arguments) != 0:
        number = errno.ENOSYS if call is None else ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


_LIBC = ctypes.CDLL(None, use_errno=True)
