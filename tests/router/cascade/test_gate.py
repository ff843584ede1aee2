import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from headrace_api.frames import FrameHead, Token
from headrace_router.cascade.errors import CascadeError, ModelFileError
from headrace_router.cascade.evidence import NAMES, Evidence
from headrace_router.cascade.file import read_gate
from headrace_router.cascade.gate import Gate


def judge(weights: dict[str, float], bias: float = 0.0) -> dict[str, Any]:
    size = len(weights)
    return {
        "features": list(weights),
        "scale": {"centre": [0.0] * size, "spread": [1.0] * size},
        "logistic": {"weights": list(weights.values()), "bias": bias},
        "curve": {"scores": [-2.0, 0.0, 2.0], "values": [0.1, 0.4, 0.9]},
    }


def stage(sighted: dict[str, Any], blind: dict[str, Any], gains: dict[float, float]) -> dict[str, Any]:
    thresholds = [{"target": target, "gain": gain, "calls": 0.5, "rows": 100} for target, gain in gains.items()]
    return {"sighted": sighted, "blind": blind, "thresholds": thresholds}


def content() -> dict[str, Any]:
    """Return a gate as a file holds it: doubt in the mean of a whole answer, in the first token of a prefix."""
    return {
        "kind": "gate",
        "format": "headrace-cascade",
        "version": 1,
        "weak": "small",
        "strong": "large",
        "commit_tokens": 8,
        "training": {"rows": 100, "files": ["answers.jsonl"], "seed": 0},
        "prefix": stage(judge({"first_logprob": -1.0}), judge({"tokens": -1.0}), {0.5: 0.6, 0.9: 0.4}),
        "whole": stage(judge({"mean_logprob": -1.0}), judge({"tokens": 1.0}), {0.5: 0.5, 0.8: 0.2, 0.95: 0.1}),
    }


def written(folder: Path, **change: Any) -> Path:
    path = folder / "gate.json"
    path.write_text(json.dumps({**content(), **change}))
    return path


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate.load(written(tmp_path))


def evidence(*tokens: Token, finish: str | None = None) -> Evidence:
    found = Evidence(prompt_bytes=50)
    found.take(FrameHead(tokens=tokens, finish=finish))
    return found


SURE, DOUBTFUL = Token(1, -0.01, 6.0), Token(2, -2.0, 0.2)


def test_a_doubtful_answer_gains_more_by_the_next_tier_than_a_sure_one(gate: Gate) -> None:
    sure, doubtful = evidence(SURE, SURE, finish="stop"), evidence(DOUBTFUL, DOUBTFUL, finish="stop")
    assert gate.gain(sure) == pytest.approx(0.4, abs=0.01)
    assert gate.gain(doubtful) == pytest.approx(0.9, abs=0.01)


def test_a_prefix_has_its_own_model_until_the_answer_is_finished(gate: Gate) -> None:
    found = evidence(DOUBTFUL, SURE, SURE, SURE)
    before = gate.gain(found)
    found.take(FrameHead(finish="stop"))
    assert before == pytest.approx(0.9, abs=0.01)
    assert gate.gain(found) == pytest.approx(0.4 + 0.25 * 2.03 / 4, abs=0.01)
    assert gate.commit_tokens == 8


def test_without_probabilities_the_other_features_decide(gate: Gate) -> None:
    silent = Token(1, 0.0, 0.0)
    assert gate.gain(evidence(silent, finish="stop")) < gate.gain(evidence(*[silent] * 5, finish="stop"))
    assert gate.gain(evidence(silent)) > gate.gain(evidence(*[silent] * 5))


@pytest.mark.parametrize("name", NAMES)
def test_each_feature_can_move_the_gain(tmp_path: Path, name: str) -> None:
    """A model that reads one feature alone tells these two answers apart by it."""
    path = written(tmp_path, whole=stage(judge({name: 0.3}), judge({"tokens": 1.0}), {}))
    short = Evidence(prompt_bytes=5)
    short.take(FrameHead(tokens=(SURE, SURE), finish="stop"))
    long = Evidence(prompt_bytes=4000)
    long.take(FrameHead(tokens=(DOUBTFUL,) * 9, finish="length"))
    gate = Gate.load(path)
    assert gate.gain(short) != pytest.approx(gate.gain(long), abs=1e-3)


