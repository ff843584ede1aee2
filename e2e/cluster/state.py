"""The state file: what a cluster started, written before anything waits, so that a killed command can be cleared up."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
from e2e.cluster.errors import StateError
from e2e.cluster.processes import Daemon  # noqa: TC002 - msgspec reads it at run time

if TYPE_CHECKING:
    from pathlib import Path


class NetworkBefore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The machine's network before our container engine changed it."""

    owned: bool
    """False where another engine had chains in the packet filter already: then they are left alone."""
    forward_policy: str | None
    """What was done with forwarded packets that no rule spoke of; None where that table had not been used."""
    forwarding: bool
    """Whether the machine forwarded packets at all."""


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that `down` needs to know."""

    provider: str
    kubeconfig: str
    ready: bool = False
    """False from the first process until the cluster can be used: a cluster found so was left by a killed command."""
    daemons: tuple[Daemon, ...] = ()
    """In the order in which they were started; they are ended in the other one."""
    engine: str | None = None
    """Address of the container engine that carries the cluster, as `DOCKER_HOST` has it; None for Docker's default."""
    bridge: str | None = None
    """The engine's network of the cluster, as the kernel names it."""
    network: NetworkBefore | None = None
    """Set where we started a container engine of our own."""


def read_state(path: Path) -> State | None:
    """Return what the file says, or None where there is no cluster.

    Raises:
        StateError: The file is not ours or from another version.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise StateError(
            f"{path} does not say what runs ({error}); end what it names by hand, then delete the file."
        ) from error


def write_state(path: Path, state: State) -> None:
    """Replace the file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2))
    os.replace(fresh, path)  # noqa: PTH105 - says that it replaces
