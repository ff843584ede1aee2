"""The container engine that carries kind's node: a Docker daemon at an address, the machine's own or ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2e.cluster.command import capture
from e2e.cluster.errors import CommandError, MissingError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Engine:
    """Docker, reached by the environment that `environment` gives to every program that calls it.

    Attributes:
        address: Where the daemon listens, as `DOCKER_HOST` has it; None for the place where Docker's client looks.
    """

    address: str | None

    @property
    def environment(self) -> Mapping[str, str]:
        """What programs must find in their environment to reach this engine."""
        return {} if self.address is None else {"DOCKER_HOST": self.address}

    def docker(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """Run one docker command and return what it printed."""
        return capture(["docker", *arguments], timeout_s=timeout_s, environment=self.environment)

    def answers(self) -> bool:
        """Say whether a daemon answers."""
        try:
            return self.docker("info", "--format", "{{.ServerVersion}}", timeout_s=15).strip() != ""
        except (CommandError, MissingError):
            return False

    def has_image(self, name: str) -> bool:
        """Say whether the engine holds an image of this name."""
        try:
            self.docker("image", "inspect", "--format", "{{.Id}}", name)
        except CommandError:
            return False
        return True

    def remove_containers(self) -> None:
        """Remove every container with its volumes: for an engine of our own, where none belongs to anybody else."""
        names = self.docker("ps", "--all", "--quiet").split()
        if names:
            self.docker("rm", "--force", "--volumes", *names, timeout_s=120)


def machine_engine(environment: Mapping[str, str]) -> Engine | None:
    """Return the engine of this machine, or the one that `DOCKER_HOST` names, where one answers."""
    engine = Engine(environment.get("DOCKER_HOST") or None)
    return engine if engine.answers() else None
