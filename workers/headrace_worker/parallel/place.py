"""What a place where ranks run offers to rank 0, and what a rank is told by its node."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from headrace_worker.settings import WorkerSettings

ADDRESS: Final = "HEADRACE_ADDRESS"
"""Tells a rank of another node under which address that node is reached."""
SECRET: Final = "HEADRACE_SECRET"  # noqa: S105 - the name of a variable


class Process(Protocol):
    """The process of a rank, wherever it runs."""

    def wait(self, timeout: float | None = None) -> int | None:
        """Return its exit code once it has ended, None where its node has gone; raise subprocess.TimeoutExpired."""

    def kill(self) -> None:
        """End it now."""


@dataclass(frozen=True, slots=True)
class Started:
    """A rank that runs and is connected."""

    number: int
    sockets: tuple[socket.socket, ...]
    """One for each channel."""
    process: Process


class Place(Protocol):
    """Starts ranks elsewhere."""

    def start(self, command: Sequence[str], channels: int) -> Sequence[Started]:
        """Start every rank but rank 0; raise RankError where one is not there in time.

        Args:
            command: of a rank's process; the descriptors of its connections are appended.
            channels: connections of each rank.
        """

    def close(self) -> None:
        """End what was needed to start them; they have ended before."""


def at_home(settings: WorkerSettings, environment: Mapping[str, str]) -> WorkerSettings:
    """Return the worker's settings as they hold for a rank on its own node; on rank 0's they stay as they are."""
    if ADDRESS not in environment:
        return settings
    return settings.model_copy(
        update={"host": environment[ADDRESS], "advertise": "", "secret": environment.get(SECRET, "")}
    )
