"""When an answer is shown: the pure rules, and what requests may wish of them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.router.cascade.ladder import COMMIT_TOKENS, DOUBTFUL, SURE, gate_file

from headrace_api.frames import FrameHead, Token
from headrace_api.resources.cascade import Cascade
from headrace_router.cascade.evidence import Evidence
from headrace_router.cascade.gate import Gate
from headrace_router.cascade.policy import Rules, Verdict, rules
from headrace_router.choose.tier import Tiers
from headrace_router.errors import ClientError
from headrace_router.openai.wishes import Wishes, take_wishes

GATE: dict[str, Any] = {"gate": {"file": "gate.json"}}


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate.load(gate_file(tmp_path))


def evidence(logprob: float, tokens: int, finish: str | None = None) -> Evidence:
    found = Evidence(prompt_bytes=10)
    found.take(FrameHead(tokens=(Token(1, logprob, 0.5),) * tokens, finish=finish))
    return found


def cascade(**fields: Any) -> Cascade:
    return Cascade.model_validate(GATE | fields)


def judged(found: Rules, of: Evidence, waited_s: float = 0.0, *, complete: bool = False) -> Verdict:
    return found.judge(of, waited_s=waited_s, complete=complete)


def test_a_stream_is_judged_by_its_first_tokens_when_there_are_enough_of_them(gate: Gate) -> None:
    found = rules(cascade(), gate)
    assert judged(found, evidence(SURE, COMMIT_TOKENS - 1)) is Verdict.WAIT
    assert judged(found, evidence(SURE, COMMIT_TOKENS)) is Verdict.COMMIT
    assert judged(found, evidence(DOUBTFUL, COMMIT_TOKENS)) is Verdict.ESCALATE


def test_a_slow_stream_is_judged_by_fewer_tokens_after_a_while_but_never_by_none(gate: Gate) -> None:
    found = rules(cascade(commit={"after": "500ms"}), gate)
    assert judged(found, evidence(SURE, 1), waited_s=0.4) is Verdict.WAIT
    assert judged(found, evidence(SURE, 1), waited_s=0.5) is Verdict.COMMIT
    assert judged(found, evidence(SURE, 0), waited_s=9.0) is Verdict.WAIT


def test_a_whole_answer_is_judged_however_short_it_is(gate: Gate) -> None:
    found = rules(cascade(commit={"tokens": 100}), gate)
    assert judged(found, evidence(SURE, 1, "stop"), complete=True) is Verdict.COMMIT
    assert judged(found, evidence(DOUBTFUL, 1, "stop"), complete=True) is Verdict.ESCALATE
    assert judged(found, evidence(SURE, 0), complete=True) is Verdict.COMMIT, "of an engine that tells no tokens"


def test_what_was_shown_is_doubted_by_the_whole_of_it(gate: Gate) -> None:
    found = rules(cascade(), gate)
    assert found.doubts(evidence(DOUBTFUL, 9, "stop"))
    assert not found.doubts(evidence(SURE, 9, "stop"))
    assert not found.doubts(evidence(DOUBTFUL, 9)), "it has not ended"
    assert not Rules(None, accept=True).doubts(evidence(DOUBTFUL, 9, "stop"))


@pytest.mark.parametrize(("away", "verdict"), [("accept", Verdict.COMMIT), ("escalate", Verdict.ESCALATE)])
def test_without_its_gate_a_cascade_does_what_the_resource_says(away: str, verdict: Verdict) -> None:
    assert judged(rules(cascade(whenGateAway=away), None), evidence(SURE, 1)) is verdict


def test_a_policy_that_only_predicts_judges_no_answer(gate: Gate) -> None:
    found = rules(cascade(policy="predict", predictor={"file": "p.json"}), gate)
    assert judged(found, evidence(DOUBTFUL, 1)) is Verdict.COMMIT


@given(low=st.floats(0.5, 1.0), high=st.floats(0.5, 1.0), logprob=st.floats(-5.0, 0.0))
def test_whoever_asks_for_more_quality_never_gets_more_cheap_answers(
    tmp_path_factory: pytest.TempPathFactory, low: float, high: float, logprob: float
) -> None:
    gate = Gate.load(gate_file(tmp_path_factory.mktemp("gate")))
    low, high = sorted((low, high))
    of = evidence(logprob, 9, "stop")
    if judged(rules(cascade(), gate, low), of, complete=True) is Verdict.ESCALATE:
        assert judged(rules(cascade(), gate, high), of, complete=True) is Verdict.ESCALATE


# --- wishes --------------------------------------------------------------------------------------------------


def test_wishes_are_taken_out_of_the_body_which_otherwise_stays() -> None:
    body = b'{"model":"auto","max_cost":0.5,"messages":[{"content":"a \\"deadline\\" of 3"}],"deadline":2}'
    wishes, left = take_wishes({}, body)
    assert wishes == Wishes(max_cost=0.5, deadline=2.0)
    assert msgspec.json.decode(left) == {"model": "auto", "messages": [{"content": 'a "deadline" of 3'}]}


def test_a_body_without_wishes_is_the_same_bytes() -> None:
    body = b'{ "messages": "talk about max_cost, \\"min_quality\\" and such" }'
    assert take_wishes({}, body) == (Wishes(), body)


def test_headers_say_the_same_and_the_body_comes_before_them() -> None:
    headers = {b"x-headrace-max-cost": b"1", b"x-headrace-min-quality": b"0.9", b"x-headrace-deadline": b"3"}
    assert take_wishes(headers, b"{}")[0] == Wishes(1.0, 0.9, 3.0)
    assert take_wishes(headers, b'{"max_cost": 2, "deadline": null}')[0] == Wishes(2.0, 0.9, None)


@pytest.mark.parametrize(
    "body",
    [
        b'{"max_cost":0}',
        b'{"max_cost":-1}',
        b'{"max_cost":[]}',
        b'{"min_quality":1.01}',
        b'{"deadline":"1"}',
        b'{"deadline":1e9}',
    ],
)
def test_a_wish_that_cannot_be_is_refused(body: bytes) -> None:
    with pytest.raises(ClientError, match="write a number above 0"):
        take_wishes({}, body)
    with pytest.raises(ClientError, match="max_cost is much"):
        take_wishes({b"x-headrace-max-cost": b"much"}, b"{}")


# --- tiers ---------------------------------------------------------------------------------------------------

TIERS = Tiers([("small", "a"), ("middle", "b"), ("large", "c")])


@pytest.mark.parametrize(
    ("up", "passed", "asked"),
    [
        ("abc", (), ("small", "middle", "large")),
        ("a", (), ("small", "middle", "large")),
        ("bc", ("small",), ("middle", "large")),
        ("c", ("small", "middle"), ("large",)),
        ("", (), ("small", "middle", "large")),
    ],
)
def test_sleeping_tiers_are_passed_over_in_front_and_kept_behind(
    up: str, passed: tuple[str, ...], asked: tuple[str, ...]
) -> None:
    found = TIERS.ladder(up.__contains__)
    assert (found[0], tuple(name for name, _ in found[1])) == (passed, asked)


def test_only_auto_leaves_the_choice_open_and_only_among_several() -> None:
    assert TIERS.free("auto")
    assert not TIERS.free("small")
    assert not TIERS.free(None)
    assert not Tiers([("small", "a")]).free("auto")
    assert not Tiers([("auto", "a"), ("large", "b")]).free("auto"), "a name keeps its meaning"
