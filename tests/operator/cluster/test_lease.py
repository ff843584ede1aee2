"""Two operators on a real API server: one leads, and never both, whatever happens to their processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster.api import ApiCluster
from tests.operator.cluster.loop import eventually, run

from headrace_operator.kubernetes.election import Terms
from headrace_operator.kubernetes.kinds import CONFIG_MAPS, LEASES
from headrace_operator.kubernetes.lease import Candidate, Lease
from headrace_operator.kubernetes.session import Session, encode

Connect = Callable[..., Any]
TERMS = Terms(duration_s=3, renew_s=2, retry_s=0.3)

pytestmark = pytest.mark.processes


async def holder(session: Session, namespace: str) -> str | None:
    spec: dict[str, str] = (await session.read_whole(LEASES, namespace, "operator")).get("spec", {})
    return spec.get("holderIdentity")


def test_leadership_passes_on_at_once_when_it_is_given_back(connect: Connect, namespace: str) -> None:
    async def main() -> None:
        leads: list[str] = []

        async with connect() as session:
            one, two = (Lease(session, Candidate(name, namespace, "operator")) for name in ("one", "two"))

            async def lead(name: str) -> None:
                leads.append(name)
                await asyncio.Event().wait()

            first = asyncio.create_task(one.run(lambda: lead("one")))
            await eventually(lambda: leads == ["one"])
            second = asyncio.create_task(two.run(lambda: lead("two")))
            assert await holder(session, namespace) == "one"
            assert (one.left_s() > 0, two.left_s() > 0) == (True, False)

            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            assert one.left_s() == 0
            await eventually(lambda: leads == ["one", "two"], timeout_s=8)

            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            assert await holder(session, namespace) is None

    run(main())


def test_who_cannot_renew_stops_before_another_can_lead(connect: Connect, namespace: str) -> None:
    async def main() -> None:
        async with connect() as healthy, connect() as cut:
            one = Lease(cut, Candidate("one", namespace, "operator", TERMS))
            two = Lease(healthy, Candidate("two", namespace, "operator", TERMS))
            ended, began = asyncio.Event(), asyncio.Event()

            async def lead() -> None:
                began.set()
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
                ended.set()

            async def follow() -> None:
                assert ended.is_set()
                assert one.left_s() <= 0

            first = asyncio.create_task(one.run(lead))
            await began.wait()
            second = asyncio.create_task(two.run(follow))
            await cut.__aexit__(None, None, None)
            await second
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    run(main())


WRITER = """
import asyncio, sys
from headrace_operator.kubernetes.credentials import load
from headrace_operator.kubernetes.election import Terms
from headrace_operator.kubernetes.errors import ClusterError
from headrace_operator.kubernetes.kinds import CONFIG_MAPS
from headrace_operator.kubernetes.lease import Candidate, Lease
from headrace_operator.kubernetes.session import Session, encode

kubeconfig, namespace, name = sys.argv[1:]

async def main():
    credentials = await load(kubeconfig)
    async with Session(credentials, identity=name) as free:
        lease = Lease(free, Candidate(name, namespace, "operator", Terms(duration_s=3, renew_s=2, retry_s=0.3)))
        async with Session(credentials, identity=f"{name}-writes", leadership_s=lease.left_s) as session:
            async def lead():
                number = 0
                while True:
                    number += 1
                    try:
                        await session.merge(CONFIG_MAPS, namespace, "shared", {"data": {name: str(number)}})
                    except ClusterError:
                        await asyncio.sleep(0.01)
            await lease.run(lead)

asyncio.run(main())
"""


def test_two_operators_never_write_at_the_same_time_though_one_is_stopped_and_woken(
    connect: Connect, namespace: str, api_cluster: ApiCluster
) -> None:
    folders = [Path(__file__).parents[3] / name for name in ("crds", "operator")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, "-c", WRITER, str(api_cluster.kubeconfig), namespace]

    async def main() -> int:
        async with connect() as session:
            await session.create(CONFIG_MAPS, namespace, encode({"metadata": {"name": "shared"}}))

            async def written(name: str) -> int:
                data = (await session.read_whole(CONFIG_MAPS, namespace, "shared")).get("data", {})
                return int(data.get(name, 0))

            async def grows(name: str) -> None:
                before = await written(name)

                async def grown() -> bool:
                    return await written(name) > before + 5

                await eventually(grown, timeout_s=40)

            writers = {name: start([*command, name], environment) for name in ("one", "two")}
            try:
                for _ in range(2):
                    await eventually(lambda: holder_known(session, namespace), timeout_s=40)
                    leader = await holder(session, namespace)
                    assert leader in writers
                    other = "two" if leader == "one" else "one"
                    await grows(leader)
                    writers[leader].send_signal(signal.SIGSTOP)
                    await grows(other)
                    writers[leader].send_signal(signal.SIGCONT)
                    await grows(other)
                lease = await session.read_whole(LEASES, namespace, "operator")
                return int(lease["spec"]["leaseTransitions"])
            finally:
                for writer in writers.values():
                    writer.send_signal(signal.SIGCONT)
                    writer.kill()
                    writer.wait(10)

    async def holder_known(session: Session, namespace: str) -> bool:
        with suppress(Exception):
            return await holder(session, namespace) is not None
        return False

    handovers = run(main(), timeout_s=120)
    assert handovers >= 2
    assert 3 <= turns(api_cluster.audit_log, namespace) <= handovers + 1


def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=environment)


def turns(audit_log: Path, namespace: str) -> int:
    """How often the writer changes in the server's own log; each operator leads in one piece."""
    writers = []
    for line in audit_log.read_text().splitlines():
        entry = json.loads(line)
        target, agent = entry.get("objectRef", {}), entry.get("userAgent", "")
        if target.get("namespace") == namespace and target.get("name") == "shared" and agent.endswith("-writes"):
            writers.append((entry["stageTimestamp"], agent))
    names = [agent for _, agent in sorted(writers)]
    return sum(name != before for name, before in zip(names, [None, *names], strict=False))
