"""Tiers that are endpoints of others: what is sent there, what comes back, what their failures mean."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from tests.router.cost.shop import lines
from tests.router.outside import (
    PROMPT_TOKENS,
    THEIR_KEY,
    THEIR_MODEL,
    FakeEndpoint,
    ask,
    certificate,
    outside,
    tier,
)
from tests.router.rig import Reply, Rig, get, post, rig, run, until

from headrace_router.errors import SettingsError
from headrace_router.settings import RouterSettings, parse_settings

BILLED = (PROMPT_TOKENS + 2 * 8) * 1000
"""Of a whole answer, in billionths."""


def _events(reply: Reply) -> list[dict[str, Any]]:
    return [json.loads(part[6:]) for part in reply.body.split(b"\n\n") if part.startswith(b"data: {")]


# --- what is sent --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/v1", "/openai/v1/"])
def test_the_endpoint_gets_the_request_under_its_own_path_model_and_key_and_nothing_of_the_client(
    tmp_path: Path, prefix: str
) -> None:
    async def main() -> None:
        async with outside(tmp_path, prefix=prefix) as (it, far):
            headers = (
                "Authorization: Bearer sk-client\r\nCookie: a=b\r\nOpenAI-Organization: mine\r\nX-Request-Id: r1\r\n"
            )
            reply = await it.ask(ask(headers=headers, temperature=0.5, max_tokens=9))
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, "far")
            assert reply.headers["x-request-id"] == "r1"
            (seen,) = far.seen
            assert seen.path == f"{prefix.rstrip('/')}/chat/completions"
            assert seen.headers["authorization"] == f"Bearer {THEIR_KEY}"
            assert seen.headers["host"] == far.url.split("/")[2]
            allowed = {
                "accept",
                "accept-encoding",
                "authorization",
                "content-length",
                "content-type",
                "host",
                "user-agent",
            }
            assert set(seen.headers) == allowed
            assert seen.body.count(b'"model"') == 1, "an endpoint may refuse two fields of one name"
            assert seen.fields["model"] == THEIR_MODEL
            assert (seen.fields["temperature"], seen.fields["max_tokens"]) == (0.5, 9)
            assert "seed" not in seen.fields

    run(main())


def test_a_seed_of_the_clients_goes_along(tmp_path: Path) -> None:
    async def main() -> None:
        async with outside(tmp_path) as (it, far):
            await it.ask(ask(seed=7))
            assert far.seen[0].fields["seed"] == 7

    run(main())


def test_completions_and_embeddings_go_there_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with outside(tmp_path, priced=True) as (it, far):
            who = "Authorization: Bearer key-anne\r\n"
            await it.ask(post({"model": "far", "prompt": "a"}, "/v1/completions", who))
            await it.ask(post({"model": "far", "input": "a"}, "/v1/embeddings", who))
            assert [seen.path for seen in far.seen] == ["/v1/completions", "/v1/embeddings"]
            assert far.seen[1].fields == {"model": THEIR_MODEL, "input": "a"}

    run(main())


def test_the_connection_is_kept_and_a_key_that_was_turned_over_is_used_from_then_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with outside(tmp_path) as (it, far):
            await it.ask(ask())
            (tmp_path / "their.key").write_text("sk-new")
            it.router.endpoints.poll()
            await it.ask(ask())
            (tmp_path / "their.key").write_text("two words\n")
            it.router.endpoints.poll()
            await it.ask(ask())
            keys = [seen.headers["authorization"] for seen in far.seen]
            assert keys == [f"Bearer {THEIR_KEY}", "Bearer sk-new", "Bearer sk-new"]

    run(main())


def test_without_its_key_a_tier_refuses_until_the_file_is_there_and_auto_passes_it_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        near, far = FakeEndpoint(), FakeEndpoint()
        await near.start(prefix="/v1")
        await far.start(prefix="/v1")
        first = tier(far.url, tmp_path)
        (tmp_path / "their.key").unlink()
        second = {"name": "near", "endpoint": {"url": near.url, "model": "m"}}
        async with rig(tmp_path, discovery="none", spec=json.dumps({"tiers": [first, second]})) as it:
            reply = await it.ask(ask())
            assert (reply.status, reply.json["error"]["code"]) == (503, "endpoint_key_missing")
            assert far.seen == []
            reply = await it.ask(ask("auto"))
            assert reply.headers["x-headrace-tier"] == "far,near"
            assert "authorization" not in near.seen[0].headers
            (tmp_path / "their.key").write_text(THEIR_KEY)
            it.router.endpoints.poll()
            assert (await it.ask(ask("auto"))).headers["x-headrace-tier"] == "far"
        await near.stop()
        await far.stop()

    run(main())
    assert "their.key cannot be read" in caplog.text


def test_no_log_has_a_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with outside(tmp_path) as (it, far):
            await it.ask(ask(headers="Authorization: Bearer sk-client\r\n"))
            far.refuse = (401, f"Incorrect API key provided: {THEIR_KEY}", "")
            await it.ask(ask(headers="Authorization: Bearer sk-client\r\n"))

    with caplog.at_level(logging.DEBUG):
        run(main())
    assert "refuses this router's key" in caplog.text
    assert THEIR_KEY not in caplog.text
    assert "sk-client" not in caplog.text


# --- over TLS ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_endpoint_whose_certificate_is_vouched_for_is_spoken_to(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stream: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    authority, context = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))

    async def main() -> None:
        async with outside(tmp_path, context=context) as (it, far):
            for _ in range(2):
                reply = await it.ask(ask(stream=stream))
                assert reply.status == 200
                assert reply.whole
                wanted = "".join(far.events({})) if stream else far.whole()
                assert reply.body.decode() == wanted

    run(main())


def test_an_endpoint_that_nobody_vouches_for_gets_nothing(tmp_path: Path) -> None:
    _, context = certificate(tmp_path)

    async def main() -> None:
        async with outside(tmp_path, context=context) as (it, far):
            reply = await it.ask(ask())
            assert (reply.status, reply.json["error"]["code"]) == (503, "endpoint_away")
            assert far.seen == []

    run(main())


# --- what comes back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("piece_bytes", [0, 1, 7])
def test_without_books_the_answer_passes_as_it_is(tmp_path: Path, stream: bool, piece_bytes: int) -> None:  # noqa: FBT001 - a parameter of the test
    async def main() -> None:
        async with outside(tmp_path) as (it, far):
            far.piece_bytes = piece_bytes
            reply = await it.ask(ask(stream=stream))
            assert reply.body.decode() == ("".join(far.events({})) if stream else far.whole())
            assert "stream_options" not in far.seen[0].fields

    run(main())


def test_of_their_headers_clients_see_what_is_about_the_answer(tmp_path: Path) -> None:
    async def main() -> None:
        async with outside(tmp_path) as (it, _):
            reply = await it.ask(ask())
            assert reply.headers["content-type"] == "application/json"
            assert reply.headers["x-headrace-tier"] == "far"
            assert not {"set-cookie", "openai-organization", "x-headrace-decode", "x-headrace-prefill"} & set(
                reply.headers
            )

    run(main())


@pytest.mark.parametrize("piece_bytes", [0, 5])
def test_a_whole_answer_is_billed_by_its_usage_and_says_so(tmp_path: Path, piece_bytes: int) -> None:
    async def main() -> None:
        async with outside(tmp_path, priced=True) as (it, far):
            far.piece_bytes = piece_bytes
            reply = await it.ask(ask())
            assert reply.headers["x-headrace-cost"] == "0.000116 USD"
            cost = reply.json["usage"].pop("cost")
            assert (cost["total"], [one["tier"] for one in cost["tiers"]]) == (0.000116, ["far"])
            assert reply.json["usage"] | {"cost": cost} == {**far.usage, "cost": cost}
            assert reply.json["system_fingerprint"] == "fp"
            (line,) = lines(tmp_path)
            assert (line["model"], line["tier"], line["kind"], line["billed"]) == ("far", "far", "request", BILLED)
            assert (line["prompt_tokens"], line["completion_tokens"]) == (PROMPT_TOKENS, 8)

    run(main())


@pytest.mark.parametrize("piece_bytes", [0, 5])
def test_a_stream_is_billed_though_the_client_did_not_ask_for_usage_and_shows_nothing_of_it(
    tmp_path: Path, piece_bytes: int
) -> None:
    async def main() -> None:
        async with outside(tmp_path, priced=True) as (it, far):
            far.piece_bytes = piece_bytes
            reply = await it.ask(ask(stream=True, stream_options={"include_obfuscation": False}))
            assert far.seen[0].fields["stream_options"] == {"include_obfuscation": False, "include_usage": True}
            events = _events(reply)
            assert all(event["choices"] for event in events), "clients take the first of a list that is never empty"
            assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == far.text
            assert reply.body.endswith(b"data: [DONE]\n\n")
            (line,) = lines(tmp_path)
            assert (line["prompt_tokens"], line["billed"]) == (PROMPT_TOKENS, BILLED)

    run(main())


@pytest.mark.parametrize("piece_bytes", [0, 5])
def test_a_stream_whose_client_asks_for_usage_states_the_cost_in_it(tmp_path: Path, piece_bytes: int) -> None:
    async def main() -> None:
        async with outside(tmp_path, priced=True) as (it, far):
            far.piece_bytes = piece_bytes
            reply = await it.ask(ask(stream=True, stream_options={"include_usage": True}))
            last = _events(reply)[-1]
            assert last["choices"] == []
            assert last["usage"]["cost"]["total"] == 0.000116
            assert last["usage"]["total_tokens"] == far.usage["total_tokens"]
            assert reply.body.endswith(b"data: [DONE]\n\n")

    run(main())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_answer_without_usage_is_counted_by_its_events_or_words(tmp_path: Path, stream: bool) -> None:  # noqa: FBT001 - a parameter of the test
    async def main() -> None:
        async with outside(tmp_path, priced=True) as (it, far):
            far.states_usage = False
            assert (await it.ask(ask(stream=stream))).status == 200
            (line,) = lines(tmp_path)
            assert (line["prompt_tokens"], line["completion_tokens"], line["billed"]) == (0, 8, 16_000)

    run(main())


def test_a_stream_that_a_budget_cannot_pay_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with outside(tmp_path, priced=True) as (it, far):
            far.count = 4000
            far.piece_bytes = 500
            reply = await it.ask(ask(stream=True, max_cost=0.003))
            last = _events(reply)[-1]
            assert last["error"]["code"] == "budget_exhausted"
            await until(lambda: lines(tmp_path), "the line is in the ledger")
            (line,) = lines(tmp_path)
            assert line["status"] == 402
            assert 0 < line["billed"] <= 3_000_000

    run(main())


# --- when it fails -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        (401, 502, "endpoint_key_refused"),
        (403, 502, "endpoint_key_refused"),
        (404, 502, "endpoint_misplaced"),
        (301, 502, "endpoint_misplaced"),
        (402, 502, "endpoint_misplaced"),
        (429, 429, "endpoint_overloaded"),
        (500, 502, "endpoint_failed"),
        (503, 503, "endpoint_failed"),
    ],
)
def test_a_failure_of_the_endpoint_is_told_in_our_words_and_the_endpoint_left_alone(
    tmp_path: Path, status: int, told: int, code: str
) -> None:
    async def main() -> None:
        async with outside(tmp_path) as (it, far):
            far.refuse = (status, "of org-theirs", "retry-after: 17\r\n")
            reply = await it.ask(ask())
            assert (reply.status, reply.json["error"]["code"]) == (told, code)
            assert "'far'" in reply.json["error"]["message"]
            assert b"org-theirs" not in reply.body
            assert reply.headers.get("retry-after") == ("17" if status in (429, 500, 503) else None)
            assert await it.metric('headrace_router_workers{model="far",role="unified"}') == 0

    run(main())


def test_what_is_wrong_with_a_request_is_told_in_the_endpoints_words(tmp_path: Path) -> None:
    async def main() -> None:
        async with outside(tmp_path, priced=True) as (it, far):
            far.refuse = (400, "no such field", "")
            reply = await it.ask(ask())
            assert (reply.status, reply.json["error"]["message"]) == (400, "no such field")
            assert lines(tmp_path) == []
            far.refuse = None
            assert (await it.ask(ask())).status == 200, "the endpoint is well"

    run(main())


def test_an_endpoint_that_cannot_be_reached_is_told_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with outside(tmp_path, hold_deadline_s=300) as (it, far):
            await far.stop()
            reply = await it.ask(ask())
            assert (reply.status, reply.json["error"]["code"]) == (503, "endpoint_away")
            assert reply.headers["retry-after"]

    run(main())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_answer_that_breaks_off_is_not_asked_for_again(tmp_path: Path, stream: bool) -> None:  # noqa: FBT001 - a parameter of the test
    async def main() -> None:
        async with outside(tmp_path) as (it, far):
            far.die_after = 3 if stream else 0
            reply = await it.ask(ask(stream=stream))
            if stream:
                assert _events(reply)[-1]["error"]["code"] == "worker_lost"
                assert not reply.whole
            else:
                assert (reply.status, reply.json["error"]["code"]) == (502, "worker_lost")
            assert len(far.seen) == 1

    run(main())


def test_an_endpoint_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with outside(tmp_path, silence_deadline_s=0.2) as (it, far):
            far.silent = True
            reply = await it.ask(ask())
            assert (reply.status, reply.json["error"]["code"]) == (502, "worker_lost")
            assert len(far.seen) == 1

    run(main())


def test_a_client_that_leaves_is_left_by_the_endpoint(tmp_path: Path) -> None:
    async def main() -> None:
        async with outside(tmp_path) as (it, far):
            far.silent = True
            connection = await it.connect()
            await connection.send(ask(stream=True))
            await until(lambda: far.seen, "the endpoint is asked")
            connection.leave()
            await until(lambda: far.left, "the endpoint is left")
            assert await it.metric('headrace_router_inflight{model="far"}') == 0

    run(main())


# --- beside workers ------------------------------------------------------------------------------------------


def _both(far: FakeEndpoint, folder: Path) -> str:
    return json.dumps({"tiers": [{"name": "small", "deployment": "chat"}, tier(far.url, folder)]})


def test_a_tier_is_listed_by_its_name_and_stays_while_workers_come_and_go(tmp_path: Path) -> None:
    async def main() -> None:
        far = FakeEndpoint()
        await far.start(prefix="/v1")
        async with rig(tmp_path, spec=_both(far, tmp_path)) as it:
            worker = await it.worker("d0")
            await it.publish()
            await it.publish(worker)
            listed = {one["id"] for one in (await it.ask(get("/v1/models"))).json["data"]}
            assert listed == {"chat", "small", "far", "auto"}
            assert (await it.ask(ask("auto"))).headers["x-headrace-tier"] == "small"
            await it.publish()
            assert (await it.ask(ask("auto"))).headers["x-headrace-tier"] == "small,far"
            health = (await it.ask(get("/health"))).json["models"]
            assert health["far"] == {"decode": [], "prefill": []}, "whoever lists workers has not listed it"
            assert it.router.listed() == []
        await far.stop()

    run(main())


async def _refused(settings: RouterSettings) -> None:
    from headrace_router.router import Router  # noqa: PLC0415

    Router(settings, asyncio.get_running_loop())


@pytest.mark.parametrize(
    ("endpoint", "sentence"),
    [
        ({"url": "https://h:99999/v1", "model": "m"}, "tier far: "),
        ({"url": "https://h/v1", "model": "m", "keySecret": {"name": "s"}}, "has its key in a Secret"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused_at_the_start(endpoint: dict[str, Any], sentence: str) -> None:
    spec = json.dumps({"tiers": [{"name": "far", "endpoint": endpoint}]})
    settings = parse_settings(["--discovery", "none", "--spec", spec])
    with pytest.raises(SettingsError, match=sentence):
        run(_refused(settings))


def test_a_router_of_endpoints_alone_serves(tmp_path: Path) -> None:
    async def ready(it: Rig) -> int:
        return (await it.ask(get("/health"))).status

    async def main() -> None:
        async with outside(tmp_path) as (it, _):
            assert await ready(it) == 200
            assert (await it.ask(ask("auto"))).headers["x-headrace-tier"] == "far"
            missing = await it.ask(ask("gpt"))
            assert missing.status == 404
            assert "far, auto" in missing.json["error"]["message"]

    run(main())
