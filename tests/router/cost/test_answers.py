"""Answers say what they cost, and the ledger has it before the client does."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.router.cost.shop import BY_TOKEN, HOURLY, ask, lines, shop
from tests.router.rig import DEADLINE_S, Reply, Rig, chat, get, post, run, stream_bytes, until

from headrace_router.cost.entry import Entry

NANO = 10**9


def _events(reply: Reply) -> list[dict[str, Any]]:
    return [json.loads(part[6:]) for part in reply.body.split(b"\n\n") if part.startswith(b"data: {")]


def test_a_whole_answer_states_its_cost_in_usage_and_header(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, HOURLY) as (it, _):
            reply = await it.ask(ask())
            assert reply.headers["x-headrace-tier"] == "small"
            assert reply.headers["x-headrace-cost"] == "0.006 USD"
            cost = reply.json["usage"]["cost"]
            assert (cost["total"], cost["currency"]) == (0.006, "USD")
            (tier,) = cost["tiers"]
            assert (tier["tier"], tier["prefill"], tier["decode"]) == ("small", 0.002, 0.004)
            assert tier["gpu_seconds"] == {"prefill": 2.0, "decode": 4.0}
            (line,) = lines(tmp_path)
            assert (line["key"], line["team"], line["organisation"]) == ("anne", "search", "acme")
            assert (line["kind"], line["status"], line["model"], line["tier"]) == ("request", 200, "chat", "small")
            assert (line["prompt_tokens"], line["completion_tokens"]) == (100, 8)
            assert line["billed"] == line["cost"] == 6 * NANO // 1000
            assert line["request"] == reply.headers["x-request-id"]

    run(main())


def test_tokens_are_billed_by_token_with_cached_ones_apart(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, BY_TOKEN) as (it, worker):
            worker.cached_tokens = 60
            (tier,) = (await it.ask(ask())).json["usage"]["cost"]["tiers"]
            assert tier["prefill"] == pytest.approx(40e-6 + 30e-6)
            assert tier["decode"] == pytest.approx(16e-6)
            assert tier["cache_saving"] == pytest.approx(30e-6)

    run(main())


def test_a_stream_states_its_cost_in_the_last_chunk_when_usage_is_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, HOURLY) as (it, _):
            asked = await it.ask(ask(stream=True, stream_options={"include_usage": True}))
            assert asked.body.endswith(b"data: [DONE]\n\n")
            assert _events(asked)[-1]["usage"]["cost"]["total"] == 0.006
            assert asked.headers["x-headrace-tier"] == "small"
            assert "x-headrace-cost" not in asked.headers
            silent = await it.ask(ask(stream=True))
            assert silent.body == stream_bytes(8)
            assert [line["billed"] for line in lines(tmp_path)] == [6 * NANO // 1000] * 2

    run(main())


def test_without_prices_answers_are_untouched(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, HOURLY, keys=False, spec=None, ledger=None) as (it, _):
            reply = await it.ask(post(chat()))
            assert "x-headrace-tier" not in reply.headers
            assert "cost" not in reply.json["usage"]

    run(main())


def test_requests_without_a_known_key_are_refused_and_probes_are_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, HOURLY) as (it, worker):
            for request in (ask(None), ask("nobody"), get("/v1/models"), get("/admin/costs")):
                reply = await it.ask(request)
                assert (reply.status, reply.json["error"]["code"]) == (401, "invalid_api_key")
                assert reply.json["error"]["type"] == "authentication_error"
                assert reply.headers["www-authenticate"] == "Bearer"
            assert worker.seen == []
            for path in ("/health", "/metrics", "/waiting"):
                assert (await it.ask(get(path))).status == 200
            assert (await it.ask(ask())).status == 200
            assert "authorization" not in worker.seen[0].headers, "workers have no use for our keys"

    run(main())


def test_a_repeat_runs_again_says_so_and_counts_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, HOURLY) as (it, worker):
            request = ask(headers="Idempotency-Key: k1\r\n")
            first, second = await it.ask(request), await it.ask(request)
            await it.ask(ask("bert", headers="Idempotency-Key: k1\r\n"))
            assert len(worker.seen) == 3
            assert first.headers["x-request-id"] == second.headers["x-request-id"]
            assert (first.json["usage"]["cost"]["total"], second.json["usage"]["cost"]["total"]) == (0.006, 0)
            assert second.json["usage"]["cost"]["repeated"] is True
            found = sorted((line["key"], line["kind"], line["billed"]) for line in lines(tmp_path))
            paid = 6 * NANO // 1000
            assert found == [("anne", "repeat", 0), ("anne", "request", paid), ("bert", "request", paid)]

    run(main())


def test_a_request_id_of_the_clients_choice_does_not_make_a_repeat(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, HOURLY) as (it, _):
            for _ in range(2):
                await it.ask(ask(headers="X-Request-Id: mine\r\n"))
            assert [(line["request"], line["kind"]) for line in lines(tmp_path)] == [("mine", "request")] * 2

    run(main())


def test_a_replay_bills_the_prompt_once_and_keeps_what_it_cost_apart(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, HOURLY) as (it, first):
            first.die_after = 3
            second = await it.worker("d1")
            second.metered, second.die_after = (2.0, 0.5), 3
            reply = await it.ask(ask(stream=True))
            assert reply.body == stream_bytes(8)
            (line,) = lines(tmp_path)
            assert (line["prefill_s"], line["decode_s"], line["lost_s"]) == (2.0, 4.0, 2.0)
            assert (line["billed"], line["cost"]) == (6 * NANO // 1000, 8 * NANO // 1000)

    run(main())


def test_a_client_that_leaves_pays_for_what_was_computed(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, HOURLY) as (it, worker):
            worker.hold_after = 3
            worker.hold.clear()
            connection = await it.connect()
            await connection.send(ask(stream=True))
            await connection.head()
            got = b""
            while got.count(b"\n\n") < 3:
                got += await connection.chunk()
            connection.leave()
            await until(lambda: lines(tmp_path), "the line is in the ledger")
            (line,) = lines(tmp_path)
            assert (line["status"], line["kind"], line["completion_tokens"]) == (499, "request", 3)
            assert line["billed"] == 3_500_000

    run(main())


def test_an_answer_that_fails_bills_nothing_and_leaves_its_name_to_a_repeat(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, HOURLY, max_attempts=1) as (it, worker):
            worker.die_after = 2
            request = ask(headers="Idempotency-Key: k1\r\n")
            assert (await it.ask(request)).status == 502
            assert (await it.ask(request)).status == 200
            await until(lambda: len(lines(tmp_path)) == 2, "both lines")
            found = {line["kind"]: (line["billed"], line["lost_s"]) for line in lines(tmp_path)}
            assert found == {"failed": (0, 3.0), "request": (6_000_000, 0.0)}

    run(main())


def test_a_refused_request_leaves_no_line(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, HOURLY) as (it, worker):
            worker.refuse = (400, b'{"error":{}}')
            assert (await it.ask(ask())).status == 400
            assert (await it.ask(ask(model="none"))).status == 404
            assert (await it.ask(ask(max_tokens="many"))).status == 400
            assert lines(tmp_path) == []

    run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_without_frames_is_billed_by_the_counts_it_states(tmp_path: Path, *, stream: bool) -> None:
    async def main() -> None:
        async with shop(tmp_path, BY_TOKEN) as (it, worker):
            usage = b'"usage": {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": null}}'
            body = b'{"choices": [], ' + usage
            kind = b"application/json"
            if stream:
                body, kind = b"data: {}\n\ndata: " + body + b"\n\ndata: [DONE]\n\n", b"text/event-stream"
            head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n" % (kind, len(body))
            worker.plain = head + body
            reply = await it.ask(ask(stream=stream))
            last = _events(reply)[-1] if stream else reply.json
            assert last["usage"].pop("cost")["total"] == 0.00002
            assert last == json.loads(b'{"choices": [], ' + usage)
            assert reply.headers.get("x-headrace-cost") == (None if stream else "0.00002 USD")
            (line,) = lines(tmp_path)
            assert (line["prompt_tokens"], line["completion_tokens"], line["billed"]) == (10, 5, 20_000)

    run(main())


def test_metrics_and_admin_page_agree_with_the_ledger(tmp_path: Path) -> None:
    async def main() -> None:
        budget = {"name": "b", "scope": "team", "of": "search", "soft": 0.004, "hard": 0.02, "period": "total"}
        async with shop(tmp_path, HOURLY, [budget]) as (it, _):
            await it.ask(ask(max_tokens=8))
            await it.ask(ask("bert"))
            who = 'model="chat",tier="small",team="search",organisation="acme",currency="USD"'
            assert await it.metric(f"headrace_cost_billed_total{{{who}}}") == 0.006
            assert await it.metric('headrace_cost_budget_spent{budget="b",currency="USD"}') == 0.006
            assert await it.metric('headrace_cost_budget_reserved{budget="b",currency="USD"}') == 0
            assert await it.metric('headrace_cost_budget_limit{budget="b",kind="hard",currency="USD"}') == 0.02
            assert await it.metric('headrace_cost_gpu_seconds_total{model="chat",tier="small",phase="decode"}') == 8
            assert await it.metric("headrace_cost_ledger_away") == 0

    run(main())


def test_admins_read_reports_of_all_and_others_do_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, HOURLY) as (it, _):
            for name in ("anne", "bert", "bert"):
                await it.ask(ask(name))
            whole = await it.ask(_costs("root", "?by=team&since=1h"))
            found = [(row["team"], row["requests"], row["billed"], row["currency"]) for row in whole.json["rows"]]
            assert found == [("ads", 2, 0.012, "USD"), ("search", 1, 0.006, "USD")]
            table = await it.ask(_costs("root", "?by=tier&format=csv"))
            assert table.headers["content-type"].startswith("text/csv")
            row = table.body.decode().splitlines()[1]
            assert row.startswith("small,3,0,0,0,300,0,24,6.0,12.0,0.0,0.0,0.018,0.018,0")
            assert (await it.ask(_costs("anne"))).status == 403
            for query in ("?by=colour", "?since=yesterday", "?format=xml", "?to=me", "?by"):
                assert (await it.ask(_costs("root", query))).status == 400

    run(main())


def test_a_router_without_a_ledger_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, HOURLY, ledger=None) as (it, _):
            reply = await it.ask(_costs("root"))
            assert (reply.status, reply.json["error"]["code"]) == (404, "no_ledger")

    run(main())


def _costs(name: str, query: str = "") -> bytes:
    return f"GET /admin/costs{query} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer key-{name}\r\n\r\n".encode()


class _Slow:
    """A disk under the ledger that writes nothing until it is let go."""

    def __init__(self, it: Rig) -> None:
        assert it.router.book is not None
        assert it.router.book._ledger is not None
        self._ledger = it.router.book._ledger
        self._append = self._ledger.append
        self._gate = asyncio.Event()
        self._ledger.append = self._wait  # type: ignore[method-assign]  # a slow disk

    def _wait(self, entry: Entry, done: Callable[[bool | None], None]) -> None:
        self._waiting = asyncio.ensure_future(self._later(entry, done))

    async def _later(self, entry: Entry, done: Callable[[bool | None], None]) -> None:
        await self._gate.wait()
        self._append(entry, done)

    def mend(self) -> None:
        """Be quick with all later lines."""
        self._ledger.append = self._append  # type: ignore[method-assign]  # as it was

    def go(self) -> None:
        """Write what waits."""
        self._gate.set()


def test_the_ledger_has_a_line_before_the_client_has_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, HOURLY) as (it, _):
            slow = _Slow(it)
            asking = asyncio.create_task(it.ask(ask()))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await asyncio.shield(asking)
            assert lines(tmp_path) == []
            slow.go()
            async with asyncio.timeout(DEADLINE_S):
                assert (await asking).status == 200
            assert len(lines(tmp_path)) == 1

    run(main())


@pytest.mark.parametrize("plain", [False, True])
def test_an_answer_that_waits_for_its_line_is_its_own_though_its_connection_serves_others(
    tmp_path: Path, *, plain: bool
) -> None:
    async def main() -> None:
        async with shop(tmp_path, BY_TOKEN) as (it, worker):
            body = b'{"usage": {"prompt_tokens": 10, "completion_tokens": 5}}'
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            worker.plain = head % len(body) + body if plain else None
            slow = _Slow(it)
            first = asyncio.create_task(it.ask(ask()))
            await until(lambda: it.router.pool._idle.get(_worker(it)), "the connection is free again")
            slow.mend()
            worker.plain, worker.hold_after = None, 0
            worker.hold.clear()
            second = asyncio.create_task(it.ask(ask()))
            await until(lambda: len(worker.seen) == 2, "the connection serves another")
            assert worker.connections == 1
            slow.go()
            async with asyncio.timeout(DEADLINE_S):
                reply = await first
            assert (reply.status, reply.headers["x-headrace-decode"]) == (200, "d0")
            assert "usage" in reply.json
            worker.hold.set()
            assert (await second).status == 200

    run(main())


def _worker(it: Any) -> Any:
    return it.router.registry.deployments["chat"].decoders[0].worker
