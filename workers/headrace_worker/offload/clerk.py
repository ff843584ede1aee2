"""The thread that writes blocks to disk and reads them back, so that no step waits for a disk.

Reads go first; deletions and writes keep their order. Every job ends in a result, good or not, unless the storage is
stuck: then nobody may use the memory again, and the clerk says nothing more.
"""

import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from headrace_worker.errors import OffloadError, StuckError
from headrace_worker.offload.files import TRAILER_BYTES, matches, trailer
from headrace_worker.offload.folder import Folder
from headrace_worker.offload.storage import Piece, Storage
from headrace_worker.offload.tiers import Move

logger = logging.getLogger(__name__)
_BATCH = 16
"""Files posted together: enough for the disk, and few enough that the first reader need not wait for the last."""
_WAIT_S = 1.0
_Job = TypeVar("_Job")


@dataclass(frozen=True, slots=True)
class Found:
    """Blocks that an earlier process left, the oldest first."""

    keys: list[bytes]


@dataclass(frozen=True, slots=True)
class WasRead:
    """A block is in its slot, or its file was not what it should be."""

    key: bytes
    good: bool
    seconds: float
    """Of the batch, for each of its blocks."""


@dataclass(frozen=True, slots=True)
class Written:
    """A block has a file, or has none."""

    key: bytes
    good: bool
    problem: str | None = None
    """Why it has none."""


Result = Found | WasRead | Written


