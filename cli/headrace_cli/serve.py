"""The life of `headrace up`: starting, serving, draining, and both kinds of Ctrl-C."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headrace_cli.display import Display
from headrace_operator.backend import converge
from headrace_operator.desired import Desired
from headrace_operator.errors import CrashLoopError
from headrace_operator.local.backend import LocalBackend
from headrace_operator.local.group import end_adopted
from headrace_operator.local.logs import Follower
from headrace_operator.local.settings import LocalSettings
from headrace_operator.observed import Failure, Observed
from headrace_operator.status import conditions, is_ready

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FOLLOW_S = 0.2
GIVE_UP_AFTER = 2
"""Before all was ready once, so many ends in a row are the user's answer: one may be an accident, two are a fault."""
KILLED_STATUS = 130

Welcome = Callable[[str, Sequence[str]], list[str]]
"""Makes the lines that greet the user from the router's URL and the names of the deployments it serves."""


async def serve(desired: Desired, settings: LocalSettings, display: Display, welcome: Welcome, *, follow: bool) -> int:
    """Serve until a signal, then drain; return the exit status.

    A second signal ends everything at once. Afterwards no process that was started here is left.

    Raises:
        CrashLoopError: a worker or the router does not become ready.
    """
    backend = LocalBackend(settings, display.event)
    session = _Session(desired, backend, display)
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    for number in _SIGNALS:
        loop.add_signal_handler(number, session.interrupt, task)
    follower = asyncio.create_task(_follow(backend, display)) if follow else None
    try:
        async with backend:
            await session.start(welcome)
            await session.stay()
            await session.drain()
    except asyncio.CancelledError:
        display.line("ended at once")
        return KILLED_STATUS
    finally:
        if follower is not None:
            follower.cancel()
        await end_adopted(settings.end_deadline_s)
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    return 0


@dataclass(slots=True)
class _Session:
    """One run: what is asked for, and how far the user's patience goes."""

    desired: Desired
    backend: LocalBackend
    display: Display
    stopping: bool = False
    _missing: str = field(default="")

    def interrupt(self, task: asyncio.Task[object]) -> None:
        """Take a signal: the first one asks for a drain, the second one ends."""
        if self.stopping:
            task.cancel()
        else:
            self.stopping = True
            self.backend.wake()

    async def start(self, welcome: Welcome) -> None:
        """Wait until all is ready and greet the user, unless a signal comes first."""
        observed = await converge(self.desired, self.backend, self._started)
        if self.stopping:
            return
        self.display.starting = False
        self.backend.publish()
        assert observed.router is not None
        assert self.desired.router is not None
        assert observed.router.url is not None
        served = [name for name in self.desired.deployments if name in self.desired.router.serves]
        for line in welcome(observed.router.url, served):
            self.display.line(line)

    async def stay(self) -> None:
        """Serve until a signal."""
        await converge(self.desired, self.backend, self._served)

    async def drain(self) -> None:
        """Let running requests finish and wait until all processes have ended."""
        self.display.line("draining; Ctrl-C again ends at once")
        await converge(Desired(), self.backend, lambda now: not now.pools and now.router is None)

    def _started(self, observed: Observed) -> bool:
        self.display.observe(observed)
        if self.stopping:
            return True
        for failure in _failures(observed):
            if failure.permanent or failure.count >= GIVE_UP_AFTER:
                raise CrashLoopError(_explain(failure))
        return is_ready(self.desired, observed)

    def _served(self, observed: Observed) -> bool:
        """Tell once when a deployment loses something, and once when all is well again."""
        self.display.observe(observed)
        if self.stopping:
            return True
        missing = "; ".join(
            f"{name}: {ready.message}"
            for name in self.desired.deployments
            if not (ready := conditions(name, self.desired, observed)[-1]).holds
        )
        if bool(missing) != bool(self._missing):
            self.display.line(f"degraded: {missing}" if missing else "all is ready again")
        self._missing = missing
        return False


def _failures(observed: Observed) -> list[Failure]:
    """Return how those ended that ended unasked: workers, then the router."""
    children = (*observed.workers, *((observed.router,) if observed.router is not None else ()))
    return [child.failure for child in children if child.failure is not None]


def _explain(failure: Failure) -> str:
    """Return a sentence with the end of the log, which says more than an exit code."""
    times = "" if failure.count == 1 else f" ({failure.count} times in a row)"
    log = "".join(f"\n  {line}" for line in failure.lines) or "\n  (its log is empty)"
    return f"{failure.message}{times} and does not start; the last lines of its log:{log}"


async def _follow(backend: LocalBackend, display: Display) -> None:
    """Print each new line of each log with the name of who wrote it."""
    followers: dict[str, Follower] = {}
    while True:
        for name, path in backend.logs().items():
            for line in followers.setdefault(name, Follower(path)).lines():
                display.line(f"{name} | {line}")
        await asyncio.sleep(_FOLLOW_S)
