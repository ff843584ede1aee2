"""One soak from start to verdict: a service under load, disturbed by a plan, then held to what must be left of it."""

import asyncio
import contextlib
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.contract.service import START_S, Service, eventually
from tests.soak import answers
from tests.soak.chaos import Chaos
from tests.soak.journal import Journal
from tests.soak.load import Load
from tests.soak.plan import plan
from tests.soak.watch import MEMORY_GROWTH, Watch

CLIENTS = 20
SAMPLE_S = 1.0
TOLD_S = 10.0
SETTLED_SHARE = 0.2
SETTLED_S = 120.0
"""Memory is compared with what it was after two minutes, or after a fifth of a shorter soak."""
JUDGED_FROM_S = 300.0
"""In a shorter soak memory is told and not judged: processes have hardly begun to reuse what they have."""
RECOVER_S = 180.0
WORKERS = 4


@dataclass(slots=True)
class Verdict:
    """What came out."""

    seed: int
    seconds: float
    faults: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    last: str = ""
    """What happened last to each worker, and what the service said."""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def summary(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self) | {"passed": self.passed}


class Soak:
    """A disturbed service.

    Args:
        service: that all is ready in.
        known: prompts and answers.
        seed: of everything that is left to chance.
        seconds: how long it is disturbed.
        tell: takes a line of progress.
    """

    def __init__(
        self, service: Service, known: list[answers.Known], seed: int, seconds: float, tell: Callable[[str], None]
    ) -> None:
        self.verdict = Verdict(seed, seconds)
        self.journal = Journal()
        self._service = service
        self._tell = tell
        self._told = 0
        """Faults that the terminal has seen."""
        self._settled_s = min(SETTLED_S, SETTLED_SHARE * seconds)
        self._load = Load(service.url, known, seed, self.journal)
        self._watch = Watch(service)
        dice = random.Random(seed)
        spared = {f"{answers.MODEL}-{role}-{dice.randrange(2)}" for role in ("prefill", "decode")}
        self._chaos = Chaos(
            service, self._load, self.journal, spared=frozenset(spared), spared_from_s=self._settled_s / 2
        )

    @property
    def memory(self) -> set[str]:
        """Names of the shared memory that the service has used."""
        return self._watch.memory

    async def run(self) -> None:
        """Warm up, disturb, let it recover, and judge."""
        await self._load.round()
        self._service.await_rest()
        before = self._watch.descriptors()
        began_s = self.journal.now_s
        async with self._watching():
            load = asyncio.create_task(self._load.run(CLIENTS))
            blows = asyncio.create_task(self._chaos.deal(plan(self.verdict.seed, self.verdict.seconds)))
            await asyncio.wait((load, blows), return_when=asyncio.FIRST_COMPLETED)
            if load.done():
                load.result()  # an error of ours: clients end when they are told to
            await blows
            await asyncio.sleep(max(0.0, began_s + self.verdict.seconds - self.journal.now_s))
            self._load.close()
            await load
        await asyncio.to_thread(self._recover)
        await self._load.round()
        await asyncio.to_thread(self._recover)
        self._judge(before, began_s)

    def _recover(self) -> None:
        """Wait until all workers serve and nothing runs, is granted or is in quarantine in any of them."""
        try:
            eventually(lambda: len(self._service.workers()) == WORKERS, "all workers have traffic again", RECOVER_S)
            for worker in self._service.workers():
                eventually(worker.at_rest, f"{worker.name} is at rest: {worker.blocks()}", RECOVER_S)
        except AssertionError as error:
            self.verdict.faults.append(str(error))

    @contextlib.asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        """Take samples and tell of the progress until the end of the block."""
        ended = asyncio.Event()
        task = asyncio.create_task(self._sample(ended))
        try:
            yield
        finally:
            ended.set()
            await task

    async def _sample(self, ended: asyncio.Event) -> None:
        told_s = 0.0
        while not ended.is_set():
            await asyncio.to_thread(self._watch.sample, self.journal.now_s)
            self._tell_faults()
            if self.journal.now_s >= told_s + TOLD_S:
                told_s = self.journal.now_s
                self._tell(self._progress())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), SAMPLE_S)

    def _tell_faults(self) -> None:
        faults = self._load.tally.faults + self._watch.faults
        for fault in faults[self._told :]:
            self._tell(fault)
        self._told = len(faults)

    def _progress(self) -> str:
        tally, dealt = self._load.tally, self._chaos.dealt
        return (
            f"{self.journal.now_s:6.0f} s  {tally.answered} answered, {self._load.running} running, "
            f"{tally.refused.total()} refused, {len(tally.faults)} wrong or lost  |  {dealt['cancel']} cancels, "
            f"{dealt['kill']} kills, {dealt['stop']} stops, {self._watch.preemptions} preemptions"
        )

    def _judge(self, before: dict[str, Counter[str]], began_s: float) -> None:
        self._watch.sample(self.journal.now_s)
        tally, faults = self._load.tally, self.verdict.faults
        faults += [*tally.faults, *self._watch.faults]
        if tally.ended != self._load.sent:
            faults.append(f"{self._load.sent} requests were sent and {tally.ended} ended")
        ends_s = began_s + self.verdict.seconds
        grown = self._watch.growth(began_s + self._settled_s, ends_s)
        if self.verdict.seconds >= JUDGED_FROM_S:
            faults += [f"memory of {name} grew by {by:.1%}" for name, by in grown.items() if by > MEMORY_GROWTH]
        after = self._watch.descriptors()
        faults += [
            f"{name} has open what it had not before: {left}"
            for name in before.keys() & after.keys()
            if (left := _left(before[name], after[name]))
        ]
        self.verdict.figures = {
            "sent": self._load.sent,
            "answered": tally.answered,
            "streamed": tally.streamed,
            "cut_with_router": tally.cut_with_router,
            "refused": dict(tally.refused),
            "blows": {**self._chaos.dealt, "preemptions": self._watch.preemptions},
            "handoffs": dict(self._watch.handoffs),
            "memory_growth": {name: round(by, 4) for name, by in grown.items()},
            "descriptors": {name: dict(kinds) for name, kinds in after.items()},
        }


