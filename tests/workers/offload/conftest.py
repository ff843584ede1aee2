"""Tiers over a folder of the test's own."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.workers.offload.rig import Desk

StartDesk = Callable[..., Desk]


@pytest.fixture
def start_desk(tmp_path: Path) -> Iterator[StartDesk]:
    """Start tiers that end with the test; `folder` and the sizes are those of `Desk`."""
    with contextlib.ExitStack() as stack:

        def start(folder: Path = tmp_path, **sizes: Any) -> Desk:
            desk = Desk(folder, **sizes)
            stack.callback(desk.close)
            return desk

        yield start


@pytest.fixture
def desk(start_desk: StartDesk) -> Desk:
    return start_desk()
