"""Ranks on other nodes: Ray places a keeper for each of them, and the keeper starts the rank's process there.

A rank's process is the same as on one machine. It speaks to rank 0 by a connection of its own, not through Ray: a step
costs one small message, and the end of either side shows at once.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from headrace_worker.errors import RankError
from headrace_worker.parallel.node import HEAD, LOG, RANKS
from headrace_worker.parallel.place import ADDRESS, SECRET, Started
from headrace_worker.parallel.raylet import environment
from headrace_worker.parallel.wire import Door, dial, key_of

logger = logging.getLogger(__name__)
HEAD_S: Final = 180.0
"""How long Ray's head may take to start."""
NODES_S: Final = 900.0
"""How long the other nodes may take to join: pods wait for room, and pull images."""
PLACE_S: Final = 120.0
START_S: Final = 180.0
"""How long the ranks' processes may take to connect."""
_DIAL_S: Final = 30.0
_SAY_S: Final = 10.0
_LOOK_S: Final = 0.2
_STOP_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Group:
    """A worker over several nodes, as rank 0 starts it."""

    address: str
    """Of rank 0, as the other nodes reach it."""
    port: int
    """Of Ray's head."""
    nodes: int
    ranks: int
    """Of the worker, rank 0 included; every node holds as many as the others."""
    secret: str

    @property
    def width(self) -> int:
        """Ranks of a node."""
        return self.ranks // self.nodes

    def bundles(self) -> list[dict[str, float]]:
        """Return what is asked of each node, the head first: rank 0 itself takes no place."""
        others = self.width - 1
        head = {HEAD: 1.0, **({RANKS: float(others)} if others else {})}
        return [head, *({RANKS: float(self.width)} for _ in range(1, self.nodes))]


