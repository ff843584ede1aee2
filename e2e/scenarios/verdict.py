"""Whether a scenario has failed, for the fixtures that tell what it left.

A module of its own: pytest loads `conftest` under another name than the one by which it would be imported.
"""

from __future__ import annotations

from typing import Final

import pytest

_FAILED: Final = pytest.StashKey[bool]()


def note(item: pytest.Item, *, failed: bool) -> None:
    """Remember how a scenario ended."""
    item.stash[_FAILED] = failed


def has_failed(item: pytest.Item) -> bool:
    """Say whether a scenario has failed."""
    return item.stash.get(_FAILED, False)