class Clerk:
    """Runs until `close`.

    Args:
        folder: of the files.
        make_storage: called on the thread.
        view: returns the memory of a slot.
        address: of a slot.
        block_bytes: of a slot.
        wake: called after results, on the thread.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        make_storage: Callable[[], Storage],
        view: Callable[[int], memoryview],
        address: Callable[[int], int],
        block_bytes: int,
        wake: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._make_storage = make_storage
        self._view = view
        self._address = address
        self._block_bytes = block_bytes
        self._wake = wake
        self._news = threading.Condition()
        self._reads: deque[Move] = deque()
        self._changes: deque[Move | bytes] = deque()
        """Blocks to write, and keys to delete."""
        self._results: deque[Result] = deque()
        self._busy = True
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="offload", daemon=True)
        self._thread.start()

    # --- from the engine's thread ------------------------------------------------------------------------------------

    def post(self, reads: Sequence[Move], deletes: Sequence[bytes], writes: Sequence[Move]) -> None:
        """Queue jobs; the slots are the clerk's until their results have come."""
        if reads or deletes or writes:
            with self._news:
                self._reads.extend(reads)
                self._changes.extend(deletes)
                self._changes.extend(writes)
                self._news.notify()

    def results(self) -> list[Result]:
        """Return what has ended since the last call."""
        found = []
        while self._results:
            found.append(self._results.popleft())
        return found

    def settle(self, deadline_s: float) -> bool:
        """Wait until nothing is queued or under way; return whether that came in time."""
        with self._news:
            return self._news.wait_for(lambda: not (self._busy or self._reads or self._changes), deadline_s)

    def close(self, deadline_s: float) -> None:
        """End the thread after what it is doing now; what is queued is left undone."""
        with self._news:
            self._closing = True
            self._news.notify()
        self._thread.join(deadline_s)
        if self._thread.is_alive():
            logger.warning("the disk does not answer; its thread is left behind")
        else:
            self._folder.close()

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            storage = self._make_storage()
            self._results.append(Found(self._folder.scan(self._block_bytes + TRAILER_BYTES)))
            self._wake()
            while self._serve(storage):
                pass
            storage.close()
        except StuckError as error:
            logger.error("%s; nothing is written to disk or read from it any more", error)  # noqa: TRY400  # a fault of the disk
        except Exception:
            logger.exception("blocks are written to disk and read from it no more")
        finally:
            with self._news:
                self._busy = False
                self._news.notify_all()

    def _serve(self, storage: Storage) -> bool:
        """Do one batch of what is queued; False once closed."""
        with self._news:
            self._busy = False
            self._news.notify_all()
            self._news.wait_for(lambda: self._closing or self._reads or self._changes, _WAIT_S)
            if self._closing:
                return False
            reads = _some(self._reads)
            changes = [] if reads else _some(self._changes)
            self._busy = True
        if reads:
            self._read(storage, reads)
        self._change(storage, changes)
        if self._results:
            self._wake()
        return True

    def _change(self, storage: Storage, changes: Sequence[Move | bytes]) -> None:
        writes: list[Move] = []
        for change in changes:
            if isinstance(change, Move):
                writes.append(change)
                continue
            self._write(storage, writes)
            writes = []
            self._folder.delete(change)
        self._write(storage, writes)

    # --- writing -----------------------------------------------------------------------------------------------------

    def _write(self, storage: Storage, moves: Sequence[Move]) -> None:
        problems: dict[Move, str] = {}
        files: dict[Move, int] = {}
        for move in moves:
            try:
                files[move] = self._folder.create(move.key)
                _reserve(files[move], self._block_bytes + TRAILER_BYTES)
            except OSError as error:
                problems[move] = error.strerror or str(error)
        reserved = {move: file for move, file in files.items() if move not in problems}
        problems |= self._move(storage.write, reserved)
        for move in reserved.keys() - problems.keys():
            try:
                self._seal(move, files[move])
            except OSError as error:
                problems[move] = error.strerror or str(error)
        for file in files.values():
            os.close(file)
        for move in moves:
            if move in problems:
                self._folder.abandon(move.key)
            self._results.append(Written(move.key, move not in problems, problems.get(move)))

    def _seal(self, move: Move, file: int) -> None:
        """Write the trailer and give the file its name."""
        end = trailer(move.key, self._folder.model, self._view(move.slot))
        if os.pwrite(file, end, self._block_bytes) != len(end):
            raise OSError(errno.ENOSPC, "the end of the file was cut off")
        self._folder.commit(move.key)

    # --- reading -----------------------------------------------------------------------------------------------------

    def _read(self, storage: Storage, moves: Sequence[Move]) -> None:
        began_s = time.monotonic()
        files: dict[Move, int] = {}
        problems: dict[Move, str] = {}
        for move in moves:
            try:
                files[move] = self._folder.open(move.key)
            except OSError as error:
                problems[move] = error.strerror or str(error)
        whole = {move: file for move, file in files.items() if self._is_whole(file)}
        problems |= self._move(storage.read, whole)
        good = {move for move in whole if move not in problems and self._is_intact(move, whole[move])}
        for file in files.values():
            os.close(file)
        seconds = (time.monotonic() - began_s) / len(moves)
        for move in moves:
            if move not in good:
                problem = problems.get(move, "its checksum or its size is wrong")
                logger.warning("the file of block %s is deleted: %s", move.key.hex(), problem)
            self._results.append(WasRead(move.key, move in good, seconds))

    def _is_whole(self, file: int) -> bool:
        return os.fstat(file).st_size == self._block_bytes + TRAILER_BYTES

    def _is_intact(self, move: Move, file: int) -> bool:
        try:
            found = os.pread(file, TRAILER_BYTES, self._block_bytes)
        except OSError:
            return False
        return matches(found, move.key, self._folder.model, self._view(move.slot))

    def _move(self, move: Callable[[Sequence[Piece]], None], files: dict[Move, int]) -> dict[Move, str]:
        """Move all blocks, or one by one where that fails; return what is wrong with those that were not moved."""
        pieces = {one: Piece(file, self._address(one.slot), self._block_bytes) for one, file in files.items()}
        if not pieces or _problem(move, list(pieces.values())) is None:
            return {}
        told = {one: _problem(move, [piece]) for one, piece in pieces.items()}
        return {one: problem for one, problem in told.items() if problem is not None}


def _problem(move: Callable[[Sequence[Piece]], None], pieces: Sequence[Piece]) -> str | None:
    try:
        move(pieces)
    except StuckError:
        raise
    except OSError as error:
        return error.strerror or str(error)
    except OffloadError as error:
        return str(error)
    return None


def _some(queue: deque[_Job]) -> list[_Job]:
    return [queue.popleft() for _ in range(min(_BATCH, len(queue)))]


def _reserve(file: int, size: int) -> None:
    """Have the file take all of its space, so that a full disk is found out before anything is written."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)
