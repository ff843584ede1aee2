"""`headrace cascade` on recorded answers: a gate from JSONL files to figures."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="the extra `cascade` is not installed")

from headrace_api.frames import FrameHead, Token
from headrace_cli.cascade import answers as recorded
from headrace_cli.main import main
from headrace_router.cascade.evidence import Evidence
from headrace_router.cascade.gate import Gate


def line(generator: random.Random, number: int) -> dict[str, Any]:
    """Return an answer whose wrong ones are doubtful from some token on; the strong tier knows nearly all."""
    right = generator.random() < 0.5
    tokens, lost_from = [], 99 if right else generator.randint(0, 15)
    for place in range(generator.randint(1, 24)):
        doubt = generator.random() * (1.6 if place >= lost_from else 0.4)
        tokens.append([generator.randrange(1000), round(-doubt, 4), round(max(0.01, 3 - 2 * doubt), 4)])
    small = {"tokens": tokens, "finish": "stop" if generator.random() < 0.9 else "length", "right": right}
    large = {"right": generator.random() < 0.9}
    prompt = "what? " * generator.randint(1, 30)
    return {"prompt": f"{number} {prompt}", "group": f"kind {number % 3}", "tiers": {"small": small, "large": large}}


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def answers(path: Path, seed: int, rows: int = 500) -> Path:
    generator = random.Random(seed)
    return write(path, [line(generator, number) for number in range(rows)])


@pytest.fixture
def gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    path, data = tmp_path / "gate.json", answers(tmp_path / "train.jsonl", 1)
    assert main(["cascade", "train", str(data), "--out", str(path), "--commit-tokens", "8"]) == 0
    told = capsys.readouterr().out
    assert "on folds left out of the fit" in told
    assert "prefixes: 500 prompts; right: weak" in told
    return path


def test_a_gate_beats_prompt_length_and_whole_answers_tell_more_than_prefixes(
    tmp_path: Path, gate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = answers(tmp_path / "other.jsonl", 2)
    assert main(["cascade", "evaluate", str(data), "--model", str(gate), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 500
    assert found["apgr"] > max(0.65, found["length_apgr"])
    assert found["auc"] > found["prefix"]["auc"] > 0.6
    assert found["intervals"]["apgr"][0] < found["apgr"] < found["intervals"]["apgr"][1]
    quality = found["quality"]
    assert quality["strong"] - quality["weak"] == pytest.approx(quality["gap"], abs=2e-4)
    assert found["intervals"]["quality"]["gap"][0] > 0.3
    assert set(found["files"]) == {"other.jsonl"}


def test_the_router_judges_as_training_did(tmp_path: Path, gate: Path) -> None:
    """A threshold of the file sends as many of its own rows on as it says."""
    whole = json.loads(gate.read_bytes())["whole"]
    loaded = Gate.load(gate)
    assert loaded.commit_tokens == 8
    assert [one["target"] for one in whole["thresholds"]][0:13:12] == [0.01, 1.0]
    sure, doubtful = Evidence(40), Evidence(40)
    sure.take(FrameHead(tokens=(Token(1, -0.1, 2.8),) * 9, finish="stop"))
    doubtful.take(FrameHead(tokens=(Token(1, -1.2, 0.6),) * 9, finish="stop"))
    threshold = loaded.threshold(0.8)
    assert loaded.gain(sure) < threshold < loaded.gain(doubtful)
    rows = recorded.read([tmp_path / "train.jsonl"]).rows
    share = sum(loaded.gain(row.evidence()) > threshold for row in rows) / len(rows)
    assert share == pytest.approx(next(one for one in whole["thresholds"] if one["target"] == 0.8)["calls"], abs=0.05)


def test_prefixes_are_judged_by_their_own_model(gate: Path) -> None:
    doubts = [Token(1, -1.5, 0.1)] * 8
    prefix, whole = Evidence(40), Evidence(40)
    prefix.take(FrameHead(tokens=tuple(doubts)))
    whole.take(FrameHead(tokens=tuple(doubts), finish="stop"))
    loaded = Gate.load(gate)
    assert loaded.gain(prefix) != loaded.gain(whole)
    assert loaded.gain(prefix) > 0.5


def test_the_prompts_size_matters_only_where_there_are_no_probabilities(gate: Path) -> None:
    def gain(prompt_bytes: int, token: Token) -> float:
        evidence = Evidence(prompt_bytes)
        evidence.take(FrameHead(tokens=(token,) * 6, finish="stop"))
        return Gate.load(gate).gain(evidence)

    seen, unseen = Token(1, -0.8, 1.0), Token(1, 0.0, 0.0)
    assert gain(20, seen) == gain(5000, seen)
    assert gain(20, unseen) != gain(5000, unseen)


def test_calibrate_writes_thresholds_for_whole_answers_and_prefixes(
    tmp_path: Path, gate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = answers(tmp_path / "other.jsonl", 3), tmp_path / "tuned.json"
    command = ["cascade", "calibrate", str(data), "--model", str(gate), "--target", "0.85", "--out", str(out)]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "whole: 85% of the gap: the strong tier is asked where" in told
    assert "prefix: 85% of the gap" in told
    tuned = json.loads(out.read_bytes())
    for stage in ("whole", "prefix"):
        assert 0.85 in [threshold["target"] for threshold in tuned[stage]["thresholds"]]
        assert Gate.load(out).threshold(0.85, prefix=stage == "prefix") > 0


def test_a_report_shows_whole_answers_and_prefixes(tmp_path: Path, gate: Path) -> None:
    data = answers(tmp_path / "other.jsonl", 2, rows=200)
    assert main(["cascade", "report", str(data), "--model", str(gate), "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "<h2>prefixes</h2>" in page


def test_answers_without_probabilities_train_a_gate_that_falls_back(tmp_path: Path) -> None:
    """Its sighted model then has nothing to learn from probabilities, and the blind one judges by length."""
    generator = random.Random(5)
    lines = []
    for number in range(300):
        one = line(generator, number)
        small = one["tiers"]["small"]
        count = 3 if small["right"] else 12
        small["tokens"] = [[token, 0.0, 0.0] for token in range(count)]
        lines.append(one)
    out = tmp_path / "gate.json"
    assert main(["cascade", "train", "--gate", str(write(tmp_path / "a.data", lines)), "--out", str(out)]) == 0
    short, long = Evidence(40), Evidence(40)
    short.take(FrameHead(tokens=tuple(Token(n, 0.0, 0.0) for n in range(3)), finish="stop"))
    long.take(FrameHead(tokens=tuple(Token(n, 0.0, 0.0) for n in range(12)), finish="stop"))
    gate = Gate.load(out)
    assert gate.gain(short) < 0.2
    assert gate.gain(long) > 0.6


def test_a_chats_prompt_has_the_size_that_the_router_sees(tmp_path: Path) -> None:
    one = line(random.Random(1), 1)
    chat = {**one, "prompt": [{"role": "user", "content": 'say "hi"'}]}
    rows = recorded.read([write(tmp_path / "a.jsonl", [{**one, "prompt": 'say "hi"'}, chat])]).rows
    assert rows[0].prompt_bytes == len(r'"say \"hi\""')
    assert rows[1].prompt_bytes == len(b"\x1euser\x1f" + rb'"say \"hi\""')


def test_tiers_can_be_named(tmp_path: Path) -> None:
    lines = [line(random.Random(seed), seed) for seed in range(20)]
    for one in lines:
        one["tiers"]["other"] = {"right": False}
    data = write(tmp_path / "a.jsonl", lines)
    found = recorded.read([data], weak="small", strong="large")
    assert (found.weak, found.strong) == ("small", "large")
    assert found.files == ["a.jsonl"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "no rows; expected recorded answers"),
        ("hello\n", ":1 is no recorded answer"),
        ('{"prompt": "x", "tiers": {"a": {"right": true}}}\n', "tiers on every line: a; expected two, or name them"),
        ('{"prompt": "x", "tiers": {"a": {"right": true}, "b": {"right": 1}}}\n', "Expected `bool`"),
        ('{"prompt": "x", "tiers": {"a": {"right": true}, "b": {"right": true}}}\n', ":1 has no tokens of 'a'"),
        (
            '{"prompt": [{"role": 5}], "tiers": {"a": {"right": true, "tokens": []}, "b": {"right": true}}}\n',
            "a.jsonl:1: ",
        ),
    ],
)
def test_data_that_is_no_recorded_answer_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, expected: str
) -> None:
    data = tmp_path / "a.jsonl"
    data.write_text(content)
    assert main(["cascade", "train", str(data), "--out", str(tmp_path / "gate.json")]) == 2
    assert expected in capsys.readouterr().err


def test_too_little_to_learn_from_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = answers(tmp_path / "few.jsonl", 1, rows=50)
    assert main(["cascade", "train", str(few), "--out", str(tmp_path / "gate.json")]) == 2
    assert "50 rows are too few to learn from" in capsys.readouterr().err
    lines = [line(random.Random(seed), seed) for seed in range(150)]
    for one in lines:
        one["tiers"]["large"]["right"] = one["tiers"]["small"]["right"]
    same = write(tmp_path / "same.jsonl", lines)
    assert main(["cascade", "train", str(same), "--out", str(tmp_path / "gate.json")]) == 2
    assert "0 of 150 rows say that only" in capsys.readouterr().err
