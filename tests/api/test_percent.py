"""Numbers of workers that may be shares."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_api.resources.percent import count, is_zero


@pytest.mark.parametrize(
    ("value", "of", "up", "down"),
    [
        (2, 10, 2, 2),
        (0, 10, 0, 0),
        ("25%", 10, 3, 2),
        ("25%", 4, 1, 1),
        ("0%", 10, 0, 0),
        ("100%", 3, 3, 3),
        ("1%", 1, 1, 0),
    ],
)
def test_a_share_is_rounded_as_asked(value: int | str, of: int, up: int, down: int) -> None:
    assert (count(value, of=of, round_up=True), count(value, of=of, round_up=False)) == (up, down)


@given(st.integers(0, 100), st.integers(0, 1024))
def test_rounding_up_adds_at_most_one_and_a_share_is_never_more_than_all(percent: int, of: int) -> None:
    up, down = (count(f"{percent}%", of=of, round_up=up) for up in (True, False))
    assert 0 <= down <= up <= min(down + 1, of)


@pytest.mark.parametrize(("value", "expected"), [(0, True), ("0%", True), (1, False), ("1%", False)])
def test_nothing_is_nothing_in_both_spellings(value: int | str, expected: bool) -> None:  # noqa: FBT001 (a parameter)
    assert is_zero(value) is expected
