"""The process backend: applies actions to processes, and sees what has become of them."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from headrace_api.handoff import Dead
from headrace_operator.actions import (
    Action,
    DrainPool,
    EnsurePool,
    EnsureRouter,
    RemovePool,
    RemoveRouter,
    Route,
    ScalePool,
    Verify,
)
from headrace_operator.desired import DeploymentName, Pool, PoolKey, WorkerName
from headrace_operator.errors import ProbeError
from headrace_operator.http.client import Client
from headrace_operator.http.probe import try_handoff
from headrace_operator.local import logs
from headrace_operator.local.backoff import pause_s
from headrace_operator.local.child import Surroundings
from headrace_operator.local.events import Event, HandoffFailed, HandoffVerified
from headrace_operator.local.group import become_subreaper
from headrace_operator.local.router import RouterChild
from headrace_operator.local.settings import LocalSettings
from headrace_operator.local.state import document, write_json
from headrace_operator.local.worker import WorkerChild
from headrace_operator.observed import Endpoint, Observed, ObservedPool, Pair, Phase

logger = logging.getLogger(__name__)

_TRIM_EVERY_S = 10.0
_ANNOUNCE_FIRST_S = 0.1
_ANNOUNCE_MOST_S = 5.0


class LocalBackend:
    """Workers and router as processes; use as an async context, which ends with none of them left.

    Args:
        settings: see there.
        report: takes each event, at once and in order.
    """

    def __init__(self, settings: LocalSettings, report: Callable[[Event], None]) -> None:
        self._settings = settings
        self._report = report
        self._pools: dict[PoolKey, ObservedPool] = {}
        self._workers: dict[WorkerName, WorkerChild] = {}
        self._router: RouterChild | None = None
        self._secrets: dict[DeploymentName, str] = {}
        self._verified: set[str] = set()
        self._probing: set[Pair] = set()
        self._resting: set[Pair] = set()
        self._failed: dict[Pair, int] = {}
        self._routed: tuple[Endpoint, ...] = ()
        self._discovery = settings.folder / "state.json"
        self._written: dict[Path, dict[str, Any]] = {}
        self._published = False
        self._changed = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()
        self._client = Client(settings.answer_deadline_s)
        self._surroundings = Surroundings(settings, self._client, report, self._notify)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if not become_subreaper():
            logger.debug("no subreaper here: orphans of a worker's group are reaped by the system")
        self._stack.callback(become_subreaper, on=False)
        await self._stack.enter_async_context(self._tasks)
        self._spawn(self._trim_logs())
        self._write_state()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill every process that still runs, wait until all have gone, and take the state file back.

        The body's own error is not shown to the task group, which would wrap it; it is raised after this as it is.
        """
        del kind, error, traceback
        for task in self._running:
            task.cancel()
        await self._stack.aclose()
        if self._published and self._settings.state_file is not None:
            with suppress(OSError):
                self._settings.state_file.unlink(missing_ok=True)

    def observe(self) -> Observed:
        """Return a snapshot; changes after it make `changed` return."""
        self._changed.clear()
        workers = tuple(child.snapshot() for child in self._workers.values())
        alive = {worker.incarnation for worker in workers}
        self._verified &= alive
        self._failed = {pair: count for pair, count in self._failed.items() if {pair.prefill, pair.decode} <= alive}
        return Observed(
            pools=tuple(self._pools.values()),
            workers=workers,
            router=None if self._router is None else self._router.snapshot(),
            verified=frozenset(self._verified),
            probing=frozenset(self._probing),
            resting=frozenset(self._resting),
            routed=self._routed,
        )

    async def changed(self, timeout_s: float) -> None:
        """Return once something differs from the last snapshot, or after `timeout_s`.

        Not by `asyncio.wait_for`: in Python 3.11 it loses a cancellation that comes together with the event.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    def wake(self) -> None:
        """Make `changed` return, for news from elsewhere."""
        self._changed.set()

    async def apply(self, action: Action) -> None:
        """Begin an action; none of them waits for its effect."""
        match action:
            case EnsurePool(pool):
                self._ensure_pool(pool)
            case ScalePool(key, replicas):
                self._scale_pool(key, replicas)
            case DrainPool(key):
                self._drain_pool(key)
            case RemovePool(key):
                self._remove_pool(key)
            case Verify():
                self._probing.add(action.pair)
                self._spawn(self._verify(action))
            case Route(endpoints):
                self._routed = endpoints
            case EnsureRouter(router) if self._router is None:
                self._router = RouterChild(router, self._discovery, self._surroundings)
                self._spawn(self._keep_router(self._router))
            case EnsureRouter(router) if self._router is not None:
                self._router.router = router
            case RemoveRouter() if self._router is not None:
                self._router.drain()
        self._notify()

    def publish(self) -> None:
        """Write the user's state file now and on every change from here on."""
        self._published = True
        self._write_state()

    def logs(self) -> dict[str, Path]:
        """Return the log file of each child, by name."""
        return {child.name: child.log for child in self._children()}

    def pids(self) -> dict[str, int]:
        """Return the leader of each running process group, by the child's name."""
        return {child.name: child.pid for child in self._children() if child.pid is not None}

    def _children(self) -> Iterable[WorkerChild | RouterChild]:
        yield from self._workers.values()
        if self._router is not None:
            yield self._router

    def _spawn(self, coroutine: Any) -> None:
        task: asyncio.Task[None] = self._tasks.create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _notify(self) -> None:
        self._changed.set()
        self._write_state()

    def _ensure_pool(self, pool: Pool) -> None:
        """Hold the pool's number of workers; each takes the lowest number that is free among those of its role."""
        self._pools[pool.key] = ObservedPool.of(pool)
        secret = self._secrets.setdefault(pool.deployment, os.urandom(32).hex())
        for _ in range(pool.replicas - len(self._staying(pool.key))):
            child = WorkerChild(self._free_name(pool), pool, secret, self._surroundings, self._vouch)
            self._workers[child.worker] = child
            self._spawn(child.supervise())
        self._scale_pool(pool.key, pool.replicas)

    def _free_name(self, pool: Pool) -> WorkerName:
        names = (WorkerName(f"{pool.deployment}-{pool.role}-{ordinal}") for ordinal in count())
        return next(name for name in names if name not in self._workers or self._workers[name].phase is Phase.DEAD)

    def _scale_pool(self, key: PoolKey, replicas: int) -> None:
        self._pools[key] = replace(self._pools[key], replicas=replicas)
        for child in self._staying(key)[replicas:]:
            child.drain()

    def _drain_pool(self, key: PoolKey) -> None:
        self._pools[key] = replace(self._pools[key], draining=True)
        for child in self._members(key):
            child.drain()

    def _remove_pool(self, key: PoolKey) -> None:
        del self._pools[key]
        for child in self._members(key):
            del self._workers[child.worker]

    def _members(self, key: PoolKey) -> list[WorkerChild]:
        return [child for child in self._workers.values() if child.pool.key == key]

    def _staying(self, key: PoolKey) -> list[WorkerChild]:
        return [child for child in self._members(key) if child.phase not in {Phase.DRAINING, Phase.DEAD}]

    async def _keep_router(self, router: RouterChild) -> None:
        await router.supervise()
        self._router = None
        self._notify()

    async def _verify(self, action: Verify) -> None:
        """Try a hand-off; after a failure the pair rests before it is tried again."""
        pair = action.pair
        try:
            prefill, decode = self._workers[action.prefill], self._workers[action.decode]
            handoff = await try_handoff(
                self._client,
                prefill.snapshot(),
                decode.snapshot(),
                decode.pool.template,
                self._settings.probe_deadline_s,
            )
        except (ProbeError, KeyError) as error:
            self._report(HandoffFailed(action.prefill, action.decode, str(error)))
            failures = self._failed[pair] = self._failed.get(pair, 0) + 1
            self._resting.add(pair)
            self._probing.discard(pair)
            self._notify()
            await asyncio.sleep(pause_s(failures, self._settings.probe_rest_first_s, self._settings.probe_rest_most_s))
        else:
            self._verified |= {pair.prefill, pair.decode}
            self._report(HandoffVerified(action.prefill, action.decode, handoff.size_bytes, handoff.took_s))
        finally:
            self._probing.discard(pair)
            self._resting.discard(pair)
            self._notify()

    def _vouch(self, gone: WorkerChild, incarnation: str) -> None:
        """Tell each decode worker of the deployment that an incarnation cannot write any more."""
        for child in self._workers.values():
            if child.pool.deployment == gone.pool.deployment and child.pool.role == "decode" and child is not gone:
                self._spawn(self._announce(child, incarnation))

    async def _announce(self, child: WorkerChild, gone: str) -> None:
        """Repeat the news until the worker took note, or ended itself, which frees its blocks as well."""
        listener, pause_s = child.incarnation, _ANNOUNCE_FIRST_S
        while child.url is not None and child.incarnation == listener:
            if await self._client.announce_end(child.url, Dead(gone), self._secrets[child.pool.deployment]):
                return
            await asyncio.sleep(pause_s)
            pause_s = min(_ANNOUNCE_MOST_S, 2 * pause_s)

    async def _trim_logs(self) -> None:
        while True:
            await asyncio.sleep(_TRIM_EVERY_S)
            for child in self._children():
                logs.trim(child.log, self._settings.log_bytes)

    def _write_state(self) -> None:
        """Write the files whose content has changed: the router's own, and the user's once it is published."""
        router, pids = self._router, self.pids()
        where = None
        if router is not None and router.url is not None and router.pid is not None and router.phase is Phase.READY:
            where = (router.url, router.pid)
        served = [one for one in self._routed if router is None or one.deployment in router.router.serves]
        if router is not None:
            router.told = frozenset(one.url for one in served if one.name in pids)
        models = () if router is None else router.router.serves
        self._write(self._discovery, document(where, served, pids, models))
        if self._published and self._settings.state_file is not None:
            self._write(self._settings.state_file, document(where, self._routed, pids, models))

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        if self._written.get(path) == content:
            return
        try:
            write_json(path, content)
        except OSError as error:
            logger.warning("the state file %s cannot be written: %s", path, error)
            return
        self._written[path] = content
