"""The interface that tests and targets use, whatever gives the cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Status:
    """What a person wants to know about a cluster."""

    provider: str
    running: bool
    kubeconfig: Path
    lines: tuple[str, ...] = ()
    """One line for each part: its name and how it is."""


class Cluster(ABC):
    """A Kubernetes for tests."""

    @property
    @abstractmethod
    def kubeconfig(self) -> Path:
        """The file that reaches the cluster with all rights; it exists once the cluster is up."""

    @property
    @abstractmethod
    def kubectl(self) -> Path:
        """A kubectl that fits the cluster's version; it exists once the cluster is up."""

    @abstractmethod
    def up(self) -> None:
        """Give a cluster whose nodes are Ready, fresh where we make it; clears up first what a killed one left.

        Raises:
            ClusterError: It cannot be given; nothing that was started is left behind then.
        """

    @abstractmethod
    def down(self) -> None:
        """Take away everything that `up` made, and nothing else; fine where nothing runs."""

    @abstractmethod
    def status(self) -> Status:
        """Say what runs, without changing it."""

    @abstractmethod
    def load(self, *images: str) -> None:
        """Bring images of the container engine to the nodes, so that pods can use them without a registry.

        Raises:
            ClusterError: This provider runs no containers, or an image does not exist.
        """
