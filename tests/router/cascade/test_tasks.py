"""Requests that say what they are for go through the tiers as their task should; and how far answers have drifted."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.router.cascade.ladder import DOUBTFUL, auto, ladder
from tests.router.rig import Rig, get, run

EXACT: dict[str, Any] = {"target": 0.5, "tasks": [{"name": "exact", "target": 1}]}
"""The gate's thresholds are 0.7 for half of the gap, and 0.3 for all of it."""
UNSURE = -0.5
"""Log-probability of tokens whose answer has a gain between the two."""


@pytest.mark.parametrize(
    ("fields", "headers", "tiers"),
    [
        ({}, "", "small"),
        ({"task": "exact"}, "", "small,large"),
        ({}, "x-headrace-task: exact\r\n", "small,large"),
        ({"task": None}, "x-headrace-task: exact\r\n", "small"),
        ({"task": "another"}, "", "small"),
    ],
    ids=["none", "in the body", "in a header", "the body first", "unknown"],
)
def test_a_task_keeps_its_own_share_of_the_quality(
    tmp_path: Path, fields: dict[str, Any], headers: str, tiers: str
) -> None:
    async def main() -> None:
        async with ladder(tmp_path, EXACT) as (it, small, _):
            small.logprob = UNSURE
            reply = await it.ask(auto(headers=headers, **fields))
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, tiers)
            assert "task" not in small.seen[0].fields

    run(main())


def test_a_task_that_is_no_text_is_refused_with_its_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, EXACT) as (it, small, _):
            reply = await it.ask(auto(task=["exact"]))
            assert (reply.status, reply.json["error"]["param"]) == (400, "task")
            assert small.seen == []

    run(main())


def test_a_task_may_have_a_policy_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        cascade = {"policy": "pinned", "tasks": [{"name": "vote", "policy": "best-of-k"}]}
        async with ladder(tmp_path, cascade) as (it, small, large):
            small.logprob = DOUBTFUL
            assert (await it.ask(auto())).status == 200
            assert (len(small.seen), len(large.seen)) == (1, 0)
            assert (await it.ask(auto(task="vote"))).status == 200
            assert (len(small.seen), len(large.seen)) == (4, 0)

    run(main())


@pytest.mark.parametrize(("own", "status"), [(None, 402), (1.0, 402), (0.00002, 402)])
def test_what_a_task_may_cost_bounds_all_its_tiers_whatever_more_a_request_allows(
    tmp_path: Path, own: float | None, status: int
) -> None:
    async def main() -> None:
        cascade = {"maxCost": 1, "tasks": [{"name": "thrift", "maxCost": 0.00001}]}
        async with ladder(tmp_path, cascade, priced=True) as (it, small, _):
            wish: dict[str, Any] = {} if own is None else {"max_cost": own}
            reply = await it.ask(auto("anne", max_tokens=8, task="thrift", **wish))
            assert (reply.status, small.seen) == (status, [])
            assert "'max_cost' of request" in reply.json["error"]["message"]
            assert (await it.ask(auto("anne", max_tokens=8))).status == 200

    run(main())


async def _drifts(it: Rig, count: int) -> dict[str, float]:
    """Ask so often, and return what has drifted then."""
    await asyncio.gather(*(it.ask(auto()) for _ in range(count)))
    lines = (await it.ask(get("/metrics"))).body.decode().splitlines()
    found = [line.split(" ") for line in lines if line.startswith("headrace_cascade") and "_drift{" in line]
    return {name.removeprefix("headrace_cascade_"): float(value) for name, value in found}


def test_drift_is_told_of_enough_answers_and_grows_with_their_distance_from_the_training(tmp_path: Path) -> None:
    feature, escalation = 'feature_drift{tier="small",feature="mean_logprob"}', 'escalation_drift{tier="small"}'

    async def main() -> None:
        async with ladder(tmp_path) as (it, small, _):
            small.logprob = -0.0001
            assert await _drifts(it, 63) == {}, "too few to say"
            usual = await _drifts(it, 1)
            assert usual[feature] == pytest.approx(0, abs=1e-3)
            assert usual[escalation] == pytest.approx(-0.5), "half of the training's answers escalated"
            small.logprob = DOUBTFUL
            mixed = await _drifts(it, 64)
            assert mixed[feature] == pytest.approx(DOUBTFUL / 2, abs=1e-3)
            assert mixed[escalation] == pytest.approx(0)
            await _drifts(it, 1024)
            assert (await _drifts(it, 0))[feature] == pytest.approx(DOUBTFUL, abs=0.1), "what is old fades"

    run(main())
