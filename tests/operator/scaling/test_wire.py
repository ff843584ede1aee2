"""The external scaler's messages."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_operator.scaling.wire import MetricsQuestion, Reference, activity, metric_spec, metric_value

TEXT = st.text(max_size=40)
REFERENCES = st.builds(Reference, TEXT, TEXT, st.dictionaries(TEXT, TEXT, max_size=4))


@given(REFERENCES, TEXT)
def test_a_question_comes_back_as_it_was_written(reference: Reference, metric: str) -> None:
    assert Reference.decode(reference.encode()) == reference
    question = MetricsQuestion(reference, metric)
    assert MetricsQuestion.decode(question.encode()) == question


@given(st.binary(max_size=60))
def test_what_is_no_message_is_an_error_and_nothing_worse(data: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(MetricsQuestion.decode(data), MetricsQuestion)


def test_answers_are_encoded_as_protobuf_says() -> None:
    # By hand from the encoding's specification: tag (number << 3 | type), length, value.
    assert activity(is_active=True) == b"\x08\x01"
    assert activity(is_active=False) == b""
    assert metric_spec("workers", 1) == (
        b"\x0a\x14" + b"\x0a\x07workers" + b"\x10\x01" + b"\x19\x00\x00\x00\x00\x00\x00\xf0\x3f"
    )
    assert (
        metric_value("w", 300) == b"\x0a\x0f" + b"\x0a\x01w" + b"\x10\xac\x02" + b"\x19\x00\x00\x00\x00\x00\xc0\x72\x40"
    )
    assert metric_value("w", 0) == b"\x0a\x03\x0a\x01w"


def test_fields_of_newer_versions_are_skipped() -> None:
    newer = b"\x28\x07" + b"\x35\x01\x02\x03\x04" + b"\x3a\x02hi" + b"\x41" + b"\x00" * 8
    assert Reference.decode(newer + Reference("a", "b").encode()) == Reference("a", "b")


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"\x0a\x05abc", "ends 2 bytes too early"), (b"\x0b", "wire type 3"), (b"\x80", "has no end")],
)
def test_an_error_says_what_is_wrong(data: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Reference.decode(data)
