import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from headrace_router.cascade.errors import ModelFileError
from headrace_router.cascade.file import DifficultyFile, Training, read_difficulty, write
from headrace_router.cascade.linear import Logistic, Scale, Steps
from headrace_router.cascade.predictor import Calibration, Expert, Opinion, Predictor
from headrace_router.cascade.prompt import NAMES

SIZE = 4


def opinion(size: int, slope: float) -> Opinion:
    scale = Scale((0.0,) * size, (1.0,) * size)
    weak, strong = Logistic((-slope,) * size, 0.0), Logistic((slope,) * size, 0.0)
    return Opinion(scale, weak, strong, centre=0.0, spread=1.0)


def expert(low: float, high: float) -> Expert:
    sighted = Calibration(Steps((-1.0, 1.0), (low, high)), Steps((0.0, 1.0), (0.0, high)))
    return Expert(Scale((1.6,), (1.0,)), opinion(len(NAMES), 0.0), opinion(SIZE, 1.0), sighted, sighted)


def model() -> DifficultyFile:
    return DifficultyFile(
        weak="small",
        strong="large",
        encoder="pypi://encoder",
        training=Training(10, ("a.csv",), 0),
        predictor=Predictor(choice=expert(0.0, 0.1), open=expert(0.0, 0.5)),
    )


def test_a_model_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    write(path, model())
    assert read_difficulty(path) == model()
    assert [file.name for file in tmp_path.iterdir()] == ["model.json"]


def test_embeddings_move_the_expected_gain_and_each_form_has_its_expert() -> None:
    embeddings = np.array([[1.0] * SIZE, [-1.0] * SIZE, [1.0] * SIZE])
    found = model().predictor.predict(["Why?", "Why?", "Which?\nA. this\nB. that"], embeddings)
    assert found.gain[0] > found.gain[1]
    assert found.gain[2] < 0.101 < found.gain[0]
    assert found.only_strong[0] > found.only_strong[1]


def test_without_an_encoder_there_is_still_a_prediction() -> None:
    found = model().predictor.predict(["Why?", "Why " * 200], None)
    assert found.gain[1] > found.gain[0]


def spoil(path: Path, change: dict[str, Any]) -> Path:
    content = json.loads(msgspec.json.encode(model()))
    path.write_text(json.dumps({**content, **change}))
    return path


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": "other"}, "is no model file of the cascade"),
        ({"version": 9}, "has version 9, this program reads 1"),
        ({"features": [*NAMES[:-1], "astrology"]}, "was trained on other features (astrology"),
        ({"predictor": {}}, "is no sound model file"),
        ({"kind": "gate"}, "is no sound model file"),
    ],
)
def test_an_unusable_file_is_a_sentence(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ModelFileError) as raised:
        read_difficulty(spoil(tmp_path / "model.json", change))
    assert expected in str(raised.value)


def test_vectors_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    wrong = msgspec.structs.replace(expert(0, 1), cheap=opinion(3, 1.0))
    path = tmp_path / "model.json"
    write(path, msgspec.structs.replace(model(), predictor=Predictor(choice=expert(0, 1), open=wrong)))
    with pytest.raises(ModelFileError, match=r"open.cheap has vectors of \[3, 3, 3, 3\] values, expected"):
        read_difficulty(path)


def test_no_file_and_no_json_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read: No such file"):
        read_difficulty(tmp_path / "absent.json")
    (tmp_path / "text.json").write_text("hello")
    with pytest.raises(ModelFileError, match="is no sound model file"):
        read_difficulty(tmp_path / "text.json")


def test_calibration_never_falls_and_has_few_knots() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=2000)
    outcomes = (generator.random(2000) < 1 / (1 + np.exp(-scores))).astype(float)
    steps = Steps.fit(scores, outcomes)
    assert len(steps.scores) <= 20
    assert list(steps.values) == sorted(steps.values)
    assert abs(float(steps.apply(np.array([0.0]))[0]) - 0.5) < 0.06
