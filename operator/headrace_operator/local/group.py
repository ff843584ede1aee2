"""A process that leads a group of its own, and the proof that the whole group has gone.

The leader is reaped only after its group was killed: as long as it is a zombie its number cannot be given to another
process, so the signal cannot hit a stranger. Orphans of the group become children of this process, where it is the
subreaper, and are reaped here; a group without members and without zombies cannot write anywhere any more.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from headrace_operator.errors import GroupAliveError

logger = logging.getLogger(__name__)

_LAUNCH = Path(__file__).with_name("launch.py")
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.005


def become_subreaper(*, on: bool = True) -> bool:
    """Adopt orphaned descendants of this process, on Linux; return whether that works here."""
    if sys.platform != "linux":
        return False
    status: int = ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)
    return status == 0


class ProcessGroup:
    """A running command and everything that it started in its group."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    @classmethod
    def start(cls, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Self:
        """Start the command as the leader of a new session, its output appended to `log`; raise OSError if it can't."""
        arguments = [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid()), *command]
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            sys.executable,
            arguments,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ),
        )
        return cls(pid)

    async def leader_ended(self) -> None:
        """Return once the leader has ended; it stays a zombie until `end`."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            await self._poll_leader()
            return
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the leader, unless it has been reaped."""
        if self._status is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL to every process of the group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def end(self, deadline_s: float) -> int:
        """Kill what is left, reap all of it, and return the leader's exit status (negative: the signal's number).

        Raises:
            GroupAliveError: something of the group is still there after `deadline_s`.
        """
        deadline = time.monotonic() + deadline_s
        self.kill()
        while not self._gone():
            if time.monotonic() > deadline:
                raise GroupAliveError(
                    f"process group {self.pid} is still there {deadline_s:.0f} s after SIGKILL; "
                    "a process hangs in the kernel, and its memory stays quarantined until it ends"
                )
            await asyncio.sleep(_POLL_S)
        assert self._status is not None
        return self._status

    def _gone(self) -> bool:
        """Reap what has ended and return whether nothing of the group is left, not even a zombie."""
        for pid, status in self._reap():
            if pid == self.pid:
                self._status = os.waitstatus_to_exitcode(status)
        if self._status is None:
            return False
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False  # macOS answers this for a group of zombies that their new parent has not reaped yet
        return False

    def _reap(self) -> Iterator[tuple[int, int]]:
        """Yield (pid, wait status) of each ended child in the group."""
        while True:
            try:
                pid, status = os.waitpid(-self.pid, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            yield pid, status

    async def _poll_leader(self) -> None:
        """Wait where the system has no process descriptors; the leader is reaped by this."""
        while self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)  # noqa: ASYNC222 (WNOHANG does not wait)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
            else:
                await asyncio.sleep(0.02)


async def end_adopted(deadline_s: float) -> None:
    """Kill and reap every child of this process: orphans that left their group and were adopted here.

    Only for a program that has no other children left, at its end. Without /proc there is nothing to find.
    """
    deadline = time.monotonic() + deadline_s
    while (children := _children()) and time.monotonic() < deadline:
        for pid in children:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 (WNOHANG does not wait)
        await asyncio.sleep(_POLL_S)


def _children() -> list[int]:
    """Return the children of this process, zombies included."""
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def describe_exit(status: int) -> str:
    """Return an exit status in words."""
    if status >= 0:
        return f"exited with code {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
