"""The other ranks of a worker, as rank 0 sees them: processes, a pipe to each, and one sentence when one has ended."""

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from headrace_worker.errors import RankError
from headrace_worker.parallel.messages import Begin, Broken, End, Found, FromRank, Load, Loaded, ToRank
from headrace_worker.parallel.pipe import Pipe, encode, make_pipe, take_pipe
from headrace_worker.parallel.place import Place, Process

_Kind = TypeVar("_Kind", Found, Loaded)
logger = logging.getLogger(__name__)
RANK: Final = (sys.executable, "-m", "headrace_worker.engine.rank")
START_S: Final = 120.0
"""How long a rank's process may take until it has seen the model's files."""
LOAD_S: Final = 1800.0
"""How long ranks may take to read weights."""
_STOP_S = 5.0
_NOTICE_S = 5.0
"""How long a step may go on once a rank has ended: over sockets operations fail at once, NCCL's wait for ever."""
_LOOK_S: Final = 0.2


@dataclass(slots=True, eq=False)
class _Rank:
    number: int
    pipe: Pipe[FromRank]
    courier: Pipe[Any] | None
    process: Process


class Ranks:
    """Starts the other ranks of the worker and watches them.

    Args:
        size: ranks of the worker, this one included.
        settings: of the worker, as JSON.
        wake: called, on another thread, when a rank has ended.
        incoming: type of what arrives on a second pipe, that of the ranks' couriers; None: they need none.
        command: what to start; the numbers of its pipes' descriptors are appended.
        place: where the ranks run; None: on this machine.
    """

    def __init__(
        self,
        size: int,
        settings: str,
        wake: Callable[[], None] = lambda: None,
        *,
        incoming: Any = None,
        command: Sequence[str] = RANK,
        place: Place | None = None,
    ) -> None:
        self.size = size
        self._place = place
        self._wake = wake
        self._closing = False
        self._ended: str | None = None
        self._permanent = False
        self._noticed = threading.Event()
        self._over = threading.Event()
        self._ranks: list[_Rank] = []
        if place is None:
            self._ranks += [_start(number, command, incoming) for number in range(1, size)]
        else:
            self._ranks += _start_there(place, command, incoming)
        for rank in self._ranks:
            rank.pipe.send(Begin(rank.number, settings))

    @property
    def couriers(self) -> list[Pipe[Any]]:
        """The second pipes."""
        return [rank.courier for rank in self._ranks if rank.courier is not None]

    # --- start -------------------------------------------------------------------------------------------------------

    def agree(self, kv_hash: str, num_blocks: int) -> int:
        """Return the KV blocks that fit on every rank; raise RankError where one has found another model."""
        for rank in self._ranks:
            found = self._expect(rank, Found, START_S)
            if found.kv_hash != kv_hash:
                raise RankError(
                    f"rank {rank.number} of {self.size} has found a model with KV compatibility hash "
                    f"{found.kv_hash!r}, rank 0 has {kv_hash!r}; all ranks must read the same files"
                )
            num_blocks = min(num_blocks, found.num_blocks)
        return num_blocks

    def load(self, store_host: str, store_port: int, num_blocks: int) -> None:
        """Have all ranks meet and read their weights."""
        self.tell(Load(store_host, store_port, num_blocks))

    @contextmanager
    def meeting(self) -> Iterator[None]:
        """Watch the ranks while they meet: torch waits minutes for one that is not there, in a call without an end."""
        over = threading.Event()
        watch = threading.Thread(target=self._watch_meeting, args=(over,), name="meeting", daemon=True)
        watch.start()
        try:
            yield
        except RankError as error:
            raise self._last_words() or error from error
        finally:
            over.set()
            watch.join()

    def _watch_meeting(self, over: threading.Event) -> None:
        while not over.wait(_LOOK_S):
            gone = next((rank for rank in self._ranks if _has_ended(rank.process)), None)
            if gone is None or over.wait(_NOTICE_S):
                continue
            reason = _reason(gone.process.wait())
            error = self._last_words() or self._error(gone, f"it has ended {reason} before all ranks had met")
            self._ended = str(error)
            self._end_hard()

    def _last_words(self) -> RankError | None:
        """Return why a rank has given up, where one has said so."""
        for rank in self._ranks:
            with suppress(RankError):
                for message in rank.pipe.messages():
                    if isinstance(message, Broken):
                        return self._error(rank, message.message, permanent=message.permanent)
        return None

    def await_loaded(self) -> None:
        """Return when all ranks are ready for steps, and watch them from then on."""
        for rank in self._ranks:
            self._expect(rank, Loaded, LOAD_S)
        for rank in self._ranks:
            threading.Thread(target=self._watch, args=(rank,), name=f"rank-{rank.number}", daemon=True).start()

    def _expect(self, rank: _Rank, kind: type[_Kind], timeout_s: float) -> _Kind:
        try:
            message = rank.pipe.receive(timeout_s)
        except RankError as error:
            raise self._error(rank, str(error)) from error
        if isinstance(message, Broken):
            raise self._error(rank, message.message, permanent=message.permanent)
        assert isinstance(message, kind), f"rank {rank.number} said {message} in place of {kind.__name__}"
        return message

    def _error(self, rank: _Rank, reason: str, *, permanent: bool = False) -> RankError:
        error = RankError(f"rank {rank.number} of {self.size} could not start: {reason}")
        error.permanent = permanent
        return error

    # --- steps -------------------------------------------------------------------------------------------------------

    def tell(self, message: ToRank) -> None:
        """Send a message to all ranks, encoded once."""
        data = encode(message)
        for rank in self._ranks:
            try:
                rank.pipe.send_encoded(data)
            except RankError as error:
                raise self.failure(error) from error

    def check(self) -> None:
        """Raise RankError when a rank has ended."""
        if self._ended is not None:
            raise self.failure(None)

    def failure(self, error: Exception | None) -> RankError:
        """Return why a step with the other ranks failed: the end of a rank where there was one."""
        if error is not None:
            self._over.wait(_NOTICE_S / 2)
        self._noticed.set()
        reason = f"the ranks of the worker lost each other: {error}" if self._ended is None else self._ended
        found = RankError(reason)
        found.permanent = self._permanent
        return found

    def _watch(self, rank: _Rank) -> None:
        """Wait for the end of one rank; its last words are in the pipe."""
        code = rank.process.wait()
        if self._closing or self._ended is not None:
            return
        reason = _reason(code)
        with suppress(RankError):
            message = rank.pipe.receive(0)
            if isinstance(message, Broken):
                reason = f"with: {message.message}"
        self._ended = f"rank {rank.number} of {self.size} has ended {reason}; the whole worker ends with it"
        self._over.set()
        self._wake()
        if not self._noticed.wait(_NOTICE_S):
            self._end_hard()

    def _end_hard(self) -> None:
        """End this process: the step waits for a rank that is not there, in a call that nothing else ends."""
        if not self._closing:
            logger.error(self._ended)
            signal.raise_signal(signal.SIGKILL)

    def close(self) -> None:
        """End all ranks."""
        self._closing = True
        for rank in self._ranks:
            with suppress(RankError):
                rank.pipe.send(End())
        until = time.monotonic() + _STOP_S
        for rank in self._ranks:
            try:
                rank.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                rank.process.kill()
                rank.process.wait()
            rank.pipe.close()
            if rank.courier is not None:
                rank.courier.close()
        if self._place is not None:
            self._place.close()


