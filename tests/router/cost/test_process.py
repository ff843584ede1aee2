"""Money in a router that is a process of its own: many clients at once, and no warning before its end."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.router.cost.shop import BY_TOKEN, TENANTS, ask, key_file, lines, spec_file
from tests.router.rig import DEADLINE_S, Connection, FakeWorker, Reply, get, run, until

from headrace_router.cost.money import NANO

pytestmark = pytest.mark.processes

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
LONG = "x" * 400
COST = 116_000
"""Of one answer of the fake worker, in billionths: 100 tokens of prompt and 8 of answer."""


class Process:
    """A router's process and its address."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        self.process = process
        self.host, port = url.removeprefix("http://").split(":")
        self.port = int(port)

    async def ask(self, request: bytes) -> Reply:
        """Send one request on a connection of its own."""
        connection = Connection(*await asyncio.open_connection(self.host, self.port))
        try:
            await connection.send(request)
            async with asyncio.timeout(DEADLINE_S):
                return await connection.reply()
        finally:
            connection.leave()

    async def metric(self, line: str) -> float:
        """Return the value of one sample."""
        text = (await self.ask(get("/metrics"))).body.decode()
        return next(float(one.rpartition(" ")[2]) for one in text.splitlines() if one.startswith(f"{line} "))

    def kill(self) -> None:
        """End it without a warning."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE_S)


@contextlib.asynccontextmanager
async def worker(folder: Path) -> AsyncIterator[FakeWorker]:
    """A worker, listed in the state file."""
    made = FakeWorker("d0")
    made.metered = (2.0, 0.5)
    await made.start()
    (folder / "state.json").write_text(json.dumps({"workers": [made.entry()]}))
    try:
        yield made
    finally:
        await made.stop()


@contextlib.asynccontextmanager
async def router(folder: Path, *flags: str, name: str = "ready") -> AsyncIterator[Process]:
    """A router's process; killed at the end at the latest."""
    ready = folder / f"{name}.json"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "headrace_router", "--port", "0", "--ready-file", str(ready), *flags]
    command += ["--discovery", f"file:{folder / 'state.json'}", "--log-level", "warning"]
    process = subprocess.Popen(command, env=ENVIRONMENT)  # noqa: ASYNC220 - starting one takes a moment
    try:
        await until(lambda: ready.exists() or process.poll() is not None, "the router is ready")
        yield Process(process, json.loads(ready.read_text())["url"])
    finally:
        process.kill()
        process.wait(DEADLINE_S)


def flags(folder: Path, hard: float | None = None, ledger: str | None = None) -> list[str]:
    """Return a router's flags for money; `hard` is a budget of the whole organisation."""
    budgets = [{"name": "all", "scope": "organisation", "of": "acme", "period": "total", "hard": hard}] if hard else []
    spec = spec_file(folder, BY_TOKEN, budgets)
    place = ledger or f"sqlite:{folder / 'ledger.db'}"
    return ["--spec", str(spec), "--keys", str(key_file(folder)), "--ledger", place]


def test_200_requests_at_once_never_pass_a_hard_budget(tmp_path: Path) -> None:
    hard = 0.0081

    async def main() -> None:
        async with worker(tmp_path) as fake, router(tmp_path, *flags(tmp_path, hard)) as process:
            for turn in range(4):
                fake.hold.clear()
                names = list(TENANTS) * 67
                asking = [
                    asyncio.create_task(process.ask(ask(names[n], content=LONG, max_tokens=8))) for n in range(200)
                ]
                refused = 'headrace_router_requests_total{model="unknown",code="402"}'
                await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED, timeout=0.5)
                fake.hold.set()
                statuses = [(await one).status for one in asking]
                assert set(statuses) <= {200, 402}
                assert turn or statuses.count(200) > 1
                assert await process.metric(refused) > 0
                spent = sum(line["billed"] for line in lines(tmp_path))
                assert spent <= hard * NANO
                assert spent == COST * len(lines(tmp_path))
                held = await process.metric('headrace_cost_budget_reserved{budget="all",currency="USD"}')
                assert held == 0
            assert spent > hard * NANO / 2, "a budget is there to be used"
            last = await process.ask(ask(content=LONG, max_tokens=10_000))
            assert (last.status, last.json["error"]["code"]) == (402, "budget_exhausted")
            assert "'all' of organisation 'acme'" in last.json["error"]["message"]

    run(main())


