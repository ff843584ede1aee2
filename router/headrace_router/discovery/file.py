"""Workers from state files, as `headrace up --state` writes them.

Files are polled: they are replaced by rename, which changes the inode, and a poll of a few files every 100 ms costs
nothing while file events differ between systems and are lost on some mounts.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from headrace_router.discovery.source import Changed
from headrace_router.discovery.worker import Role, Worker, worker_at
from headrace_router.errors import DiscoveryError
from headrace_router.stamp import Stamp, stamp_of
from headrace_router.ticking import every

logger = logging.getLogger(__name__)

POLL_S = 0.1


class _Entry(msgspec.Struct):
    deployment: str
    role: Role
    url: str
    pid: int
    worker: str | None = None
    incarnation: str | None = None
    pairing: str = ""


class _State(msgspec.Struct):
    workers: list[_Entry] = []
    models: list[str] | None = None
    """Deployments that exist, with workers or without: requests wait for those that have none."""


_decode = msgspec.json.Decoder(_State).decode


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """What a state file says."""

    workers: tuple[Worker, ...]
    models: frozenset[str] | None
    """None where the file does not list them."""


def parse_state(data: bytes, source: str) -> State:
    """Return what a state file's content says; raise DiscoveryError, naming `source`, where it is none."""
    try:
        state = _decode(data)
        workers = tuple(_worker(entry) for entry in state.workers)
        return State(workers, None if state.models is None else frozenset(state.models))
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise DiscoveryError(f"{source} is no state file: {error}") from error


def _worker(entry: _Entry) -> Worker:
    # The process id stands in for files that know no incarnation: a restarted worker has another one.
    incarnation = entry.incarnation or str(entry.pid)
    return worker_at(
        entry.url,
        deployment=entry.deployment,
        role=entry.role,
        incarnation=incarnation,
        name=entry.worker,
        pairing=entry.pairing,
    )


@dataclasses.dataclass(slots=True)
class _Watched:
    path: Path
    stamp: Stamp | None = None
    workers: tuple[Worker, ...] | None = None
    """None: the file is not there."""


class FileDiscovery:
    """Watches state files.

    Args:
        paths: the files; one that is missing is an empty set of workers.
        changed: called after each change; known models are those that some present file lists, by name or by a
            worker, and in files without such a list those whose workers it has listed.
    """

    def __init__(self, paths: Sequence[str], changed: Changed) -> None:
        self._watched = [_Watched(Path(path)) for path in paths]
        self._models: dict[Path, frozenset[str]] = {}
        self._changed = changed

    def start(self) -> None:
        """Read the files as they are now."""
        self.poll()

    async def run(self) -> None:
        """Read them again whenever they have changed."""
        await every(POLL_S, self.poll)

    def poll(self) -> None:
        """Read what changed since the last poll. Blocks only for a stat, and a small read after a change."""
        changed = [self._refresh(watched) for watched in self._watched]
        if any(changed):
            workers = tuple(worker for watched in self._watched for worker in watched.workers or ())
            self._changed(workers, frozenset().union(*self._models.values()))

    def _refresh(self, watched: _Watched) -> bool:
        try:
            stamp = stamp_of(watched.path)
            if stamp == watched.stamp:
                return False
            state = parse_state(watched.path.read_bytes(), str(watched.path))
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
        watched.stamp, watched.workers = stamp, state.workers
        # Where models are not listed, one whose workers have all died leaves the file; requests wait for it.
        known = state.models if state.models is not None else self._models.get(watched.path, frozenset())
        self._models[watched.path] = known.union(worker.deployment for worker in state.workers)
        return True
