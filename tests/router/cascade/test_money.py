"""What a cascade costs: every tier that was tried is paid for once, and bounds hold over all of them."""

import asyncio
import random
from pathlib import Path
from typing import Any

from tests.router.cascade.ladder import DOUBTFUL, SURE, auto, ladder, stream_of, text_of
from tests.router.cost.shop import lines
from tests.router.rig import DEADLINE_S, FakeWorker, run, until

from headrace_router.cost.money import NANO

SMALL, LARGE = 116_000, 1_160_000
"""Of a whole answer, in billionths: 100 tokens of prompt at 1 or 10 millionths, 8 of answer at 2 or 20."""


def _kinds(folder: Path) -> list[tuple[str, str, int]]:
    return sorted((line["tier"], line["kind"], line["billed"]) for line in lines(folder))


def test_an_answer_states_what_each_tier_cost_and_the_ledger_has_a_line_for_each(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, priced=True) as (it, small, _):
            reply = await it.ask(auto("anne"))
            assert reply.json["usage"]["cost"]["total"] == SMALL / NANO
            assert _kinds(tmp_path) == [("small", "request", SMALL)]
            small.logprob = DOUBTFUL
            reply = await it.ask(auto("anne"))
            cost = reply.json["usage"]["cost"]
            assert cost["total"] == (SMALL + LARGE) / NANO
            assert [tier["tier"] for tier in cost["tiers"]] == ["small", "large"]
            assert reply.headers["x-headrace-cost"] == "0.001276 USD"
            assert _kinds(tmp_path) == [
                ("large", "request", LARGE),
                ("small", "request", SMALL),
                ("small", "tried", SMALL),
            ]

    run(main())


def test_the_ledger_keeps_what_the_gate_expected_of_each_answer_that_it_judged(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, priced=True) as (it, small, _):
            small.count = 40
            await it.ask(auto("anne"))
            small.logprob = DOUBTFUL
            await it.ask(auto("anne", stream=True))
            found = sorted((line["kind"], line["tier"], line["gain"], line["stage"]) for line in lines(tmp_path))
            assert [(kind, tier, stage) for kind, tier, _, stage in found] == [
                ("request", "large", None),
                ("request", "small", "whole"),
                ("tried", "small", "prefix"),
            ]
            assert found[0][2] is None, "nobody judges the last tier"
            assert [round(gain, 2) for _, _, gain, _ in found[1:]] == [0.11, 0.9]

    run(main())


def test_a_stream_that_was_given_up_costs_what_was_made_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, priced=True) as (it, small, large):
            small.logprob = DOUBTFUL
            small.count = large.count = 40
            small.hold.clear()
            small.hold_after = 6
            reply = await it.ask(auto("anne", stream=True, stream_options={"include_usage": True}))
            assert reply.body.startswith(stream_of(large)[:100])
            last: dict[str, Any] = {tier: billed for tier, _, billed in _kinds(tmp_path)}
            assert last == {"small": 112_000, "large": 1_000_000 + 40 * 20_000}, "six tokens of the small tier"

    run(main())


def test_a_repeat_under_its_key_counts_each_tier_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, priced=True) as (it, small, _):
            small.logprob = DOUBTFUL
            request = auto("anne", headers="Idempotency-Key: k1\r\n")
            first, second = await it.ask(request), await it.ask(request)
            assert first.json["usage"]["cost"]["total"] == (SMALL + LARGE) / NANO
            assert second.json["usage"]["cost"]["total"] == 0
            assert second.json["usage"]["cost"]["repeated"] is True
            assert first.headers["x-request-id"] == second.headers["x-request-id"]
            assert sum(line["billed"] for line in lines(tmp_path)) == SMALL + LARGE

    run(main())


def test_a_tier_that_the_budget_does_not_pay_leaves_the_answer_before_it(tmp_path: Path) -> None:
    budget = {"name": "all", "scope": "organisation", "of": "acme", "period": "total", "hard": 0.0008}

    async def main() -> None:
        async with ladder(tmp_path, priced=True, budgets=[budget]) as (it, small, large):
            small.logprob = DOUBTFUL
            reply = await it.ask(auto("anne", max_tokens=8))
            assert (reply.status, reply.headers["x-headrace-degraded"]) == (200, "true")
            assert reply.json["degraded"] is True
            assert large.seen == []
            held = 'headrace_cost_budget_reserved{budget="all",currency="USD"}'
            assert await it.metric(held) == 0

    run(main())


def test_what_a_request_may_cost_holds_over_all_its_tiers(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, priced=True) as (it, small, large):
            small.logprob = DOUBTFUL
            reply = await it.ask(auto("anne", max_tokens=8, max_cost=0.001))
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, "small")
            assert large.seen == []
            reply = await it.ask(auto("anne", max_tokens=8, headers="x-headrace-max-cost: 0.01\r\n"))
            assert reply.headers["x-headrace-tier"] == "small,large"
            reply = await it.ask(auto("anne", max_tokens=8, max_cost=0.00001))
            assert (reply.status, reply.json["error"]["code"]) == (402, "budget_exhausted")
            assert "'max_cost' of request" in reply.json["error"]["message"]

    run(main())


def test_a_client_that_leaves_pays_for_what_was_made_in_one_line_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, priced=True) as (it, small, _):
            small.hold.clear()
            small.hold_after = 2
            connection = await it.connect()
            await connection.send(auto("anne", stream=True))
            await until(lambda: small.sent_bytes > 0, "the first tokens")
            await asyncio.sleep(0)
            text = 'headrace_router_inflight{model="chat"}'
            async with asyncio.timeout(DEADLINE_S):
                while await it.metric(text) != 1:
                    pass
            connection.leave()
            await until(lambda: lines(tmp_path), "its line")
            assert [(tier, kind) for tier, kind, _ in _kinds(tmp_path)] == [("small", "request")]

    run(main())


def test_whatever_tiers_do_each_request_gets_one_answer_of_one_tier_and_one_line(tmp_path: Path) -> None:
    chance = random.Random(11)

    def behave(worker: FakeWorker) -> None:
        worker.logprob = chance.choice((SURE, DOUBTFUL))
        worker.count = chance.randint(1, 12)
        worker.die_after = chance.choice((None, None, chance.randrange(worker.count)))
        worker.refuse = chance.choice((None, None, None, (503, b"{}"), (429, b"{}")))

    async def main() -> None:
        async with ladder(tmp_path, priced=True, max_attempts=1, hold_deadline_s=0.2) as (it, small, large):
            answered = []
            for _ in range(120):
                behave(small)
                behave(large)
                stream = chance.random() < 0.5
                reply = await it.ask(auto("anne", stream=stream))
                assert reply.status in (200, 429, 502, 503)
                if reply.status == 200 and reply.whole:
                    shown = large if reply.headers["x-headrace-decode"] == "l0" else small
                    text = reply.body if stream else reply.json["text"].encode()
                    assert text == (stream_of(shown) if stream else text_of(shown).encode())
                    answered.append(reply.headers["x-request-id"])
            assert len(answered) > 40
            kept = [line["request"] for line in lines(tmp_path) if line["kind"] == "request"]
            assert sorted(kept) == sorted(answered)
            for model in ("chat", "llama"):
                assert await it.metric(f'headrace_router_inflight{{model="{model}"}}') == 0

    run(main())