def test_an_answer_ends_where_its_budget_does(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker(tmp_path) as fake, router(tmp_path, *flags(tmp_path, 0.0012)) as process:
            fake.count = 600
            reply = await process.ask(ask(content=LONG, stream=True))
            assert reply.status == 200
            assert not reply.whole
            assert b'"code":"budget_exhausted"' in reply.body
            assert reply.body.count(b"data: w") == 550, "as many as the budget pays, in whatever pieces they came"
            await until(lambda: lines(tmp_path), "its line")
            (line,) = lines(tmp_path)
            assert line["status"] == 402
            assert line["billed"] == 0.0012 * NANO

    run(main())


def test_whatever_was_answered_is_in_the_ledger_once_after_any_kill(tmp_path: Path) -> None:
    async def main() -> None:
        chance = random.Random(4)
        answered: set[str] = set()
        async with worker(tmp_path):
            for _ in range(5):
                async with router(tmp_path, *flags(tmp_path, 1000)) as process:
                    told = await process.metric('headrace_cost_budget_spent{budget="all",currency="USD"}')
                    found = lines(tmp_path) if answered else []
                    assert told == pytest.approx(sum(line["billed"] for line in found) / NANO)
                    before = len(answered)
                    clients = [asyncio.create_task(_client(process, answered)) for _ in range(8)]
                    goal = before + chance.randint(5, 60)
                    await until(lambda goal=goal: len(answered) >= goal, "some answers")  # type: ignore[misc]  # default
                    process.kill()
                    await asyncio.gather(*clients)
        found = lines(tmp_path)
        names = [line["request"] for line in found]
        assert answered <= set(names)
        assert len(names) == len(set(names))
        assert {line["billed"] for line in found} == {COST}
        assert len(names) - len(answered) <= 5 * 8, "more lines than answers: only those cut off on their way"
        with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    run(main())


async def _client(process: Process, answered: set[str]) -> None:
    """Ask until the router is gone."""
    while True:
        try:
            reply = await process.ask(ask(content=LONG, max_tokens=8))
        except (OSError, EOFError):
            return
        if reply.whole and reply.body:
            answered.add(reply.headers["x-request-id"])


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_two_routers_share_a_ledger_in_postgres_and_a_repeat_counts_once(tmp_path: Path, place: str) -> None:
    async def main() -> list[Any]:
        given = flags(tmp_path, None, place)
        async with (
            worker(tmp_path),
            router(tmp_path, *given) as one,
            router(tmp_path, *given, name="other") as other,
        ):
            request = ask(headers="Idempotency-Key: k1\r\n", content=LONG)
            first, second = await one.ask(request), await other.ask(request)
            assert first.headers["x-request-id"] == second.headers["x-request-id"]
            return [reply.json["usage"]["cost"]["total"] for reply in (first, second)]

    from headrace_router.cost.store import open_store  # noqa: PLC0415 - psycopg may be missing where this is skipped

    assert run(main()) == [COST / NANO, 0]
    store = open_store(place)
    assert store.query("SELECT kind, billed FROM entries ORDER BY kind", ()) == [("repeat", 0), ("request", COST)]
    store.close()


def test_a_second_router_on_a_sqlite_ledger_ends_with_a_sentence(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker(tmp_path), router(tmp_path, *flags(tmp_path)):
            command = [sys.executable, "-m", "headrace_router", "--port", "0", "--discovery", "file:x"]
            second = await asyncio.create_subprocess_exec(
                *command, *flags(tmp_path), env=ENVIRONMENT, stderr=asyncio.subprocess.PIPE
            )
            _, said = await second.communicate()
            assert second.returncode == 2
            assert b"is written by another router" in said
            assert b"Traceback" not in said

    run(main())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--spec", "{"), b"--spec: the whole"),
        (("--spec", '{"tiers": []}'), b"--spec: tiers"),
        (("--spec", "/nowhere/x.json"), b"cannot be read"),
        (("--keys", "/nowhere/keys"), b"cannot be read"),
        (("--ledger", "mysql:x"), b"expected sqlite:PATH or postgres:PATH"),
    ],
)
def test_money_that_cannot_be_kept_ends_the_start_with_a_sentence(given: tuple[str, ...], said: bytes) -> None:
    command = [sys.executable, "-m", "headrace_router", "--port", "0", "--discovery", "file:x", *given]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert b"Traceback" not in done.stderr
