"""Log files of children: their last lines, their growth, and following them."""

import os
from collections.abc import Iterator
from pathlib import Path

_TAIL_BYTES = 64 * 1024
_KEPT_BYTES = 1024 * 1024


def size_of(path: Path) -> int:
    """Return the bytes in a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def last_lines(path: Path, count: int, since: int = 0) -> list[str]:
    """Return the last `count` lines that are not empty; none where there is no file.

    `since` leaves out what lies before that byte; a file that was cut since then is read from its start.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, since if since <= size else 0, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]


def trim(path: Path, most_bytes: int) -> bool:
    """Cut a file larger than `most_bytes` to its last mebibyte; return whether it was cut.

    Writers append, so they go on at the new end. Lines written during the cut may be lost.
    """
    try:
        if path.stat().st_size <= most_bytes:
            return False
        with path.open("r+b") as file:
            file.seek(-min(_KEPT_BYTES, most_bytes), os.SEEK_END)
            kept = file.read()
            file.truncate(0)
        with path.open("ab") as file:
            file.write(kept[kept.find(b"\n") + 1 :])
    except OSError:
        return False
    return True


class Follower:
    """Hands out the lines that were appended to a file since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def lines(self) -> Iterator[str]:
        """Yield each line that is complete now; a file that became shorter is read from its start."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                if size < self._offset:
                    self._offset, self._rest = 0, b""
                file.seek(self._offset)
                data = self._rest + file.read()
                self._offset = file.tell()
        except OSError:
            return
        *complete, self._rest = data.split(b"\n")
        for line in complete:
            yield line.decode(errors="replace")
