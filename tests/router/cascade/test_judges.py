"""Answers judged by each other, and by another tier."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.router.cascade.ladder import auto, ladder, spec
from tests.router.cost.shop import lines
from tests.router.rig import FakeWorker, Seen, run, until

from headrace_router.cascade.agreement import agree, majority
from headrace_router.openai.said import said
from headrace_router.server.inquiry import Finding
from headrace_router.server.judges import chance_of_yes

BEST = {"policy": "best-of-k", "samples": 3}
ASK = {"policy": "ask", "verifier": "large"}

# --- agreement -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "free", "exact"),
    [
        ("Paris.", "Paris.", True, True),
        ("Paris.", " Paris.\n", True, True),
        ('{"a": 1}', '{"a":1}', True, True),
        ("The capital is Paris.", "The capital of France is Paris.", True, False),
        ("Paris", "London", False, False),
        ("It is Paris.", "It is London.", False, False),
        ("The capital is Paris.", "The capital is London.", False, False),
        ("yes", "no", False, False),
        ("It is so.", "it is so", True, False),
        ("It is 12.", "It is 13.", False, False),
        ("It has 3 legs", "It has three legs", False, False),
        ("", "", True, True),
        ("", "word", False, False),
    ],
)
def test_answers_agree_by_their_words_and_numbers_or_in_every_character(
    one: str,
    other: str,
    free: bool,  # noqa: FBT001 - a table
    exact: bool,  # noqa: FBT001 - a table
) -> None:
    assert agree(one, other, exact=False) is free
    assert agree(one, other, exact=True) is exact
    assert agree(other, one, exact=False) is free


@pytest.mark.parametrize(
    ("one", "other", "cosine", "alike"),
    [
        ("He lives in Rome.", "Rome is his home.", 0.95, True),
        ("The capital of the whole country is Paris.", "The capital of the whole country is Rome.", 0.85, False),
        ("He has 3 cars.", "He owns 4 cars.", 0.99, False),
        ("You may take it.", "You must not take it.", 0.95, False),
        ("It isn't so.", "It is not so.", 0.95, True),
        ("the same", "the  same", 0.0, True),
    ],
)
def test_with_an_encoder_answers_agree_by_their_sense_numbers_and_negations(
    one: str,
    other: str,
    cosine: float,
    alike: bool,  # noqa: FBT001 - a table
) -> None:
    vectors = np.array([[1.0, 0.0], [cosine, math.sqrt(1 - cosine**2)]])
    assert majority([one, None, other], exact=False, vectors=vectors) == ((2 if alike else 1) / 3, 0)
    assert agree(one, other, exact=True) is (cosine == 0)


def test_the_majority_is_the_largest_group_and_failures_agree_with_none() -> None:
    assert majority(["a", "b", "b"], exact=True) == (2 / 3, 1)
    assert majority(["b", None, "b", None], exact=True) == (0.5, 0)
    assert majority([None, None], exact=True) == (0.0, 0)


@given(st.lists(st.one_of(st.none(), st.text("ab1 ", max_size=6)), min_size=1, max_size=8), st.booleans())
def test_a_majority_is_a_share_of_all_and_its_first_is_in_it(texts: list[str | None], exact: bool) -> None:  # noqa: FBT001 - drawn
    found = majority(texts, exact=exact)
    assert 0 <= found.share <= 1
    assert (found.share == 0) == all(text is None for text in texts)
    assert found.share == 0 or texts[found.first] is not None


# --- texts and replies ---------------------------------------------------------------------------------------


def test_the_text_of_an_answer_is_read_out_of_any_of_its_shapes() -> None:
    assert said(b'{"choices":[{"message":{"content":"hi"}}]}', stream=False) == "hi"
    assert said(b'{"choices":[{"text":"hi"},{"text":"ho"}]}', stream=False) == "hi"
    events = b"".join(b'data: {"choices":[{"index":%d,"delta":{"content":"%d"}}]}\n\n' % (n % 2, n) for n in range(4))
    assert said(events + b'data: {"choices":[]}\n\ndata: [DONE]\n\n', stream=True) == "02"
    for broken in (b"", b"[1]", b'{"choices":3}', b'{"choices":[{"message":{"content":null}}]}', b"\xff"):
        assert said(broken, stream=False) == ""


@pytest.mark.parametrize(
    ("text", "chance"), [("yes", 0.8), (" Yes.", 0.8), ("No", 0.2), ("**no**", 0.2), ("maybe", None), ("", None)]
)
def test_a_verifiers_reply_is_a_chance_of_yes(text: str, chance: float | None) -> None:
    reply = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
    assert chance_of_yes(Finding(reply, math.log(0.8))) == (None if chance is None else pytest.approx(chance))


# --- through the router --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("answers", "tier"), [(("12", "12", "13"), "small"), (("12", "13", "14"), "small,large")], ids=["agreed", "not"]
)
def test_of_several_samples_the_answer_of_most_is_shown(
    tmp_path: Path,
    answers: tuple[str, ...],
    tier: str,
    stream: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    async def main() -> None:
        async with ladder(tmp_path, BEST, priced=True) as (it, small, large):
            small.says = lambda _: answers[(len(small.seen) - 1) % 3]
            large.says = lambda _: "15"
            reply = await it.ask(auto("anne", stream=stream))
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, tier)
            assert said(reply.body, stream=stream) == ("12" if tier == "small" else "15")
            seeds = [seen.fields["seed"] for seen in small.seen]
            assert len(set(seeds)) == 3
            kinds = sorted((line["tier"], line["kind"]) for line in lines(tmp_path))
            tried = [("small", "tried")] * (2 if tier == "small" else 3)
            assert kinds == sorted([(tier.rsplit(",", maxsplit=1)[-1], "request"), *tried])

    run(main())


def _vectors(*rows: Sequence[float]) -> bytes:
    body = json.dumps({"data": [{"index": place, "embedding": row} for place, row in enumerate(rows)]}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize(
    ("reply", "tier"),
    [
        (_vectors((1, 0), (1, 0.1), (0, 1)), "small"),
        (_vectors((1, 0), (0, 1), (1, -1)), "small,large"),
        (_vectors((1, 0)), "small,large"),
        (b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}", "small,large"),
    ],
    ids=["alike", "apart", "too few", "an error"],
)
def test_an_encoder_is_asked_whether_free_answers_mean_the_same(tmp_path: Path, reply: bytes, tier: str) -> None:
    texts = ("He lives in Rome", "His home lies beside the Tiber", "Nowhere")

    async def main() -> None:
        async with ladder(tmp_path, BEST | {"encoder": "minilm"}) as (it, small, large):
            encoder = FakeWorker("e0", deployment="minilm")
            await encoder.start()
            it.workers.append(encoder)
            await it.publish(*it.workers)
            encoder.plain = reply
            small.says = lambda _: texts[(len(small.seen) - 1) % 3]
            large.says = lambda _: "Rome"
            answer = await it.ask(auto())
            assert (answer.status, answer.headers["x-headrace-tier"]) == (200, tier)
            (asked,) = encoder.seen
            assert sorted(asked.fields["input"]) == sorted(texts)
            small.says = lambda _: "Rome"
            assert (await it.ask(auto())).headers["x-headrace-tier"] == "small"
            assert len(encoder.seen) == 1, "equal letters need no encoder"

    run(main())


def test_each_tier_is_judged_by_a_verdict_of_its_own(tmp_path: Path) -> None:
    told = json.loads(spec(ASK))
    told["tiers"].insert(1, {"name": "middle", "deployment": "middle"})

    async def main() -> None:
        async with ladder(tmp_path, spec=json.dumps(told)) as (it, small, large):
            middle = FakeWorker("m0", deployment="middle")
            await middle.start()
            it.workers.append(middle)
            await it.publish(*it.workers)
            small.says, middle.says = lambda _: "small", lambda _: "middle"
            large.says = lambda seen: "yes" if "Answer: middle" in seen.body.decode() else "no"
            large.logprob = math.log(0.9)
            reply = await it.ask(auto(content="What is it?"))
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, "small,middle")
            assert said(reply.body, stream=False) == "middle"

    run(main())


def test_samples_that_fail_agree_with_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, BEST | {"agreement": 0.6}, max_attempts=1) as (it, small, large):
            large.says = lambda _: "15"
            small.refuse = (503, b"{}")
            reply = await it.ask(auto())
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, "small,large")

    run(main())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("reply", "tier"), [("yes", "small"), ("No.", "small,large"), ("well", "small")])
def test_a_verifier_is_asked_about_the_answer_and_paid_for(
    tmp_path: Path,
    reply: str,
    tier: str,
    stream: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    def large_says(seen: Seen) -> str:
        return reply if "Is the answer right?" in seen.body.decode() else "large"

    async def main() -> None:
        async with ladder(tmp_path, ASK, priced=True) as (it, small, large):
            small.says = lambda _: "small"
            large.says = large_says
            large.logprob = math.log(0.9)
            answer = await it.ask(auto("anne", stream=stream, content="What is it?"))
            assert (answer.status, answer.headers["x-headrace-tier"]) == (200, tier)
            assert said(answer.body, stream=stream) == tier.rsplit(",", maxsplit=1)[-1]
            asked = large.seen[0].fields
            assert asked["model"] == "llama"
            assert "Question: What is it?" in asked["messages"][0]["content"]
            assert "Answer: small" in asked["messages"][0]["content"]
            kinds = sorted((line["tier"], line["kind"]) for line in lines(tmp_path))
            if tier == "small":
                assert kinds == [("large", "tried"), ("small", "request")]
            else:
                assert kinds == [("large", "request"), ("large", "tried"), ("small", "tried")]

    run(main())


def test_a_verifier_that_does_not_reply_in_time_is_done_without(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, ASK | {"timeout": "2s"}, priced=True) as (it, small, large):
            small.says = lambda _: "small"
            large.hold.clear()
            reply = await it.ask(auto("anne"))
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, "small")
            await until(lambda: large.seen[0].gone, "the verifier is let go")

    run(main())


@pytest.mark.parametrize(("away", "tier"), [("accept", "small"), ("escalate", "small,large")])
def test_without_the_verifiers_reply_the_resource_says_what_happens(tmp_path: Path, away: str, tier: str) -> None:
    async def main() -> None:
        async with ladder(tmp_path, ASK | {"whenGateAway": away}, max_attempts=1) as (it, small, large):
            small.says = lambda _: "small"
            large.says = lambda _: "large"
            large.refuse = (429, b"{}")
            reply = await it.ask(auto())
            assert reply.status == 200
            assert reply.headers["x-headrace-tier"] == tier
            assert said(reply.body, stream=False) == "small"
            assert ("x-headrace-degraded" in reply.headers) is (away == "escalate")

    run(main())


# --- audits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("text", "agreed"), [("It is Paris.", "true"), ("It is London.", "false")])
def test_an_audited_answer_is_put_beside_the_next_tiers_at_nobodys_cost(
    tmp_path: Path,
    text: str,
    agreed: str,
    stream: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    async def main() -> None:
        async with ladder(tmp_path, {"audit": 1}, priced=True) as (it, small, large):
            small.says = lambda _: "It is Paris."
            large.says = lambda _: text
            reply = await it.ask(auto("anne", stream=stream))
            assert (reply.status, reply.headers["x-headrace-tier"]) == (200, "small")
            assert said(reply.body, stream=stream) == "It is Paris."
            await until(lambda: len(lines(tmp_path)) == 2, "the audit's line")
            assert large.seen[0].fields["stream"] is False
            assert await it.metric(f'headrace_cascade_audits_total{{tier="small",agreed="{agreed}"}}') == 1
            billed = {line["key"]: (line["tier"], line["kind"]) for line in lines(tmp_path)}
            assert billed == {"anne": ("small", "request"), "audit": ("large", "tried")}

    run(main())


def test_an_answer_of_the_last_tier_is_not_audited_nor_is_anything_unless_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with ladder(tmp_path, {"audit": 1}) as (it, small, large):
            small.logprob = -3.0
            await it.ask(auto())
            assert (len(small.seen), len(large.seen)) == (1, 1)
        async with ladder(tmp_path) as (it, small, large):
            await it.ask(auto())
            assert (len(small.seen), len(large.seen)) == (1, 0)

    run(main())
