"""Cascades whose tiers are somebody else's: behind a deployment, and in front of one."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.router.cascade.ladder import CHEAP, DEAR, DOUBTFUL, SURE, auto, gate_file, stream_of, text_of
from tests.router.cost.shop import key_file, lines
from tests.router.outside import FakeEndpoint, tier
from tests.router.rig import FakeWorker, Rig, rig, run

SMALL, FAR = 116_000, 1_160_000
"""Of a whole answer, in billionths: 100 tokens of prompt at 1 or 10 millionths, 8 of answer at 2 or 20."""


@contextlib.asynccontextmanager
async def mixed(folder: Path, *, first: bool, **settings: Any) -> AsyncIterator[tuple[Rig, FakeWorker, FakeEndpoint]]:
    """Run a router with a worker and an endpoint as tiers; the endpoint comes first where it is said."""
    far = FakeEndpoint()
    await far.start(prefix="/v1")
    own: dict[str, Any] = {"name": "own", "deployment": "chat"}
    outer = tier(far.url, folder)
    tiers = (
        [outer | {"price": CHEAP}, own | {"price": DEAR}]
        if first
        else [own | {"price": CHEAP}, outer | {"price": DEAR}]
    )
    spec = {"tiers": tiers, "cascade": {"gate": {"file": "gate.json"}}}
    given = {"gate": str(gate_file(folder)), "ledger": f"sqlite:{folder / 'ledger.db'}", "keys": str(key_file(folder))}
    try:
        async with rig(folder, spec=json.dumps(spec), **(given | settings)) as it:
            worker = await it.worker("w0")
            worker.metered = (2.0, 0.5)
            worker.logprob = SURE
            yield it, worker, far
    finally:
        await far.stop()


def _kinds(folder: Path) -> list[tuple[str, str, int]]:
    return sorted((line["tier"], line["kind"], line["billed"]) for line in lines(folder))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_the_gate_doubts_goes_to_the_endpoint_and_both_are_billed(tmp_path: Path, stream: bool) -> None:  # noqa: FBT001 - a parameter of the test
    async def main() -> None:
        async with mixed(tmp_path, first=False) as (it, worker, far):
            assert (await it.ask(auto("anne", stream=stream))).headers["x-headrace-tier"] == "own"
            assert far.seen == []
            worker.logprob = DOUBTFUL
            reply = await it.ask(auto("anne", stream=stream, stream_options={"include_usage": stream}))
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, "own,far")
            assert "x-headrace-decode" not in reply.headers
            body = reply.body.split(b"\n\n")[-3].removeprefix(b"data: ") if stream else reply.body
            cost = json.loads(body)["usage"]["cost"]
            assert [one["tier"] for one in cost["tiers"]] == ["own", "far"]
            found = _kinds(tmp_path)
            assert ("far", "request", FAR) in found
            assert [kind for name, kind, _ in found if name == "own"] == ["request", "tried"]
            assert cost["total"] * 1e9 == pytest.approx(FAR + next(b for n, k, b in found if k == "tried"))
            assert "seed" not in far.seen[0].fields

    run(main())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", [401, 429, 500])
def test_an_endpoint_in_front_that_fails_is_passed_over(tmp_path: Path, stream: bool, status: int) -> None:  # noqa: FBT001 - a parameter of the test
    async def main() -> None:
        async with mixed(tmp_path, first=True) as (it, worker, far):
            far.refuse = (status, "no", "")
            reply = await it.ask(auto("anne", stream=stream))
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, "far,own")
            assert reply.headers["x-headrace-decode"] == "w0"
            assert not stream or reply.body == stream_of(worker)
            assert [name for name, _, _ in _kinds(tmp_path)] == ["own"]

    run(main())


def test_an_endpoint_in_front_that_cannot_be_reached_is_passed_over_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with mixed(tmp_path, first=True, hold_deadline_s=300) as (it, _, far):
            await far.stop()
            assert (await it.ask(auto("anne"))).headers["x-headrace-tier"] == "far,own"

    run(main())


def test_where_the_endpoint_behind_fails_the_doubted_answer_is_shown(tmp_path: Path) -> None:
    async def main() -> None:
        async with mixed(tmp_path, first=False) as (it, worker, far):
            worker.logprob = DOUBTFUL
            far.refuse = (500, "no", "")
            reply = await it.ask(auto("anne"))
            assert (reply.status, reply.headers["x-headrace-degraded"]) == (200, "true")
            assert reply.json["text"] == text_of(worker)

    run(main())


def _by_length(folder: Path) -> None:
    """Have the gate doubt answers without log-probabilities that have more than e^3 tokens, and no shorter ones."""
    path = folder / "gate.json"
    content = json.loads(path.read_text())
    for stage in ("prefix", "whole"):
        content[stage]["blind"] |= {
            "scale": {"centre": [3.0], "spread": [1.0]},
            "logistic": {"weights": [100.0], "bias": 0.0},
        }
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("count", "tiers"), [(8, "far"), (40, "far,own")])
def test_an_endpoint_in_front_is_judged_by_what_can_be_seen_of_its_answer(
    tmp_path: Path,
    stream: bool,  # noqa: FBT001 - a parameter of the test
    count: int,
    tiers: str,
) -> None:
    async def main() -> None:
        async with mixed(tmp_path, first=True) as (it, worker, far):
            _by_length(tmp_path)
            assert it.router.cascading is not None
            it.router.cascading.poll()
            far.count = count
            # Judged when complete, since the first tokens of both are as many.
            reply = await it.ask(auto("anne", stream=stream, response_format={"type": "json_object"}))
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, tiers)
            if tiers == "far":
                assert far.text.split()[-1].encode() in reply.body
            else:
                assert worker.seen
            assert ("far", "request" if tiers == "far" else "tried") in {row[:2] for row in _kinds(tmp_path)}

    run(main())


def test_a_stream_of_an_endpoint_in_front_flows_once_its_first_events_have_passed(tmp_path: Path) -> None:
    async def main() -> None:
        async with mixed(tmp_path, first=True) as (it, _, far):
            far.count, far.pause_after = 8, 6
            connection = await it.connect()
            await connection.send(auto("anne", stream=True))
            async with asyncio.timeout(30):
                head = await connection.head()
                assert head.headers["x-headrace-tier"] == "far"
                assert await connection.chunk()
                far.go_on.set()
                while await connection.chunk():
                    pass

    run(main())
