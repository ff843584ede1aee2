"""Tiers with room for a few requests at once."""

import asyncio
import json
from pathlib import Path

from tests.router.cascade.ladder import DOUBTFUL, auto, ladder, spec
from tests.router.rig import chat, post, run, until


def narrow(tier: int) -> str:
    """Return the spec of two tiers, one of which has room for one request."""
    told = json.loads(spec())
    told["tiers"][tier]["capacity"] = 1
    return json.dumps(told)


def test_what_leaves_the_choice_passes_a_full_tier_over_and_what_names_it_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, spec=narrow(0)) as (it, small, large):
            small.hold.clear()
            first = asyncio.create_task(it.ask(auto()))
            await until(lambda: len(small.seen) == 1, "the small tier is full")
            assert (await it.ask(auto())).headers["x-headrace-tier"] == "small,large"
            named = await it.ask(post(chat() | {"model": "small"}))
            assert (named.status, named.json["error"]["code"]) == (429, "tier_full")
            assert named.headers["retry-after"] == "1"
            small.hold.set()
            assert (await first).headers["x-headrace-tier"] == "small"
            assert (await it.ask(post(chat() | {"model": "small"}))).status == 200
            assert (len(small.seen), len(large.seen)) == (2, 1)

    run(main())


def test_where_the_better_tier_is_full_the_doubted_answer_is_shown_and_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, spec=narrow(1)) as (it, small, large):
            small.logprob = DOUBTFUL
            large.hold.clear()
            first = asyncio.create_task(it.ask(auto()))
            await until(lambda: len(large.seen) == 1, "the large tier is full")
            reply = await it.ask(auto())
            assert (reply.status, reply.headers["x-headrace-degraded"]) == (200, "true")
            large.hold.set()
            assert (await first).headers["x-headrace-tier"] == "small,large"

    run(main())