def test_beyond_the_curve_the_more_doubtful_answer_still_comes_first(gate: Gate) -> None:
    found = [gate.gain(evidence(Token(1, logprob, 1.0), finish="stop")) for logprob in (-2.5, -2.4, -2.3)]
    assert all(left > right for left, right in itertools.pairwise(found))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308])
@pytest.mark.parametrize("finish", [None, "stop", "content_filter"])
def test_odd_evidence_has_a_gain_too(gate: Gate, value: float, finish: str | None) -> None:
    for found in (evidence(finish=finish), evidence(Token(-1, value, value), finish=finish), Evidence(0)):
        assert 0 <= gate.gain(found) <= 1


def test_thresholds_are_interpolated_between_those_of_the_file(gate: Gate) -> None:
    assert gate.threshold(0.8) == pytest.approx(0.2)
    assert gate.threshold(0.65) == pytest.approx(0.35)
    assert gate.threshold(0.95) == pytest.approx(0.1)
    assert gate.threshold(0.7, prefix=True) == pytest.approx(0.5)


def test_an_answer_of_exactly_the_threshold_in_the_file_escalates(tmp_path: Path, gate: Gate) -> None:
    """A whole level of equal answers may lie on it."""
    found = evidence(DOUBTFUL, DOUBTFUL, finish="stop")
    exact = stage(judge({"mean_logprob": -1.0}), judge({}), {0.5: gate.gain(found)})
    chosen = Gate.load(written(tmp_path, whole=exact))
    assert chosen.gain(found) > chosen.threshold(0.5)
    assert chosen.gain(evidence(SURE, finish="stop")) < chosen.threshold(0.5)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_where_the_curve_is_at_its_bound_the_more_doubtful_answer_comes_first(tmp_path: Path, level: float) -> None:
    flat = {**judge({"mean_logprob": -1.0}), "curve": {"scores": [0.0], "values": [level]}}
    gate = Gate.load(written(tmp_path, whole=stage(flat, judge({}), {})))
    found = [gate.gain(evidence(one, finish="stop")) for one in (SURE, DOUBTFUL)]
    assert 0 <= found[0] < found[1] <= 1


@pytest.mark.parametrize("target", [0.4, 0.99, -1.0, math.nan])
def test_a_target_outside_the_file_is_a_sentence(gate: Gate, target: float) -> None:
    with pytest.raises(CascadeError, match=r"its thresholds \(whole\) are from 0.5 to 0.95: add one by"):
        gate.threshold(target)


def test_a_gate_without_thresholds_says_so(tmp_path: Path) -> None:
    path = written(tmp_path, whole=stage(judge({}), judge({}), {}))
    with pytest.raises(CascadeError, match="are none"):
        Gate.load(path).threshold(0.9)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kind": "difficulty"}, "is no sound model file"),
        ({"version": 2}, "has version 2, this program reads 1"),
        ({"commit_tokens": 0}, "commit_tokens is 0"),
        ({"whole": stage(judge({"vibes": 1.0}), judge({}), {})}, "whole.sighted reads the unknown features vibes"),
        ({"prefix": stage(judge({}), judge({"mean_margin": 1.0}), {})}, "prefix.blind reads the unknown features"),
        ({"whole": stage(judge({}), judge({}), {0.9: 0.1, 0.5: 0.4})}, "targets of whole.thresholds do not rise"),
    ],
)
def test_an_unusable_gate_is_a_sentence(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ModelFileError) as raised:
        Gate.load(written(tmp_path, **change))
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("part", "value", "expected"),
    [
        ("scale", {"centre": [0.0], "spread": [0.0]}, "has a spread that is not positive"),
        ("scale", {"centre": [], "spread": []}, r"has vectors of \[0, 1\] values for 1 features"),
        ("curve", {"scores": [], "values": []}, "has a curve of 0 scores and 0 values"),
        ("curve", {"scores": [0.0, 1.0], "values": [0.0, 1.5]}, "has a curve of values that are no chances"),
        ("curve", {"scores": [1.0, 0.0], "values": [0.0, 1.0]}, "has a curve whose scores do not rise"),
        ("logistic", {"weights": [1e999], "bias": 0.0}, "is no sound model file|not finite"),
    ],
)
def test_a_model_that_does_not_fit_together_is_refused(tmp_path: Path, part: str, value: Any, expected: str) -> None:
    wrong = {**judge({"mean_logprob": 1.0}), part: value}
    with pytest.raises(ModelFileError, match=expected):
        read_gate(written(tmp_path, whole=stage(wrong, judge({}), {})))
