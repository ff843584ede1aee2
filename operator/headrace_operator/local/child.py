"""One supervised process: started, asked whether it is ready, started again when it dies, drained on request."""

import asyncio
import contextlib
import logging
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace_operator.errors import GroupAliveError
from headrace_operator.http.client import Client, Readiness
from headrace_operator.local.backoff import pause_s
from headrace_operator.local.events import BecameReady, BecameUnready, Drained, Ended, Event, Started
from headrace_operator.local.group import ProcessGroup, describe_exit
from headrace_operator.local.logs import last_lines, size_of
from headrace_operator.local.settings import LocalSettings
from headrace_operator.local.state import read_json
from headrace_operator.observed import Failure, Phase, Progress

logger = logging.getLogger(__name__)

_SHOWN_LINES = 8
_REFUSED_STATUS = 2
"""What the worker and the router exit with when their settings are wrong: starting again cannot help."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all children of a backend share: `changed` is called after every change of a child's public attributes."""

    settings: LocalSettings
    client: Client
    report: Callable[[Event], None]
    changed: Callable[[], None]


class Child(ABC):
    """A process that is kept running until it is drained.

    Args:
        name: stable over restarts; files are named after it.
        surroundings: what all children of a backend share.
    """

    ready_path = "/ready"

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        self.name = name
        self.log: Path = surroundings.settings.folder / f"{name}.log"
        self.phase = Phase.STARTING
        self.url: str | None = None
        self.progress: Progress | None = None
        self.failure: Failure | None = None
        self.workers: frozenset[str] = frozenset()
        self._settings = surroundings.settings
        self._client = surroundings.client
        self._report = surroundings.report
        self._changed = surroundings.changed
        self._group: ProcessGroup | None = None
        self._drained = asyncio.Event()
        self._overdue = False
        self._starts = 0
        self._logged_before = 0
        self._ready_at: float | None = None

    @abstractmethod
    def prepare(self, ready_file: Path) -> Sequence[str]:
        """Write the files of the next start and return its command; the process writes `ready_file`."""

    @abstractmethod
    def ended(self) -> None:
        """Take note that all processes of a start are proved to have gone."""

    @property
    def settled(self) -> bool:
        """Whether nobody waits for this child to say something new."""
        return True

    @property
    def pid(self) -> int | None:
        """Leader of the running process group."""
        return None if self._group is None else self._group.pid

    async def supervise(self) -> None:
        """Keep the process running until `drain`; on cancellation kill it, and return with none of it left."""
        try:
            while not self._drained.is_set():
                await self._run()
                if not self._drained.is_set():
                    await self._pause()
        finally:
            self.phase = Phase.DEAD
            self._changed()

    def drain(self) -> None:
        """Ask the process to finish what runs and end; it is killed at the drain deadline."""
        if self._drained.is_set():
            return
        self._drained.set()
        self.phase = Phase.DRAINING
        if self._group is not None:
            self._group.signal(signal.SIGTERM)
        self._changed()

    async def _run(self) -> None:
        """Live through one start of the process, from its command to the proof of its end."""
        self.phase, self.url, self.progress, self._ready_at = Phase.STARTING, None, None, None
        self.workers = frozenset()
        self._logged_before = size_of(self.log)
        ready_file = self._settings.folder / f"{self.name}.ready.json"
        try:
            ready_file.unlink(missing_ok=True)
            group = self._group = ProcessGroup.start(self.prepare(ready_file), self.log, self._environment())
        except OSError as error:
            self._fail(f"could not be started: {error}", permanent=False)
            return
        self._starts += 1
        self._report(Started(self.name, group.pid, restart=self._starts > 1))
        self._changed()
        status = 0
        try:
            async with asyncio.TaskGroup() as tasks:
                watcher = tasks.create_task(self._watch(group, ready_file))
                await self._leader_ended(group)
                watcher.cancel()
        finally:
            self.url = None
            status = await self._end(group)
            self._group = None
        self._settle(status)

    def _environment(self) -> dict[str, str]:
        """Return the environment of a start: temporary files lie in the backend's folder and vanish with it."""
        temporary = self._settings.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        return {**os.environ, "TMPDIR": str(temporary)}

    async def _leader_ended(self, group: ProcessGroup) -> None:
        """Wait for the leader's end, and once a drain began no longer than its deadline."""
        ended = asyncio.ensure_future(group.leader_ended())
        drained = asyncio.ensure_future(self._drained.wait())
        try:
            await asyncio.wait({ended, drained}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                _, pending = await asyncio.wait({ended}, timeout=self._settings.drain_deadline_s)
                self._overdue = bool(pending)
        finally:
            ended.cancel()
            drained.cancel()

    async def _end(self, group: ProcessGroup) -> int:
        """Kill what is left of the group and return the leader's status, however long the kernel takes.

        Once this task is cancelled, one deadline is enough: the user wants to leave.
        """
        task = asyncio.current_task()
        while True:
            try:
                return await group.end(self._settings.end_deadline_s)
            except GroupAliveError as error:
                logger.critical("%s: %s", self.name, error)
                if task is not None and task.cancelling():
                    return -signal.SIGKILL

    def _settle(self, status: int) -> None:
        """Note how a start ended, now that all of it has gone."""
        if self._drained.is_set():
            self._report(Drained(self.name, self._overdue))
        else:
            refused = status == _REFUSED_STATUS and self._ready_at is None
            self._fail(describe_exit(status), permanent=refused)
        self.ended()

    def _fail(self, reason: str, *, permanent: bool) -> None:
        now = asyncio.get_running_loop().time()
        healthy = self._ready_at is not None and now - self._ready_at >= self._settings.healthy_after_s
        count = 1 if healthy or self.failure is None else self.failure.count + 1
        lines = tuple(last_lines(self.log, _SHOWN_LINES, self._logged_before))
        self.phase, self.progress = Phase.BACKOFF, None
        self.failure = Failure(count, f"{self.name} {reason}", permanent, lines)
        self._report(Ended(self.name, reason, self._pause_s(), count, lines))
        self._changed()

    def _pause_s(self) -> float:
        assert self.failure is not None
        return pause_s(self.failure.count, self._settings.backoff_first_s, self._settings.backoff_most_s)

    async def _pause(self) -> None:
        """Wait before the next start, no longer than until a drain."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause_s()):
                await self._drained.wait()

    async def _watch(self, group: ProcessGroup, ready_file: Path) -> None:
        """Follow the process from its first sign of life; kill it when it has been silent for too long."""
        loop = asyncio.get_running_loop()
        url = await self._listening(ready_file)
        self.url = url
        self._changed()
        since = answered_at = loop.time()
        misses = 0
        while True:
            answer = await self._client.readiness(url + self.ready_path)
            if answer is not None:
                misses, answered_at = 0, loop.time()
                since = self._take(answer, since)
            else:
                misses += 1
                if misses >= self._settings.unready_after:
                    self._lose("it does not answer")
                if loop.time() - answered_at > self._settings.liveness_deadline_s:
                    logger.error("%s has not answered for %.0f s; killing it", self.name, loop.time() - answered_at)
                    group.kill()
                    return
            calm = self.phase is Phase.READY and self.settled
            await asyncio.sleep(self._settings.ready_poll_s if calm else self._settings.starting_poll_s)

    async def _listening(self, ready_file: Path) -> str:
        """Return the URL that the process wrote; its end, not a deadline, ends this wait."""
        while True:
            content = read_json(ready_file)
            if content is not None and isinstance(content.get("url"), str):
                return str(content["url"]).rstrip("/")
            await asyncio.sleep(self._settings.starting_poll_s)

    def _take(self, answer: Readiness, since: float) -> float:
        """Note an answer; return the time from which the next `BecameReady` counts."""
        now = asyncio.get_running_loop().time()
        if self.phase is Phase.DRAINING:
            return since
        if answer.workers != self.workers:
            self.workers = answer.workers
            self._changed()
        if answer.ready and self.phase is not Phase.READY:
            self.phase, self.progress = Phase.READY, None
            self._ready_at = self._ready_at or now
            self._report(BecameReady(self.name, now - since))
            self._changed()
        elif not answer.ready:
            if self.phase is Phase.READY:
                since = now
                self._lose("it says that it is not ready")
            if answer.progress != self.progress:
                self.progress = answer.progress
                self._changed()
        return since

    def _lose(self, reason: str) -> None:
        """Take the traffic from a process that was ready."""
        if self.phase is Phase.READY:
            self.phase = Phase.STARTING
            self._report(BecameUnready(self.name, reason))
            self._changed()
