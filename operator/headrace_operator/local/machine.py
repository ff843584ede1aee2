"""What this machine offers: processors and free ports."""

import errno
import os
import socket
from pathlib import Path

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def count_processors(cpu_max: Path = _CPU_MAX) -> int:
    """Return how many processors this process may use: its affinity, bounded by the control group's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cpu_max)
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def _quota(cpu_max: Path) -> float | None:
    """Return the processors that the control group grants, None where it sets no bound."""
    try:
        quota, period = cpu_max.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def port_is_free(host: str, port: int) -> bool:
    """Return whether a server could listen there now; raise OSError where the address or port is not ours to take."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True