def _left(before: Counter[str], after: Counter[str]) -> dict[str, int]:
    """Return descriptors that nobody uses any more.

    Connections that both ends hold are no leak up to a few for each client and worker: HTTP keeps them for the next
    request, and which workers had spoken to each other before is chance.
    """
    more = dict(after - before)
    if more.get("established", 0) <= CLIENTS + 2 * WORKERS:
        more.pop("established", None)
    return more


def soak(seed: int, seconds: float, tell: Callable[[str], None]) -> Verdict:
    """Run a soak and return its verdict."""
    tell(f"seed {seed}, {seconds:g} s")
    with tempfile.TemporaryDirectory(prefix="headrace-soak-") as name:
        folder = Path(name)
        model = answers.write_model(folder / "model")
        known = answers.know(folder, model, seed)
        tell(f"{len(known)} answers are known; starting {WORKERS} workers and a router")
        service = Service(folder, answers.resources(model))
        try:
            eventually(service.ready, "all is ready", START_S)
            run = Soak(service, known, seed, seconds, tell)
            try:
                asyncio.run(run.run())
            finally:
                run.verdict.last = f"{run.journal.told()}\n\n{service.last_lines()}"
            run.verdict.faults += _ended(service, run.memory)
        finally:
            service.kill()
    return run.verdict


def _ended(service: Service, memory: set[str]) -> list[str]:
    """End the service and return what is wrong with its end and with what it leaves.

    Of shared memory that appeared meanwhile only what its processes had mapped is theirs; the machine may do other
    things during ten minutes.
    """
    code = service.stop()
    faults = [f"`headrace up` ended with {code}"] if code else []
    faults += [f"left behind: {what}" for what in service.leftovers() if what in memory or "/" not in what]
    said = service.log.read_text(errors="replace")
    if "Traceback" in said:
        faults.append("a process failed with a traceback:\n" + said[said.index("Traceback") :][:3000])
    return faults
