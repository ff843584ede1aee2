"""The process backend with real processes: start, death, restart, drain, and nothing left behind."""

import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from headrace_operator.backend import converge
from headrace_operator.desired import DeploymentName, Desired, Pool, Router, Template
from headrace_operator.local.backend import LocalBackend
from headrace_operator.local.events import (
    BecameUnready,
    Drained,
    Ended,
    Event,
    HandoffFailed,
    HandoffVerified,
    Started,
)
from headrace_operator.local.settings import LocalSettings
from headrace_operator.observed import Observed, ObservedRouter, Phase, Worker
from headrace_operator.status import is_ready

pytestmark = [pytest.mark.processes, pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")]

FAKE = (sys.executable, "-S", str(Path(__file__).with_name("fake_child.py")))
CHAT = DeploymentName("chat")
DEADLINE_S = 60.0


def split(model: str = "fake:", *, prefills: int = 1, decodes: int = 1) -> Desired:
    """Prefill and decode workers of one deployment behind a router."""
    template = Template(model, threads=1)
    pools = (Pool(CHAT, "prefill", prefills, template), Pool(CHAT, "decode", decodes, template))
    return Desired(pools, Router(frozenset({CHAT})))


def whole(model: str = "fake:") -> Desired:
    """One unified worker behind a router."""
    return Desired((Pool(CHAT, "unified", 1, Template(model, threads=1)),), Router(frozenset({CHAT})))


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@dataclass
class Local:
    """A backend at work: its events, its folder, and waits with a deadline."""

    settings: LocalSettings
    backend: LocalBackend
    events: list[Event] = field(default_factory=list)

    async def until(self, desired: Desired, done: Callable[[Observed], bool]) -> Observed:
        async with asyncio.timeout(DEADLINE_S):
            return await converge(desired, self.backend, done, resync_s=0.05)

    async def ready(self, desired: Desired) -> Observed:
        return await self.until(desired, lambda observed: is_ready(desired, observed))

    async def ended(self) -> Observed:
        return await self.until(Desired(), lambda observed: not observed.pools and observed.router is None)

    def journal(self) -> list[str]:
        return (self.settings.folder / "journal").read_text().splitlines()

    def started(self) -> list[int]:
        """Process ids of all leaders and grandchildren there ever were."""
        return [int(pid) for line in self.journal() if " started " in line for pid in line.split()[2:4]]

    def has_state(self) -> bool:
        assert self.settings.state_file is not None
        return self.settings.state_file.exists()

    def state(self) -> dict[str, Any]:
        assert self.settings.state_file is not None
        content: dict[str, Any] = json.loads(self.settings.state_file.read_text())
        return content


Opener = Callable[..., Any]


def children() -> set[int]:
    """Return the children of this process, those that were orphaned to it and zombies too."""
    return {child.pid for child in psutil.Process().children()}


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Opener]:
    """`async with local(**settings) as it:` gives a `Local`; afterwards no process of it may be left."""
    folder = tmp_path / "run"
    folder.mkdir()
    base = LocalSettings(
        folder,
        state_file=tmp_path / "state.json",
        worker_command=FAKE,
        router_command=FAKE,
        starting_poll_s=0.01,
        ready_poll_s=0.05,
        backoff_first_s=0.05,
        drain_deadline_s=10,
        probe_rest_first_s=0.05,
    )

    others = children()

    @asynccontextmanager
    async def opened(**changes: Any) -> AsyncIterator[Local]:
        settings = replace(base, **changes)
        events: list[Event] = []
        async with LocalBackend(settings, events.append) as backend:
            yield Local(settings, backend, events)

    yield opened
    journal = folder / "journal"
    lines = journal.read_text().splitlines() if journal.exists() else []
    left = [line for line in lines if " started " in line and any(alive(int(pid)) for pid in line.split()[2:4])]
    assert left == []
    assert children() <= others


def router(observed: Observed) -> ObservedRouter:
    assert observed.router is not None
    return observed.router


def worker(observed: Observed, name: str) -> Worker:
    return next(one for one in observed.workers if one.name == name)


def test_workers_start_are_verified_and_routed(local: Opener) -> None:
    async def scenario() -> None:
        desired = split(prefills=2, decodes=2)
        async with local() as it:
            observed = await it.ready(desired)
            assert {one.phase for one in observed.workers} == {Phase.READY}
            tried = [event for event in it.events if isinstance(event, HandoffVerified)]
            assert {event.prefill for event in tried} == {"chat-prefill-0", "chat-prefill-1"}
            assert {event.decode for event in tried} == {"chat-decode-0", "chat-decode-1"}
            observed = await it.until(desired, lambda now: len(now.routed) == 4)
            it.backend.publish()
            state = it.state()
            assert state["router"] == {"url": router(observed).url, "pid": it.backend.pids()["router"]}
            assert {(one["name"], one["role"], one["deployment"]) for one in state["workers"]} == {
                (f"chat-{role}-{ordinal}", role, "chat") for role in ("prefill", "decode") for ordinal in (0, 1)
            }

    asyncio.run(scenario())


