"""Requests through tiers: who is asked, what is shown, what is never shown."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.router.cascade.ladder import COMMIT_TOKENS, DOUBTFUL, SURE, auto, gate_file, ladder, stream_of
from tests.router.rig import DEADLINE_S, Connection, FakeWorker, Reply, Rig, get, run, until

from headrace_router.cascade.file import DifficultyFile, Threshold, Training, write
from headrace_router.cascade.linear import Logistic, Scale, Steps
from headrace_router.cascade.predictor import Calibration, Expert, Opinion, Predictor
from headrace_router.cascade.prompt import NAMES

LONG_AGO_S = 0.1


async def _stream(it: Rig, **fields: Any) -> Connection:
    connection = await it.connect()
    await connection.send(auto(stream=True, **fields))
    return connection


async def _read(connection: Connection) -> Reply:
    async with asyncio.timeout(DEADLINE_S):
        return await connection.reply()


def _outcomes(reply: Reply) -> dict[str, int]:
    name = "headrace_cascade_answers_total{"
    rows = [line.removeprefix(name) for line in reply.body.decode().splitlines() if line.startswith(name)]
    found = {}
    for row in rows:
        labels, _, count = row.partition("} ")
        tier, outcome = (part.split('"')[1] for part in labels.split(","))
        found[f"{tier} {outcome}"] = int(count)
    return found


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_the_gate_passes_is_the_cheap_tiers_and_nobody_else_is_asked(tmp_path: Path, stream: bool) -> None:  # noqa: FBT001 - a parameter of the test
    async def main() -> None:
        async with ladder(tmp_path) as (it, small, large):
            reply = await it.ask(auto(stream=stream))
            assert reply.status == 200
            assert reply.headers["x-headrace-tier"] == "small"
            assert reply.headers["x-headrace-decode"] == "s0"
            assert "x-headrace-degraded" not in reply.headers
            assert reply.whole
            assert not stream or reply.body == stream_of(small)
            assert large.seen == []
            assert small.seen[0].fields["model"] == "chat"
            assert _outcomes(await it.ask(get("/metrics"))) == {"small committed": 1}

    run(main())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_the_gate_doubts_is_answered_by_the_next_tier_alone(tmp_path: Path, stream: bool) -> None:  # noqa: FBT001 - a parameter of the test
    async def main() -> None:
        async with ladder(tmp_path) as (it, small, large):
            small.logprob = DOUBTFUL
            reply = await it.ask(auto(stream=stream))
            assert reply.status == 200
            assert reply.headers["x-headrace-tier"] == "small,large"
            assert reply.headers["x-headrace-decode"] == "l0"
            assert reply.whole
            assert not stream or reply.body == stream_of(large)
            assert [seen.fields["model"] for seen in large.seen] == ["llama"]
            assert large.seen[0].fields["seed"] == small.seen[0].fields["seed"]
            assert _outcomes(await it.ask(get("/metrics"))) == {"small escalated": 1, "large committed": 1}

    run(main())


def test_a_stream_is_held_back_until_its_first_tokens_have_passed_and_not_longer(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path) as (it, small, _):
            small.hold.clear()
            small.hold_after = COMMIT_TOKENS - 1
            connection = await _stream(it)
            await until(lambda: small.sent_bytes > 0, "the first tokens")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(LONG_AGO_S):
                    await connection.head()
            small.hold_after = COMMIT_TOKENS
            small.hold.set()
            small.hold.clear()
            head = await connection.head()
            assert head.headers["x-headrace-tier"] == "small"
            shown = b""
            while f"w{COMMIT_TOKENS - 1} ".encode() not in shown:
                shown += await connection.chunk()
            small.hold.set()
            while piece := await connection.chunk():
                shown += piece
            assert shown == stream_of(small)

    run(main())


def test_a_doubted_stream_is_given_up_when_the_next_tier_begins_and_not_before(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path) as (it, small, large):
            small.logprob = DOUBTFUL
            small.count = large.count = 40
            small.hold.clear()
            small.hold_after = COMMIT_TOKENS + 1
            large.hold.clear()
            connection = await _stream(it)
            await until(lambda: large.seen, "the large tier is asked")
            assert not small.seen[0].gone
            large.hold.set()
            reply = await _read(connection)
            assert reply.body == stream_of(large)
            await until(lambda: small.seen[0].gone, "the small tier is let go")
            assert _outcomes(await it.ask(get("/metrics"))) == {"small escalated": 1, "large committed": 1}

    run(main())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_cheap_tier_that_fails_is_passed_over(tmp_path: Path, stream: bool) -> None:  # noqa: FBT001 - a parameter of the test
    async def main() -> None:
        async with ladder(tmp_path, max_attempts=1) as (it, small, large):
            small.refuse = (503, b"{}")
            reply = await it.ask(auto(stream=stream))
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, "small,large")
            small.refuse = None
            small.die_after = 2
            reply = await it.ask(auto(stream=stream))
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, "small,large")
            assert reply.headers["x-headrace-decode"] == "l0"
            assert not stream or reply.body == stream_of(large)
            found = _outcomes(await it.ask(get("/metrics")))
            assert found == {"small failed": 2, "large committed": 2}

    run(main())


def test_a_cheap_tier_without_a_worker_is_not_asked(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path) as (it, _, large):
            await it.publish(large)
            reply = await it.ask(auto())
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, "small,large")

    run(main())


def test_a_tier_that_does_not_begin_in_time_is_passed_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, {"timeout": "100ms"}) as (it, small, large):
            small.hold.clear()
            reply = await it.ask(auto(stream=True))
            assert reply.headers["x-headrace-tier"] == "small,large"
            assert reply.body == stream_of(large)
            await until(lambda: small.seen[0].gone, "the small tier is let go")
            assert _outcomes(await it.ask(get("/metrics"))) == {"small late": 1, "large committed": 1}

    run(main())


def test_a_late_answer_that_passes_is_taken_while_the_next_tier_has_not_begun(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, {"timeout": "100ms"}) as (it, small, large):
            small.hold.clear()
            large.hold.clear()
            connection = await _stream(it)
            await until(lambda: large.seen, "the large tier is asked")
            small.hold.set()
            reply = await _read(connection)
            assert reply.body == stream_of(small)
            await until(lambda: large.seen[0].gone, "the large tier is let go")
            found = _outcomes(await it.ask(get("/metrics")))
            assert found in ({"small committed": 1, other: 1} for other in ("large unneeded", "large late"))

    run(main())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_where_the_better_tier_fails_the_doubted_answer_is_shown_and_says_so(tmp_path: Path, stream: bool) -> None:  # noqa: FBT001 - a parameter of the test
    async def main() -> None:
        async with ladder(tmp_path) as (it, small, large):
            small.logprob = DOUBTFUL
            large.refuse = (503, b'{"error": {"message": "full"}}')
            reply = await it.ask(auto(stream=stream, stream_options={"include_usage": stream}))
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, "small,large")
            assert reply.headers["x-headrace-degraded"] == "true"
            last = reply.body.split(b"\n\n")[-3].removeprefix(b"data: ") if stream else reply.body
            assert json.loads(last)["degraded"] is True
            assert not stream or reply.body.startswith(stream_of(small)[:50])
            assert _outcomes(await it.ask(get("/metrics"))) == {"small degraded": 1, "large failed": 1}
            strict = await it.ask(auto(stream=stream, min_quality=0.9))
            assert (strict.status, strict.json["error"]["code"]) == (503, "quality_unavailable")
            assert strict.headers["retry-after"]

    run(main())


def test_what_is_wrong_with_a_request_is_told_by_the_first_tier_and_no_other_is_asked(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path) as (it, small, large):
            small.refuse = (400, b'{"error": {"message": "no such field", "code": null}}')
            reply = await it.ask(auto())
            assert (reply.status, reply.json["error"]["message"]) == (400, "no such field")
            assert large.seen == []
            small.refuse = (400, b'{"error": {"message": "too long", "code": "context_length_exceeded"}}')
            assert (await it.ask(auto())).headers["x-headrace-decode"] == "l0", "a larger one may have the room"

    run(main())


def test_what_one_tier_takes_and_the_next_does_not_is_the_next_tiers_fault(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path) as (it, small, large):
            small.logprob = DOUBTFUL
            large.refuse = (400, b'{"error": {"message": "no chat template"}}')
            reply = await it.ask(auto())
            assert (reply.status, reply.headers["x-headrace-decode"]) == (200, "s0")
            assert reply.headers["x-headrace-degraded"] == "true"

    run(main())


def test_when_every_tier_fails_the_client_hears_what_the_last_one_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path) as (it, small, large):
            small.refuse = (429, b'{"error": {"message": "small is full"}}')
            large.refuse = (429, b'{"error": {"message": "large is full"}}')
            reply = await it.ask(auto())
            assert (reply.status, reply.json["error"]["message"]) == (429, "large is full")
            connection = await it.connect()
            for _ in range(2):  # the connection goes on after it
                await connection.send(auto())
                assert (await _read(connection)).status == 429

    run(main())


@pytest.mark.parametrize(("away", "tier"), [("accept", "small"), ("escalate", "small,large")])
def test_without_a_gate_the_resource_says_what_happens_until_the_file_is_there(
    tmp_path: Path, away: str, tier: str
) -> None:
    async def main() -> None:
        async with ladder(tmp_path, {"whenGateAway": away}, gate=str(tmp_path / "later.json")) as (it, _, _large):
            reply = await it.ask(auto())
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, tier)
            said = (await it.ask(get("/health"))).json["problems"]["gate"]
            assert "later.json cannot be read" in said
            gone = 'headrace_cascade_model_away{model="gate"}'
            assert await it.metric(gone) == 1
            gate_file(tmp_path, "later.json")
            cascading = it.router.cascading
            assert cascading is not None
            cascading.poll()
            assert await it.metric(gone) == 0
            assert (await it.ask(auto())).headers["x-headrace-tier"] == "small"
            (tmp_path / "later.json").write_text("{")
            cascading.poll()
            assert "sound model file" in cascading.problems()["gate"]
            assert await it.metric(gone) == 0, "the one before goes on"

    run(main())


def test_answers_with_tools_or_a_schema_are_judged_when_they_are_complete(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path) as (it, small, _):
            small.hold.clear()
            small.hold_after = COMMIT_TOKENS + 2
            connection = await _stream(it, response_format={"type": "json_object"})
            await until(lambda: small.sent_bytes > 0, "the first tokens")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(LONG_AGO_S):
                    await connection.head()
            small.hold.set()
            assert (await _read(connection)).body == stream_of(small)

    run(main())


HARD = "Why " * 200
SIZE = 4
"""Of an embedding."""


@pytest.fixture
def predictor(tmp_path: Path) -> str:
    """A file that expects little of the large tier for short prompts, and much for long ones."""
    path = tmp_path / "difficulty.json"
    expert = Expert(
        Scale((3.0,), (1.0,)),
        _opinion(len(NAMES), 0.0),
        _opinion(SIZE, 5.0),
        *[Calibration(Steps((-1.0, 1.0), (0.0, 0.5)), Steps((0.0, 1.0), (0.0, 0.5)))] * 2,
    )
    thresholds = (Threshold(0.9, 0.3, calls=0.5, rows=100),)
    write(
        path,
        DifficultyFile(
            weak="small",
            strong="large",
            encoder="pypi://encoder",
            training=Training(10, ("a.csv",), 0),
            predictor=Predictor(choice=expert, open=expert),
            thresholds=thresholds,
        ),
    )
    return str(path)


def _opinion(size: int, slope: float) -> Opinion:
    scale = Scale((0.0,) * size, (1.0,) * size)
    weak, strong = Logistic((-slope,) * size, 0.0), Logistic((slope,) * size, 0.0)
    return Opinion(scale, weak, strong, centre=0.0, spread=0.2)


@pytest.mark.parametrize(
    ("policy", "content", "logprob", "tier"),
    [
        ("predict", "Why?", SURE, "small"),
        ("predict", "Why?", DOUBTFUL, "small"),
        ("predict", HARD, SURE, "small,large"),
        ("predict-then-check", "Why?", SURE, "small"),
        ("predict-then-check", "Why?", DOUBTFUL, "small,large"),
        ("predict-then-check", HARD, SURE, "small,large"),
    ],
)
def test_a_prediction_decides_where_to_begin(  # noqa: PLR0917 - a table
    tmp_path: Path, predictor: str, policy: str, content: str, logprob: float, tier: str
) -> None:
    async def main() -> None:
        spec = {"policy": policy, "predictor": {"file": "difficulty.json"}}
        async with ladder(tmp_path, spec, predictor=predictor) as (it, small, _):
            small.logprob = logprob
            reply = await it.ask(auto(content=content))
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, tier)
            assert len(small.seen) == (0 if content == HARD else 1)

    run(main())


def _embedding(*values: float) -> bytes:
    body = json.dumps({"data": [{"embedding": values}]}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize(
    ("reply", "tier"),
    [
        (_embedding(1, 1, 1, 1), "small,large"),
        (_embedding(-1, -1, -1, -1), "small"),
        (_embedding(1, 1), "small"),
        (_embedding(0, 0, 0, 0), "small"),
        (b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}", "small"),
        (b"", "small"),
    ],
    ids=["hard", "easy", "of another size", "of no length", "an error", "no answer in time"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_encoder_is_asked_about_the_prompt_and_done_without(
    tmp_path: Path,
    predictor: str,
    reply: bytes,
    tier: str,
    stream: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    async def main() -> None:
        spec = {"policy": "predict", "predictor": {"file": "difficulty.json"}, "encoder": "minilm"}
        async with ladder(tmp_path, spec, predictor=predictor) as (it, small, large):
            encoder = FakeWorker("e0", deployment="minilm")
            await encoder.start()
            it.workers.append(encoder)
            await it.publish(*it.workers)
            encoder.plain = reply
            answer = await it.ask(auto(content="Why?", stream=stream))
            assert (answer.status, answer.headers["x-headrace-tier"]) == (200, tier)
            shown = small if tier == "small" else large
            assert not stream or answer.body == stream_of(shown)
            (asked,) = encoder.seen
            assert (asked.path, asked.fields["model"], asked.fields["input"]) == ("/v1/embeddings", "minilm", ["Why?"])
            assert len(small.seen) == (tier == "small")

    run(main())


def test_at_its_deadline_a_request_takes_the_best_there_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path) as (it, small, large):
            small.logprob = DOUBTFUL
            large.hold.clear()
            reply = await it.ask(auto(headers="x-headrace-deadline: 0.1\r\n", stream=True))
            assert reply.body == stream_of(small)
            assert reply.headers["x-headrace-degraded"] == "true"
            assert "deadline" not in small.seen[0].headers
            await until(lambda: all(seen.gone for seen in large.seen), "the large tier is let go")

    run(main())


def test_at_its_deadline_a_request_without_any_answer_goes_on_to_the_next_tier(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, max_attempts=1) as (it, small, large):
            small.hold.clear()
            connection = await _stream(it, deadline=0.01)
            await until(lambda: small.seen, "the first tier is asked")
            await asyncio.sleep(LONG_AGO_S)
            small.die_after = 0
            small.hold.set()
            assert (await _read(connection)).body == stream_of(large)

    run(main())


def test_where_time_is_short_two_tiers_are_asked_at_once_and_one_is_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path) as (it, small, large):
            small.hold.clear()
            connection = await _stream(it)
            await until(lambda: small.seen, "the first tier is asked")
            await asyncio.sleep(LONG_AGO_S)  # so long the tier takes
            small.hold.set()
            assert (await _read(connection)).body == stream_of(small)
            assert large.seen == []

            small.hold.clear()
            connection = await _stream(it, deadline=LONG_AGO_S / 2)
            await until(lambda: large.seen, "the second tier is asked while the first has said nothing")
            assert (await _read(connection)).body == stream_of(large), "it is there at the deadline, the first is not"
            small.hold.set()
            assert (await it.ask(auto(stream=True, deadline=60))).headers["x-headrace-tier"] == "small"

    run(main())


def test_a_request_may_ask_for_less_quality_than_the_resource(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, {"target": 1}) as (it, small, _):
            small.logprob = -0.5  # a gain of 0.5: beyond the threshold for all of the gap, not for half of it
            assert (await it.ask(auto())).headers["x-headrace-tier"] == "small,large"
            assert (await it.ask(auto(min_quality=0.5))).headers["x-headrace-tier"] == "small"
            assert "min_quality" not in small.seen[-1].fields

    run(main())


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"min_quality": 2}, "min_quality"), ({"min_quality": 0.2}, "min_quality"), ({"deadline": "x"}, "deadline")],
)
def test_a_wish_out_of_bounds_is_refused_with_its_name(tmp_path: Path, fields: dict[str, Any], param: str) -> None:
    async def main() -> None:
        async with ladder(tmp_path) as (it, small, _):
            reply = await it.ask(auto(**fields))
            assert (reply.status, reply.json["error"]["param"]) == (400, param)
            assert small.seen == []

    run(main())


def test_a_tier_that_is_named_is_not_judged(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path) as (it, small, large):
            small.logprob = DOUBTFUL
            reply = await it.ask(auto().replace(b'"auto"', b'"chat"'))
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, "small")
            assert large.seen == []

    run(main())


def test_a_client_that_leaves_is_left_by_all_tiers(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, {"timeout": "100ms"}) as (it, small, large):
            small.hold.clear()
            large.hold.clear()
            connection = await _stream(it)
            await until(lambda: large.seen, "the large tier is asked")
            connection.leave()
            await until(lambda: small.seen[0].gone and large.seen[0].gone, "both are let go")
            assert await it.metric('headrace_router_inflight{model="chat"}') == 0
            assert await it.metric('headrace_router_inflight{model="llama"}') == 0

    run(main())


def test_a_worker_that_dies_after_the_commit_is_replaced_within_its_tier(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path) as (it, small, large):
            other = FakeWorker("s1")
            await other.start()
            it.workers.append(other)
            await it.publish(*it.workers)
            other.logprob = small.logprob
            small.die_after = other.die_after = COMMIT_TOKENS + 2
            reply = await it.ask(auto(stream=True))
            assert reply.body == stream_of(small)
            assert large.seen == []

    run(main())
