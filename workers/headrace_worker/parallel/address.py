"""Which of this machine's addresses and interfaces lead to another one."""

import socket

import psutil

_ANY_PORT = 9


def address_towards(host: str) -> str:
    """Return our address on the way to `host`; nothing is sent. Raise OSError where no way leads there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((host, _ANY_PORT))
        return str(probe.getsockname()[0])


def interface_towards(host: str) -> str | None:
    """Return the interface on the way to `host`, which gloo and NCCL must be told; None where none is found.

    By itself gloo takes the interface of the machine's name, which in many clusters is not the one that others reach.
    """
    try:
        own = address_towards(host)
    except OSError:
        return None
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address.partition("%")[0] == own for one in addresses):
            return name
    return None
