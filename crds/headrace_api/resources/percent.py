"""Numbers of workers that may be written as a share of all."""

import re
from typing import Annotated, Any, Final

from pydantic import PlainValidator, WithJsonSchema

MAX_COUNT: Final = 1024
PERCENT_PATTERN: Final = r"^(100|[1-9]?[0-9])%$"


def count(value: int | str, *, of: int, round_up: bool) -> int:
    """Return how many of `of` workers `value` means, such as 2 or `25%`; a share is rounded up or down."""
    if isinstance(value, int):
        return value
    hundredths = int(value.removesuffix("%")) * of
    return -(-hundredths // 100) if round_up else hundredths // 100


def is_zero(value: int | str) -> bool:
    """Say whether `value` means none, however many workers there are."""
    return value in {0, "0%"}


def _check(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT:
        return value
    if isinstance(value, str) and re.fullmatch(PERCENT_PATTERN, value):
        return value
    raise ValueError(f"{value!r} is no number of workers; write a whole number such as 1, or a share such as 25%")


_SCHEMA: Final[dict[str, Any]] = {
    "pattern": PERCENT_PATTERN,
    "minimum": 0,
    "maximum": MAX_COUNT,
    "x-kubernetes-int-or-string": True,
}

IntOrPercent = Annotated[int | str, PlainValidator(_check), WithJsonSchema(_SCHEMA)]
"""A number of workers, or a share of them; `count` gives the number."""
