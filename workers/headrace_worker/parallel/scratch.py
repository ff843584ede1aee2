"""A folder for the processes of one node; what a node that was killed left behind is swept by the next one.

In a pod such folders outlive the container, and each start of a group would add one.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PREFIX: Final = "headrace-node-"
"""Short: paths of Ray's sockets, which lie below, may have some hundred characters."""
_LOCK: Final = "lock"


@contextmanager
def scratch() -> Iterator[Path]:
    """Hold a new folder; folders of which nobody holds the lock are removed first."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        _sweep(left)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with (folder / "new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "new").rename(folder / _LOCK)  # only now: nobody takes a lock for free that is being made
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(folder: Path) -> None:
    with suppress(OSError), (folder / _LOCK).open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
