"""The cache folder: where files lie, which URI they answer, and one process at a time per URI."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from headrace_worker.errors import FetchError, FetchLaterError

_log = logging.getLogger(__name__)
_LOCK_POLL_S = 2.0
_STALLED_S = 600.0
"""Another process may hold the lock as long as its download grows within this time."""


def cache_root() -> Path:
    """Return the folder that all fetched files live under; it may not exist yet."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "headrace"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a URI was resolved to: a path under the cache folder, and the size of each file there."""

    path: str
    revision: str
    sizes: dict[str, int]


class Cache:
    """Files and records of one cache folder.

    A URI that names no version keeps the answer it got first: workers of one deployment that start at different times
    must find the same weights, and a second start needs no network. A new version is fetched by naming it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, *names: str) -> Path:
        """Return a folder of the cache, made where it is missing."""
        path = self.root.joinpath(*names)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FetchError(
                f"{path} cannot be made ({error.strerror}); set XDG_CACHE_HOME to a folder that can"
            ) from error
        return path

    @property
    def writable(self) -> bool:
        """Whether anything can be fetched into it; a volume that others filled may be mounted to be read only."""
        nearest = next(path for path in (self.root, *self.root.parents) if path.exists())
        return os.access(nearest, os.W_OK)

    def find(self, key: str) -> tuple[Path, str] | None:
        """Return path and revision recorded under `key`, where every file still has its size."""
        try:
            content = json.loads(self._record(key).read_bytes())
            entry = Entry(content["path"], content["revision"], content["sizes"])
            intact = all((self.root / name).stat().st_size == size for name, size in entry.sizes.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return (self.root / entry.path, entry.revision) if intact else None

    def keep(self, key: str, path: Path, revision: str, files: Sequence[Path]) -> None:
        """Record what `key` was resolved to."""
        sizes = {str(file.relative_to(self.root)): file.stat().st_size for file in files}
        record = {"path": str(path.relative_to(self.root)), "revision": revision, "sizes": sizes}
        target = self.folder("resolved") / f"{_name(key)}.json"
        part = target.with_suffix(".part")
        part.write_text(json.dumps(record, indent=1))
        part.replace(target)

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Hold the lock of `key`; wait for another process while what it downloads grows."""
        if not self.writable:
            raise FetchLaterError(
                f"the model is not in {self.root}, where this process may not write; fetch it into that folder with "
                "`python -m headrace_worker.fetch URI` first, or set XDG_CACHE_HOME to a folder that can be written"
            )
        lock = FileLock(self.folder("locks") / f"{_name(key)}.lock")
        seen, since = -1, time.monotonic()
        while True:
            try:
                lock.acquire(timeout=_LOCK_POLL_S, poll_interval=0.1)
                break
            except Timeout:
                size = sum(_size(part) for part in self.root.rglob("*.part"))
                if size != seen:
                    seen, since = size, time.monotonic()
                elif time.monotonic() - since > _STALLED_S:
                    raise FetchLaterError(
                        f"another process has held {lock.lock_file} for {_STALLED_S:.0f} s without progress; end it"
                    ) from None
                _log.info("waiting for another process that fetches the same model")
        try:
            yield
        finally:
            lock.release()

    def _record(self, key: str) -> Path:
        return self.root / "resolved" / f"{_name(key)}.json"


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
