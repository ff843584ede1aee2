"""Processes that outlive the command that started them, known again by number and start time."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import psutil
from e2e.cluster.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_POLL_S: Final = 0.02
_TAIL_LINES: Final = 10
_KILL_TIMEOUT_S: Final = 10.0


class Daemon(msgspec.Struct, frozen=True):
    """One process of ours. The start time is kept because the system gives the number of a dead process to others."""

    name: str
    pid: int
    created_s: float
    log: str


def start(name: str, arguments: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None) -> Daemon:
    """Start a process in a session of its own, so that neither Ctrl-C here nor our end reaches it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    pid = os.posix_spawnp(
        arguments[0],
        list(arguments),
        {**os.environ, **(environment or {})},
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    return Daemon(name, pid, psutil.Process(pid).create_time(), str(log))


def is_alive(daemon: Daemon) -> bool:
    """Say whether this very process still runs; one that has ended and waits to be collected does not."""
    process = _find(daemon)
    try:
        return process is not None and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def require_alive(daemon: Daemon) -> None:
    """Raise StartError with the last lines of its log where a process has ended."""
    if not is_alive(daemon):
        last = Path(daemon.log).read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        raise StartError("\n".join([f"{daemon.name} has ended; the last lines of its log:", *last]))


def stop(daemon: Daemon, *, grace_s: float) -> None:
    """End a process: SIGTERM to it, after `grace_s` SIGKILL to its whole group. Nothing happens where it has ended.

    One that has ended and that nobody collects counts as ended: in a container there may be no init that would.
    """
    if not is_alive(daemon):
        return
    with suppress(ProcessLookupError):
        os.kill(daemon.pid, signal.SIGTERM)
        if not _ends_within(daemon, grace_s):
            os.killpg(daemon.pid, signal.SIGKILL)
            _ends_within(daemon, _KILL_TIMEOUT_S)
    with suppress(ChildProcessError):
        os.waitpid(daemon.pid, os.WNOHANG)


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on; all are held until the last is found, so they differ."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _ends_within(daemon: Daemon, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while is_alive(daemon):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _find(daemon: Daemon) -> psutil.Process | None:
    try:
        process = psutil.Process(daemon.pid)
        same = abs(process.create_time() - daemon.created_s) < 1.0
    except psutil.NoSuchProcess:
        return None
    return process if same else None
