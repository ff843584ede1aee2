"""`headrace cascade` from files to figures; embeddings come from a server that speaks OpenAI's shape."""

import csv
import hashlib
import http.server
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the extra `cascade` is not installed")

from headrace_cli.main import main

TOPICS = {"law": 0.8, "trivia": 0.1, "physics": 0.6, "art": 0.2, "logic": 0.7, "sport": 0.15}
"""Of each subject, how often the weak model fails."""


class Encoder(http.server.BaseHTTPRequestHandler):
    """Vectors by the words of a text: texts that share words lie near each other."""

    calls = 0

    def do_POST(self) -> None:
        type(self).calls += 1
        texts = json.loads(self.rfile.read(int(self.headers["content-length"])))["input"]
        data = [{"index": place, "embedding": self.vector(text)} for place, text in enumerate(texts)]
        body = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @staticmethod
    def vector(text: str) -> list[float]:
        vector = [0.0] * 16
        for word in text.split():
            vector[hashlib.sha256(word.encode()).digest()[0] % 16] += 1.0
        return vector

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Encoder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1#words"
    server.shutdown()
    server.server_close()
    thread.join(10)


def prompts(path: Path, seed: int, rows: int = 600) -> Path:
    generator = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["subject", "prompt", "small", "large", "small_response"])
        for number in range(rows):
            topic = generator.choice(list(TOPICS))
            hard = generator.random()
            text = f"{topic} question {number} " + "and then " * int(20 * hard) + "?"
            small = generator.random() > TOPICS[topic] * (0.5 + hard / 2)
            writer.writerow([f"{topic} {number % 3}", text, small, generator.random() > 0.1, "…"])
    return path


@pytest.fixture
def model(tmp_path: Path, encoder: str, capsys: pytest.CaptureFixture[str]) -> Path:
    path = tmp_path / "model.json"
    data = prompts(tmp_path / "train.csv", 1)
    assert main(["cascade", "train", str(data), "--out", str(path), "--encoder", encoder]) == 0
    assert "on folds left out of the fit" in capsys.readouterr().out
    return path


def test_a_model_beats_prompt_length_on_prompts_it_has_not_seen(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = prompts(tmp_path / "other.csv", 2)
    assert main(["cascade", "evaluate", str(data), "--model", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 600
    assert found["apgr"] > max(0.55, found["length_apgr"])
    assert found["intervals"]["apgr"][0] < found["apgr"] < found["intervals"]["apgr"][1]
    assert list(found["calls_at"]) == ["0.5", "0.8", "0.9", "0.95"]
    for level in found["calls_at"]:
        assert found["random_calls_at"][level] == float(level)
        assert found["saving_at"][level] == pytest.approx(float(level) / found["calls_at"][level], rel=1e-2)
    assert found["auc"] > 0.55
    assert set(found["files"]) == {"other.csv"}
    assert found["files"]["other.csv"]["apgr"] == found["apgr"]


def test_figures_repeat_by_seed_and_embeddings_are_computed_once(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = prompts(tmp_path / "other.csv", 2, rows=200)
    command = ["cascade", "evaluate", str(data), "--model", str(model), "--json"]
    assert main(command) == 0
    calls = Encoder.calls
    assert main(command) == 0
    assert Encoder.calls == calls
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


def test_calibrate_writes_the_threshold_of_a_target(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = prompts(tmp_path / "other.csv", 3), tmp_path / "tuned.json"
    command = ["cascade", "calibrate", str(data), "--model", str(model), "--target", "0.85", "--out", str(out)]
    assert main(command) == 0
    assert "85% of the gap: the strong tier is asked where it is expected to gain" in capsys.readouterr().out
    targets = [threshold["target"] for threshold in json.loads(out.read_bytes())["thresholds"]]
    assert targets == [0.5, 0.8, 0.85, 0.9, 0.95]


def test_a_report_has_both_plots_and_a_page(tmp_path: Path, model: Path) -> None:
    data = prompts(tmp_path / "other.csv", 2, rows=200)
    assert main(["cascade", "report", str(data), "--model", str(model), "--out", str(tmp_path / "report")]) == 0
    for name in ("curve.png", "reliability.png"):
        assert (tmp_path / "report" / name).read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Cascade report" in page
    assert page.count("data:image/png;base64,") == 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text,a,b\nx,True,False\n", "one must be 'prompt'"),
        ("prompt,a\nx,True\n", "expected two, or name them"),
        ("prompt,a,b\nx,True,maybe\n", "columns of True and False in all files: a"),
        ("prompt,a,b\n", "no rows"),
        ("prompt,a,b\nx,True,False\ny,True,True\n", "always right"),
    ],
)
def test_data_that_cannot_be_learnt_from_is_a_sentence(
    tmp_path: Path, encoder: str, capsys: pytest.CaptureFixture[str], content: str, expected: str
) -> None:
    data = tmp_path / "data.csv"
    data.write_text(content)
    assert main(["cascade", "train", str(data), "--out", str(tmp_path / "m.json"), "--encoder", encoder]) == 2
    assert expected in capsys.readouterr().err


def test_a_model_of_other_data_is_a_sentence(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data.csv"
    data.write_text("prompt,x,y\nhello,True,False\n")
    assert main(["cascade", "evaluate", str(data), "--model", str(model)]) == 2
    assert "column 'small' holds None, expected True or False" in capsys.readouterr().err
