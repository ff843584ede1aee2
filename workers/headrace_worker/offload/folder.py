"""The folder of one worker's blocks: names, the lock, what an earlier process left.

    PATH/WORKER/lock
    PATH/WORKER/MODEL/3f/3f09…e1.kv

A block's file appears by a rename once it is whole; its name is its hash. Files of another model are of no use to this
worker any more and are deleted.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from headrace_worker.errors import SettingsError
from headrace_worker.offload.files import KEY_BYTES

logger = logging.getLogger(__name__)
_SUFFIX = ".kv"
_PART = ".part"
_LOCK_S = 15.0
"""How long the processes of an earlier start may take to end."""
_RETRY_S = 0.05


class Folder:
    """Owns `path/worker`, which no other process uses meanwhile.

    Args:
        path: of the setting.
        worker: its name.
        model: KV compatibility hash, 16 bytes.

    Raises:
        SettingsError: it cannot be made, or another process holds it.
    """

    def __init__(self, path: Path, worker: str, model: bytes) -> None:
        self.model = model
        self._top = path / worker
        self._folder = self._top / model.hex()
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _locked(self._top / "lock")
        except OSError as error:
            raise SettingsError(
                f"offload_path {str(path)!r} cannot be used: {error.strerror}; name a folder that can be written"
            ) from None

    @property
    def place(self) -> Path:
        """Where the files are."""
        return self._folder

    def path(self, key: bytes) -> Path:
        """Return the name of a block's file."""
        name = key.hex()
        return self._folder / name[:2] / (name + _SUFFIX)

    def create(self, key: bytes) -> int:
        """Open a new file that becomes the block's by `commit`; return its descriptor."""
        part = self._part(key)
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with contextlib.suppress(FileNotFoundError):
            return os.open(part, flags, 0o600)
        part.parent.mkdir(exist_ok=True, mode=0o700)
        return os.open(part, flags, 0o600)

    def commit(self, key: bytes) -> None:
        """Have a whole file take its name."""
        self._part(key).rename(self.path(key))

    def abandon(self, key: bytes) -> None:
        """Delete a file that was created and did not become whole."""
        with contextlib.suppress(OSError):
            self._part(key).unlink()

    def open(self, key: bytes) -> int:
        """Open a block's file for reading."""
        return os.open(self.path(key), os.O_RDONLY | os.O_CLOEXEC)

    def delete(self, key: bytes) -> None:
        """Delete a block's file, where there is one."""
        with contextlib.suppress(OSError):
            self.path(key).unlink()

    def _part(self, key: bytes) -> Path:
        path = self.path(key)
        return path.with_name(path.name + _PART)

    def scan(self, size: int) -> list[bytes]:
        """Return the blocks that an earlier process left, the oldest first; delete what cannot be one.

        Args:
            size: of a whole file.
        """
        for other in self._top.iterdir():
            if other.is_dir() and other != self._folder and _is_hex(other.name):
                logger.info("blocks of another model are deleted", extra={"model": other.name})
                shutil.rmtree(other, ignore_errors=True)
        found = []
        for entry in self._entries():
            key = _key_of(entry.name)
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if key is not None and status.st_size == size:
                    found.append((status.st_mtime_ns, key))
                elif key is not None or entry.name.endswith(_SUFFIX + _PART):
                    Path(entry.path).unlink()
        return [key for _, key in sorted(found)]

    def _entries(self) -> Iterator["os.DirEntry[str]"]:
        for below in self._folder.iterdir():
            if below.is_dir():
                with os.scandir(below) as entries:
                    yield from entries

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._lock)


def _locked(path: Path) -> int:
    """Return a descriptor that holds the lock; it goes with the process, however that ends."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(file)
                raise SettingsError(
                    f"another process keeps its KV blocks in {str(path.parent)!r}; give each worker a name or an "
                    "offload_path of its own"
                ) from None
            time.sleep(_RETRY_S)
        else:
            return file


def _is_hex(name: str) -> bool:
    try:
        return len(bytes.fromhex(name)) == KEY_BYTES
    except ValueError:
        return False


def _key_of(name: str) -> bytes | None:
    stem = name.removesuffix(_SUFFIX)
    return bytes.fromhex(stem) if stem != name and _is_hex(stem) else None