def _start(number: int, command: Sequence[str], incoming: Any) -> _Rank:
    pipe, theirs = make_pipe(number, FromRank)
    ends, courier = [theirs], None
    if incoming is not None:
        courier, other = make_pipe(number, incoming)
        ends.append(other)
    descriptors = [end.fileno() for end in ends]
    try:
        process = subprocess.Popen(  # noqa: S603 - our own entry
            [*command, *map(str, descriptors)], stdin=subprocess.DEVNULL, pass_fds=descriptors
        )
    finally:
        for end in ends:
            end.close()
    logger.info("rank %d started as process %d", number, process.pid)
    return _Rank(number, pipe, courier, process)


def _start_there(place: Place, command: Sequence[str], incoming: Any) -> list[_Rank]:
    types = [FromRank, *([] if incoming is None else [incoming])]
    found = []
    for started in place.start(command, len(types)):
        ends = [take_pipe(started.number, *one) for one in zip(started.sockets, types, strict=True)]
        found.append(_Rank(started.number, ends[0], ends[1] if len(ends) > 1 else None, started.process))
    return found


def _has_ended(process: Process) -> bool:
    try:
        process.wait(0.0)
    except subprocess.TimeoutExpired:
        return False
    return True


def _reason(code: int | None) -> str:
    if code is None:
        return "with its node"
    return f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
