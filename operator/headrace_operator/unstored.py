"""Storages for kopf that keep nothing: the operator remembers by itself, and users' resources stay as they wrote them.

kopf compares each event with what it stored, which takes copies of the whole resource and is of use to handlers of
changes; there are none here.
"""

# mypy: disable-error-code="misc"
# kopf's classes are left untyped by the project's settings.
from typing import Any

import kopf


class NoDifference(kopf.DiffBaseStorage):
    """Finds no difference between a resource and its past."""

    def build(self, **_: Any) -> dict[str, Any]:
        """Return what matters of a resource for a comparison: nothing."""
        return {}

    def fetch(self, **_: Any) -> None:
        """Return what was stored: nothing."""

    def store(self, **_: Any) -> None:
        """Store nothing."""


class NoProgress(kopf.ProgressStorage):
    """Keeps no record of handlers that began."""

    def fetch(self, **_: Any) -> None:
        """Return what was stored: nothing."""

    def store(self, **_: Any) -> None:
        """Store nothing."""

    def purge(self, **_: Any) -> None:
        """Remove nothing."""

    def touch(self, **_: Any) -> None:
        """Touch nothing."""

    def clear(self, *, essence: dict[str, Any]) -> dict[str, Any]:
        """Return the essence without records, of which it has none."""
        return essence
