"""Quantities and durations, spelled as Kubernetes spells them."""

import re
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from headrace_api.resources.errors import QuantityError

_BYTES: Final = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate(("k", "M", "G", "T", "P"), start=1)},
    **{unit: 1024**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), start=1)},
}
_SECONDS: Final = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_MAX_LENGTH: Final = 24
"""Characters of a quantity: a bound, so that the API server can bound the cost of rules over it."""
_MAX_DURATION_LENGTH: Final = 16
"""Characters of a duration: with at most six digits in a row it stays below what the API server can count."""
_MAX_INTEGER: Final = (1 << 63) - 1
"""Largest whole number that the API server reads."""
_MAX_SHOWN: Final = 40
QUANTITY_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
AMOUNT_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
DURATION_PATTERN: Final = r"^([0-9]{1,6}(\.[0-9]{1,6})?(ms|s|m|h))+$"
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kMGTP]i?|Ki)?")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")


def parse_quantity(text: str) -> int:
    """Return the bytes in `text`, such as `512Mi` (1024-based) or `2G` (1000-based); parts of a byte are cut off."""
    match = _QUANTITY.fullmatch(text)
    if match is None or (unit := match[2] or "") not in _BYTES:
        raise QuantityError(f"{text!r} is no quantity; write a number with Ki, Mi, Gi, Ti, k, M, G or T, such as 512Mi")
    return int(Decimal(match[1]) * _BYTES[unit])


def parse_amount(text: str) -> Decimal:
    """Return how much `text` states of a resource, such as `500m` (of a processor), `4Gi` or `1`."""
    if re.fullmatch(AMOUNT_PATTERN, text) is None:
        raise QuantityError(f"{text!r} is no amount; write a number with m, Ki, Mi, Gi, k, M or G, such as 500m or 4Gi")
    number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", text).groups()  # type: ignore[union-attr]  # matched above
    return Decimal(number) / 1000 if unit == "m" else Decimal(number) * _BYTES[unit]


def parse_duration(text: str) -> float:
    """Return the seconds in `text`, such as `500ms`, `30s` or `1m30s`."""
    if re.fullmatch(DURATION_PATTERN, text) is None:
        raise QuantityError(f"{text!r} is no duration; write numbers with ms, s, m or h, such as 500ms or 1m30s")
    return float(sum(Decimal(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text)))


def _check_quantity(value: object) -> object:
    """Return a bare YAML number as text too: `memory: 1048576` is a quantity."""
    text = _text(value, "quantity", "512Mi")
    parse_quantity(text)
    return text


def _check_amount(value: object) -> object:
    text = _text(value, "amount", "500m or 4Gi")
    parse_amount(text)
    return text


def _check_duration(value: object) -> object:
    if not isinstance(value, str) or len(value) > _MAX_DURATION_LENGTH:
        raise QuantityError(f"{_cut(value)} is no duration; write numbers with ms, s, m or h, such as 500ms or 1m30s")
    parse_duration(value)
    return value


def _text(value: object, kind: str, example: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_INTEGER:
        return str(value)
    if isinstance(value, str) and len(value) <= _MAX_LENGTH:
        return value
    if isinstance(value, float):
        raise QuantityError(f"{value} is no {kind}; write a fraction as a text, such as '{value}'")
    raise QuantityError(f"{_cut(value)} is no {kind}; write a number with its unit, such as {example}")


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _number_or_text(pattern: str) -> dict[str, Any]:
    return {"pattern": pattern, "minimum": 0, "x-kubernetes-int-or-string": True}


Quantity = Annotated[
    str,
    Field(max_length=_MAX_LENGTH, json_schema_extra=_number_or_text(QUANTITY_PATTERN)),
    BeforeValidator(_check_quantity),
]
"""Bytes as a user writes them; the spelling is kept, `parse_quantity` gives the number."""

Amount = Annotated[
    str,
    Field(max_length=_MAX_LENGTH, json_schema_extra=_number_or_text(AMOUNT_PATTERN)),
    BeforeValidator(_check_amount),
]
"""How much of a resource of a node: bytes, processors (also thousandths, `500m`) or pieces."""

Duration = Annotated[
    str,
    Field(max_length=_MAX_DURATION_LENGTH, json_schema_extra={"pattern": DURATION_PATTERN}),
    BeforeValidator(_check_duration),
]
"""A span of time as a user writes it; the spelling is kept, `parse_duration` gives the seconds."""