def test_each_worker_leads_its_own_group_and_its_settings_are_private(local: Opener) -> None:
    async def scenario() -> None:
        async with local() as it:
            await it.ready(whole())
            pid = it.backend.pids()["chat-unified-0"]
            assert os.getpgid(pid) == os.getsid(pid) == pid
            mode = (it.settings.folder / "chat-unified-0.json").stat().st_mode
            assert stat.S_IMODE(mode) == 0o600

    asyncio.run(scenario())


def test_a_killed_leader_takes_its_grandchildren_along_and_is_reported_dead(local: Opener) -> None:
    async def scenario() -> None:
        desired = split()
        async with local() as it:
            before = worker(await it.ready(desired), "chat-prefill-0")
            leader, grandchild = next(
                map(int, line.split()[2:4]) for line in it.journal() if line.startswith("chat-prefill-0 started")
            )
            os.kill(leader, signal.SIGKILL)
            observed = await it.until(
                desired,
                lambda now: worker(now, "chat-prefill-0").incarnation != before.incarnation and is_ready(desired, now),
            )
            assert not alive(grandchild)
            assert f"chat-decode-0 told dead {before.incarnation}" in it.journal()
            after = worker(observed, "chat-prefill-0")
            assert after.url == before.url, "the port stays"
            ended = next(event for event in it.events if isinstance(event, Ended))
            assert (ended.name, ended.reason, ended.failures) == ("chat-prefill-0", "was killed by SIGKILL", 1)
            assert "chat-prefill-0 listens" in ended.lines

    asyncio.run(scenario())


def test_a_dead_worker_leaves_the_state_file_and_a_verified_one_comes_back(local: Opener) -> None:
    async def scenario() -> None:
        desired = split()
        async with local(backoff_first_s=0.2) as it:
            await it.ready(desired)
            await it.until(desired, lambda now: len(now.routed) == 2)
            it.backend.publish()
            os.kill(it.backend.pids()["chat-prefill-0"], signal.SIGKILL)
            await it.until(desired, lambda now: len(now.routed) == 1)
            assert [one["name"] for one in it.state()["workers"]] == ["chat-decode-0"]
            await it.until(desired, lambda now: len(now.routed) == 2)
            state = {one["name"]: one["pid"] for one in it.state()["workers"]}
            assert state["chat-prefill-0"] == it.backend.pids()["chat-prefill-0"]

    asyncio.run(scenario())


def test_a_crash_loop_backs_off_and_says_why(local: Opener) -> None:
    async def scenario() -> None:
        async with local(backoff_first_s=0.02) as it:
            desired = whole("fake:crash")
            observed = await it.until(
                desired, lambda now: any(one.failure and one.failure.count == 3 for one in now.workers)
            )
            failure = worker(observed, "chat-unified-0").failure
            assert failure is not None
            assert failure.message == "chat-unified-0 exited with code 1"
            assert not failure.permanent
            ends = [event for event in it.events if isinstance(event, Ended)]
            assert [event.pause_s for event in ends[:3]] == [0.02, 0.04, 0.08]
            assert ends[0].lines[-1] == "the cheese is out"

    asyncio.run(scenario())


def test_refused_settings_are_a_permanent_failure(local: Opener) -> None:
    async def scenario() -> None:
        async with local() as it:
            observed = await it.until(whole("fake:refused"), lambda now: any(one.failure for one in now.workers))
            failure = worker(observed, "chat-unified-0").failure
            assert failure is not None
            assert failure.permanent

    asyncio.run(scenario())


def test_a_command_that_is_not_there_is_a_failure_not_an_exception(local: Opener) -> None:
    async def scenario() -> None:
        async with local(worker_command=("/nonexistent/worker",)) as it:
            observed = await it.until(whole(), lambda now: any(one.failure for one in now.workers))
            assert worker(observed, "chat-unified-0").phase is Phase.BACKOFF

    asyncio.run(scenario())


def test_a_handoff_that_goes_elsewhere_is_not_verified_and_the_decode_worker_serves_alone(local: Opener) -> None:
    async def scenario() -> None:
        desired = split("fake:local")
        async with local() as it:
            await it.until(desired, lambda _: len([one for one in it.events if isinstance(one, HandoffFailed)]) >= 2)
            observed = it.backend.observe()
            assert [one.role for one in observed.routed] == ["decode"]
            assert not is_ready(desired, observed)
            failed = next(event for event in it.events if isinstance(event, HandoffFailed))
            assert "says that 'local' prefilled the trial; expected 'chat-prefill-0'" in failed.reason

    asyncio.run(scenario())


