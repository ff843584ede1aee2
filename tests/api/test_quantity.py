"""Quantities and durations in Kubernetes' spelling."""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_api.resources.errors import QuantityError
from headrace_api.resources.quantity import (
    AMOUNT_PATTERN,
    DURATION_PATTERN,
    QUANTITY_PATTERN,
    parse_amount,
    parse_duration,
    parse_quantity,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512Mi", 512 << 20),
        ("2G", 2_000_000_000),
        ("1.5Gi", 3 << 29),
        ("100", 100),
        ("0", 0),
        ("1Ki", 1024),
        ("1k", 1000),
    ],
)
def test_a_quantity_is_bytes(text: str, expected: int) -> None:
    assert parse_quantity(text) == expected


@pytest.mark.parametrize("text", ["", "Mi", "-1", "1 Mi", "1mi", "1KI", "1e3", "1K", "½"])
def test_a_misspelled_quantity_is_refused(text: str) -> None:
    with pytest.raises(QuantityError, match="is no quantity"):
        parse_quantity(text)


@pytest.mark.parametrize(("text", "expected"), [("500ms", 0.5), ("30s", 30.0), ("1m30s", 90.0), ("1.5h", 5400.0)])
def test_a_duration_is_seconds(text: str, expected: float) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "5sm", "5d"])
def test_a_misspelled_duration_is_refused(text: str) -> None:
    with pytest.raises(QuantityError, match="is no duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "expected"), [("500m", "0.5"), ("2", "2"), ("1.5Gi", str(3 << 29)), ("0", "0")])
def test_an_amount_may_be_in_thousandths(text: str, expected: str) -> None:
    assert parse_amount(text) == Decimal(expected)


@pytest.mark.parametrize("text", ["", "m", "-1", "1 m", "1mi", "1e3", "1n"])
def test_a_misspelled_amount_is_refused(text: str) -> None:
    with pytest.raises(QuantityError, match="is no amount"):
        parse_amount(text)


@given(st.from_regex(AMOUNT_PATTERN, fullmatch=True), st.from_regex(DURATION_PATTERN, fullmatch=True))
def test_amounts_and_durations_that_the_schema_accepts_are_read(amount: str, duration: str) -> None:
    assert parse_amount(amount) >= 0
    assert parse_duration(duration) >= 0


@given(st.from_regex(QUANTITY_PATTERN, fullmatch=True))
def test_the_schema_and_the_parser_accept_the_same(text: str) -> None:
    assert parse_quantity(text) >= 0


@given(st.text("0123456789.kMGTPi ", max_size=6))
def test_what_the_parser_accepts_the_schema_accepts(text: str) -> None:
    try:
        parse_quantity(text)
    except QuantityError:
        return
    assert re.fullmatch(QUANTITY_PATTERN, text)
