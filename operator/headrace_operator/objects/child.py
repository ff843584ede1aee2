"""An object to apply, and when."""

from dataclasses import dataclass
from enum import StrEnum

from headrace_operator.objects.owner import Manifest


class Lane(StrEnum):
    """What is urgent and what is not."""

    FIRST = "first"
    """In the order given: pods wait for these, and they for each other."""
    LATER = "later"
    """In any order, few at a time: nothing starts sooner by them."""


@dataclass(frozen=True, slots=True)
class Child:
    """One object of a resource."""

    manifest: Manifest
    lane: Lane
    once: bool = False
    """Made by a POST where it is missing, and never written again: its content is random, or cannot be changed."""

    @property
    def kind(self) -> str:
        """The manifest's kind."""
        return str(self.manifest["kind"])

    @property
    def api_version(self) -> str:
        """The manifest's group and version."""
        return str(self.manifest["apiVersion"])

    @property
    def name(self) -> str:
        """The manifest's name."""
        return str(self.manifest["metadata"]["name"])
