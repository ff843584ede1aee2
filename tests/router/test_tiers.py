"""Tiers: by their names, by their deployments' names, or left to the router."""

import json
from pathlib import Path

import pytest
from tests.router.rig import FakeWorker, Rig, chat, get, rig, run

from headrace_router.choose.tier import Choice, Tiers

TIERS = Tiers([("small", "chat"), ("large", "llama")])
SPEC = json.dumps({"tiers": [{"name": "small", "deployment": "chat"}, {"name": "large", "deployment": "llama"}]})


@pytest.mark.parametrize(
    ("model", "up", "expected"),
    [
        ("chat", (), Choice("chat", ("small",))),
        ("large", (), Choice("llama", ("large",))),
        ("auto", ("chat", "llama"), Choice("chat", ("small",))),
        ("auto", ("llama",), Choice("llama", ("small", "large"))),
        ("auto", (), Choice("chat", ("small",))),
        ("gpt", ("chat",), None),
    ],
)
def test_a_request_goes_to_the_tier_it_names_or_to_the_first_that_serves(
    model: str, up: tuple[str, ...], expected: Choice | None
) -> None:
    assert TIERS.choose(model, up.__contains__) == expected


def test_without_tiers_nothing_is_chosen() -> None:
    assert Tiers([]).choose("auto", lambda _: True) is None
    assert Tiers([]).names() == ()


def test_a_name_keeps_its_meaning_whatever_tiers_are_called() -> None:
    odd = Tiers([("llama", "chat"), ("auto", "llama")])
    assert odd.choose("llama", lambda _: True) == Choice("llama", ("auto",)), "a deployment before a tier"
    assert odd.choose("auto", lambda _: True) == Choice("llama", ("auto",)), "a tier before the router's choice"


async def _llama(it: Rig) -> FakeWorker:
    worker = FakeWorker("l0", deployment="llama")
    await worker.start()
    it.workers.append(worker)
    await it.publish(*it.workers)
    return worker


def test_the_worker_is_told_its_own_name_and_the_client_who_served(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, spec=SPEC) as it:
            small = await it.worker("d0")
            large = await _llama(it)
            for name, worker, tier in (("auto", small, "small"), ("large", large, "large"), ("chat", small, "small")):
                reply = await it.ask(chat() | {"model": name})
                assert reply.status == 200
                assert reply.headers["x-headrace-tier"] == tier
                assert worker.seen[-1].fields["model"] == worker.deployment
            listed = {one["id"] for one in (await it.ask(get("/v1/models"))).json["data"]}
            assert listed == {"chat", "llama", "small", "large", "auto"}
            assert (await it.ask(get("/v1/models/small"))).json["id"] == "small"
            missing = await it.ask(chat() | {"model": "gpt"})
            assert missing.status == 404
            assert "chat, llama, small, large, auto" in missing.json["error"]["message"]

    run(main())


def test_the_next_tier_serves_while_the_first_has_no_worker_and_the_answer_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, spec=SPEC) as it:
            small = await it.worker("d0")
            large = await _llama(it)
            await it.publish(large)
            reply = await it.ask(chat() | {"model": "auto"})
            assert reply.headers["x-headrace-tier"] == "small,large"
            assert len(large.seen) == 1
            await it.publish(small, large)
            assert (await it.ask(chat() | {"model": "auto"})).headers["x-headrace-tier"] == "small"

    run(main())