class Keeper:
    """Runs in a process of Ray's on the rank's node, and keeps the rank's own process."""

    def run(self, command: Sequence[str], rank: int, host: str, port: int, channels: int) -> int:
        """Connect to rank 0, run the rank's process to its end and return its exit code."""
        key = key_of(os.environ.get(SECRET, ""))
        sockets = [dial(host, port, rank * channels + channel, key, _DIAL_S) for channel in range(channels)]
        try:
            descriptors = [one.fileno() for one in sockets]
            with _log() as log:
                process = subprocess.Popen(  # noqa: S603 - rank 0 says what to run
                    [*command, *map(str, descriptors)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=descriptors,
                    env=os.environ | {ADDRESS: sockets[0].getsockname()[0]},
                )
        finally:
            for one in sockets:
                one.close()
        return process.wait()


class Distant:
    """The process of a rank on another node, with the methods of `subprocess.Popen` that are needed of it."""

    def __init__(self, ray: Any, keeper: Any, result: Any) -> None:
        self._ray = ray
        self._keeper = keeper
        self._result = result

    def wait(self, timeout: float | None = None) -> int | None:
        """Return the exit code once the process has ended, None where its whole node has gone."""
        try:
            return int(self._ray.get(self._result, timeout=timeout))
        except self._ray.exceptions.GetTimeoutError as error:
            raise subprocess.TimeoutExpired("rank", timeout or 0.0) from error
        except self._ray.exceptions.RayError:
            return None

    def kill(self) -> None:
        """End it now."""
        self._ray.kill(self._keeper)


class Nodes:
    """The nodes of one worker: this one, where rank 0 runs Ray's head, and those that join it.

    Args:
        group: see there.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._head: subprocess.Popen[bytes] | None = None
        self._ray: Any = None

    def start(self, command: Sequence[str], channels: int) -> list[Started]:
        """Await the nodes and start every rank but rank 0, as `Place` says."""
        try:
            self._start_head()
            self._ray = ray = self._connect()
            self._await_nodes()
            bundles = self._place()
            with Door(self._group.address, key_of(self._group.secret)) as door:
                keepers = [self._keep(bundles, rank) for rank in range(1, self._group.ranks)]
                target = self._group.address, door.port, channels
                results = [keeper.run.remote(command, rank, *target) for rank, keeper in enumerate(keepers, 1)]
                found = self._admit(door, results, channels)
        except BaseException:
            self.close()
            raise
        return [
            Started(
                rank,
                tuple(found[rank * channels + channel] for channel in range(channels)),
                Distant(ray, keepers[rank - 1], results[rank - 1]),
            )
            for rank in range(1, self._group.ranks)
        ]

    def close(self) -> None:
        """Leave the other nodes and end Ray here; they notice that the head has gone, and end too."""
        if self._ray is not None:
            self._ray.shutdown()
        if self._head is not None:
            assert self._head.stdin is not None
            self._head.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._head.wait(_STOP_S)
            self._head.kill()
            self._head.wait()

    def _start_head(self) -> None:
        group = self._group
        command = [sys.executable, "-m", "headrace_worker.parallel.node", "--head", "--address", group.address]
        command += ["--port", str(group.port), "--ranks", str(group.width - 1)]
        self._head = subprocess.Popen(  # noqa: S603 - our own entry
            command, stdin=subprocess.PIPE, env=os.environ | {SECRET: group.secret}
        )
        _await(self._head_listens, HEAD_S, f"Ray's head does not listen at {group.address} port {group.port}")

    def _head_listens(self) -> bool:
        assert self._head is not None
        if self._head.poll() is not None:
            raise RankError("Ray's head could not start; what it said stands in the log")
        try:
            socket.create_connection((self._group.address, self._group.port), timeout=1.0).close()
        except OSError:
            return False
        return True

    def _connect(self) -> Any:
        """Return Ray, connected; it reads what it is told of the environment, and takes signals for itself."""
        os.environ.update(environment(self._group.secret))
        import ray  # noqa: PLC0415 - a second of time, and not needed on one node
        import ray.exceptions  # noqa: PLC0415

        held = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        where = f"[{self._group.address}]" if ":" in self._group.address else self._group.address
        try:
            ray.init(f"{where}:{self._group.port}", log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, TimeoutError, ray.exceptions.RayError) as error:
            raise RankError(f"rank 0 could not connect to Ray's head at {where}: {error}") from error
        finally:
            for number, handler in held.items():
                signal.signal(number, handler)
        return ray

    def _await_nodes(self) -> None:
        nodes = self._group.nodes

        def joined() -> str | None:
            alive = sum(bool(node["Alive"]) for node in self._ray.nodes())
            return None if alive >= nodes else f"{alive} of {nodes} nodes have joined"

        said, told, began = "", 0.0, time.monotonic()
        while (state := joined()) is not None:
            now = time.monotonic()
            if now - began > NODES_S:
                raise RankError(f"{state} after {NODES_S:g} s; the worker needs all of them")
            if state != said or now - told >= _SAY_S:
                said, told = state, now
                logger.info("waiting: %s", state)
            time.sleep(_LOOK_S)
        logger.info("all %d nodes have joined", nodes)

    def _place(self) -> Any:
        bundles = self._group.bundles()
        placed = self._ray.util.placement_group(bundles, strategy="STRICT_SPREAD", name="headrace")
        if not placed.wait(PLACE_S):
            raise RankError(f"{self._group.nodes} nodes have joined, but they offer no place for {bundles}")
        return placed

    def _keep(self, bundles: Any, rank: int) -> Any:
        place = self._ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
            bundles, placement_group_bundle_index=rank // self._group.width
        )
        options = {"num_cpus": 0, "resources": {RANKS: 1}, "max_restarts": 0, "scheduling_strategy": place}
        return self._ray.remote(Keeper).options(**options).remote()

    def _admit(self, door: Door, results: Sequence[Any], channels: int) -> dict[int, socket.socket]:
        """Return the connections of all ranks, by rank and channel."""
        found: dict[int, socket.socket] = {}
        until = time.monotonic() + START_S
        while len(found) < len(results) * channels:
            ended, _ = self._ray.wait(list(results), timeout=0)
            if ended:
                raise RankError(f"rank {results.index(ended[0]) + 1} could not start: {_end_of(self._ray, ended[0])}")
            if time.monotonic() > until:
                missing = sorted({rank for rank in range(1, len(results) + 1) if rank * channels not in found})
                raise RankError(f"ranks {missing} have not connected to rank 0 within {START_S:g} s")
            if (come := door.accept(1.0)) is not None:
                number, connection = come
                found[number] = connection
        return found


def _end_of(ray: Any, result: Any) -> str:
    try:
        return f"its process ended with exit code {ray.get(result, timeout=1.0)}"
    except Exception as error:  # noqa: BLE001 - the keeper's own words, whatever they are
        return str(error).strip().splitlines()[-1]


def _await(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            raise RankError(f"{what} within {timeout_s:g} s")
        time.sleep(_LOOK_S)


@contextmanager
def _log() -> Iterator[IO[bytes] | None]:
    """Open the log of the node's own process; None, where that cannot be: Ray then keeps what a rank says."""
    with ExitStack() as stack:
        log = None
        with suppress(KeyError, OSError):
            log = stack.enter_context(Path(os.environ[LOG]).open("ab", buffering=0))
        yield log
