import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_router.cascade.prompt import LONGEST, NAMES, features, lists_options

CHOICE = "What is 5 + 7?\nA. 12\nB. thirteen\nC. 14\nD. 15\nAnswer:"


def named(text: str) -> dict[str, float]:
    return dict(zip(NAMES, features(text), strict=True))


def test_options_are_told_from_the_question() -> None:
    found = named(CHOICE)
    assert found["options"] == 1.0
    assert found["options_with_numbers"] == 0.75
    assert found["numbers"] == pytest.approx(math.log1p(2))
    assert found["question_length"] == pytest.approx(math.log1p(len("What is 5 + 7?")))
    assert lists_options(CHOICE)
    assert not lists_options("Plan A. is better than plan B. today")


@given(st.text())
def test_every_text_has_all_features_and_each_is_finite(text: str) -> None:
    found = features(text)
    assert len(found) == len(NAMES)
    assert all(map(math.isfinite, found))


def test_what_lies_beyond_the_bound_changes_nothing() -> None:
    assert features("word " * LONGEST) == features("word " * LONGEST + "1 + 1?")


@pytest.mark.parametrize("unit", ["\n", " ", "A. ", "(", "9,", "Answer:", "'"])
def test_no_text_takes_long(unit: str) -> None:
    began = time.process_time()
    features(unit * LONGEST)
    assert time.process_time() - began < 1.0