def test_ends_flow_downstream_router_then_decode_then_prefill(local: Opener) -> None:
    async def scenario() -> None:
        async with local() as it:
            await it.ready(split("fake:slow", decodes=2))
            await it.ended()
            order = [line for line in it.journal() if line.endswith((" drains", " ends"))]
            names = [line.removesuffix(" drains") for line in order if line.endswith(" drains")]
            assert names[0] == "router"
            assert set(names[1:3]) == {"chat-decode-0", "chat-decode-1"}
            assert names[3] == "chat-prefill-0"
            assert order.index("router ends") < order.index("chat-decode-0 drains")
            assert order.index("chat-decode-1 ends") < order.index("chat-prefill-0 drains")
            assert [event.overdue for event in it.events if isinstance(event, Drained)] == [False] * 4
            assert not any(alive(pid) for pid in it.started())

    asyncio.run(scenario())


def test_a_worker_that_does_not_drain_in_time_is_killed(local: Opener) -> None:
    async def scenario() -> None:
        async with local(drain_deadline_s=0.2) as it:
            await it.ready(whole("fake:stubborn"))
            await it.ended()
            assert Drained("chat-unified-0", overdue=True) in it.events

    asyncio.run(scenario())


def test_leaving_in_the_middle_of_a_drain_ends_everything_at_once(local: Opener) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with local(drain_deadline_s=600) as it:
            await it.ready(whole("fake:stubborn"))
            await it.until(Desired(), lambda now: any(one.phase is Phase.DRAINING for one in now.workers))
            pids, began = it.started(), loop.time()
        assert loop.time() - began < 5
        assert not any(alive(pid) for pid in pids)

    asyncio.run(scenario())


def test_the_router_is_started_again_on_the_same_port(local: Opener) -> None:
    async def scenario() -> None:
        desired = whole()
        async with local() as it:
            before = router(await it.ready(desired))
            pid = it.backend.pids()["router"]
            it.backend.publish()
            os.kill(pid, signal.SIGKILL)
            after = await it.until(
                desired, lambda now: it.backend.pids().get("router", pid) != pid and is_ready(desired, now)
            )
            assert router(after).url == before.url
            assert it.state()["router"]["pid"] == it.backend.pids()["router"]

    asyncio.run(scenario())


def test_a_worker_that_says_it_is_not_ready_loses_its_traffic_until_it_is(local: Opener) -> None:
    async def scenario() -> None:
        desired = whole()
        async with local() as it:
            await it.ready(desired)
            await it.until(desired, lambda now: bool(now.routed))
            flag = it.settings.folder / "chat-unified-0.unready"
            flag.touch()
            await it.until(desired, lambda now: not now.routed)
            assert any(isinstance(event, BecameUnready) for event in it.events)
            flag.unlink()
            await it.until(desired, lambda now: bool(now.routed))
            assert len([event for event in it.events if isinstance(event, Started)]) == 2, "nothing was restarted"

    asyncio.run(scenario())


def test_a_silent_worker_is_killed_and_started_again(local: Opener) -> None:
    async def scenario() -> None:
        desired = whole()
        async with local(answer_deadline_s=0.2, liveness_deadline_s=0.5, unready_after=1) as it:
            await it.ready(desired)
            pid = it.backend.pids()["chat-unified-0"]
            os.kill(pid, signal.SIGSTOP)
            await it.until(desired, lambda _: it.backend.pids().get("chat-unified-0", pid) != pid)
            assert not alive(pid)

    asyncio.run(scenario())


def test_fewer_replicas_drain_the_highest_ordinals(local: Opener) -> None:
    async def scenario() -> None:
        many = split(decodes=2)
        fewer = replace(many, pools=(many.pools[0], replace(many.pools[1], replicas=1)))
        async with local() as it:
            await it.ready(many)
            await it.until(fewer, lambda now: worker(now, "chat-decode-1").phase is Phase.DEAD)
            observed = await it.ready(fewer)
            assert worker(observed, "chat-decode-0").phase is Phase.READY

    asyncio.run(scenario())


def test_the_state_file_is_taken_back_at_the_end(local: Opener) -> None:
    async def scenario() -> None:
        async with local() as it:
            await it.ready(whole())
            assert not it.has_state(), "not before it is published"
            it.backend.publish()
            assert it.has_state()
            await it.ended()
        assert not it.has_state()

    asyncio.run(scenario())


def test_each_start_has_an_incarnation_of_its_own(local: Opener) -> None:
    async def scenario() -> None:
        desired = whole()
        async with local() as it:
            await it.ready(desired)
            pid = it.backend.pids()["chat-unified-0"]
            os.kill(pid, signal.SIGKILL)
            await it.until(desired, lambda _: it.backend.pids().get("chat-unified-0", pid) != pid)
            await it.ready(desired)
            starts = [line.split()[-1] for line in it.journal() if line.startswith("chat-unified-0 started")]
            assert len(starts) == 2
            assert all(one != other for one, other in pairwise(starts))

    asyncio.run(scenario())


def test_a_cancellation_that_comes_together_with_news_is_not_lost(local: Opener) -> None:
    async def scenario() -> None:
        async with local() as it:
            it.backend.observe()
            waiting = asyncio.create_task(it.backend.changed(DEADLINE_S))
            for _ in range(3):
                await asyncio.sleep(0)
            it.backend.wake()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(scenario())
