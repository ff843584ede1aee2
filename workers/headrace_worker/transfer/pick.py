"""Which transport a worker uses."""

import sys
from importlib.util import find_spec
from typing import Literal

from headrace_worker.errors import TransferError
from headrace_worker.transfer.nixl import NixlTransport
from headrace_worker.transfer.sockets import SocketTransport
from headrace_worker.transfer.transport import Transport


def pick(
    setting: Literal["auto", "nixl", "sockets"],
    *,
    incarnation: str,
    host: str,
    secret: str,
    advertise: str | None = None,
    platform: str = sys.platform,
) -> Transport:
    """Return the transport for `setting`; raise TransferError where it needs NIXL and NIXL is not installed.

    `auto` is NIXL on Linux. It never falls back to sockets there: a missing package would cost most of the bandwidth
    without a word.
    """
    if setting == "sockets" or (setting == "auto" and not platform.startswith("linux")):
        return SocketTransport(incarnation=incarnation, host=host, advertise=advertise, secret=secret)
    if find_spec("nixl") is None:
        raise TransferError(
            f"transport {setting!r} needs the package 'nixl', which is not installed here; "
            "install it (`pip install nixl`) or ask for `transport: sockets`, which is slower"
        )
    return NixlTransport(incarnation=incarnation, host=advertise or host)
