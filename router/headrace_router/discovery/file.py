"""Workers from state files, as `headrace up --state` writes them.

Files are polled: they are replaced by rename, which changes the inode, and a poll of a few files every 100 ms costs
nothing while file events differ between systems and are lost on some mounts.
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from headrace_router.errors import DiscoveryError

logger = logging.getLogger(__name__)

POLL_S = 0.1


class Worker(msgspec.Struct, frozen=True, cache_hash=True):
    """One worker that is ready, as a state file lists it; a restarted one has another pid and so is another."""

    deployment: str
    role: Literal["prefill", "decode", "unified"]
    url: str
    pid: int
    name: str
    """What the worker calls itself in `x-headrace-prefill` and `-decode`; its URL where the file does not say."""
    host: str
    port: int
    path: bytes
    """Path before `/v1`, without a slash at its end."""
    authority: bytes
    """Host and port as the Host header states them."""


class _Entry(msgspec.Struct):
    deployment: str
    role: Literal["prefill", "decode", "unified"]
    url: str
    pid: int
    worker: str | None = None


class _State(msgspec.Struct):
    workers: list[_Entry] = []


_decode = msgspec.json.Decoder(_State).decode


def parse_state(data: bytes, source: str) -> tuple[Worker, ...]:
    """Return the workers in a state file's content; raise DiscoveryError, naming `source`, where it is none."""
    try:
        state = _decode(data)
        return tuple(_worker(entry) for entry in state.workers)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise DiscoveryError(f"{source} is no state file: {error}") from error


def _worker(entry: _Entry) -> Worker:
    parts = urlsplit(entry.url)
    if parts.scheme != "http" or not parts.hostname or not entry.url.isprintable() or " " in entry.url:
        raise ValueError(f"worker URL {entry.url!r} should look like http://HOST:PORT")
    return Worker(
        entry.deployment,
        entry.role,
        entry.url.rstrip("/"),
        entry.pid,
        entry.worker or entry.url.rstrip("/"),
        parts.hostname,
        parts.port or 80,
        parts.path.rstrip("/").encode(),
        parts.netloc.rpartition("@")[2].encode(),
    )


@dataclasses.dataclass(slots=True)
class _Watched:
    path: Path
    stamp: tuple[int, int, int] | None = None
    workers: tuple[Worker, ...] | None = None
    """None: the file is not there."""


class FileDiscovery:
    """Watches state files; call `poll` now and then.

    Args:
        paths: the files; one that is missing is an empty set of workers.
        changed: called with (workers, models that some present file lists or has listed) after each change.
    """

    def __init__(self, paths: Sequence[str], changed: Callable[[tuple[Worker, ...], frozenset[str]], None]) -> None:
        self._watched = [_Watched(Path(path)) for path in paths]
        self._models: dict[Path, frozenset[str]] = {}
        self._changed = changed

    def poll(self) -> None:
        """Read what changed since the last poll. Blocks only for a stat, and a small read after a change."""
        changed = [self._refresh(watched) for watched in self._watched]
        if any(changed):
            workers = tuple(worker for watched in self._watched for worker in watched.workers or ())
            self._changed(workers, frozenset().union(*self._models.values()))

    def _refresh(self, watched: _Watched) -> bool:
        try:
            found = watched.path.stat()
            stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
            if stamp == watched.stamp:
                return False
            workers = parse_state(watched.path.read_bytes(), str(watched.path))
        except OSError:
            was_there = watched.workers is not None
            watched.stamp = watched.workers = None
            self._models.pop(watched.path, None)
            return was_there
        except DiscoveryError as error:
            # A file cut off in mid-write or broken by hand: what was read before is the better guess.
            logger.warning("keeping the workers read before: %s", error)
            watched.stamp = stamp
            return False
        watched.stamp, watched.workers = stamp, workers
        # A model whose workers have all died leaves the file for a while; it stays known, requests wait for it.
        listed = frozenset(worker.deployment for worker in workers)
        self._models[watched.path] = self._models.get(watched.path, frozenset()) | listed
        return True
