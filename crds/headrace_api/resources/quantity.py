"""Quantities of memory and durations, spelled as Kubernetes spells them."""

import re
from decimal import Decimal
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

from headrace_api.resources.errors import QuantityError

_BYTES: Final = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate(("k", "M", "G", "T", "P"), start=1)},
    **{unit: 1024**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), start=1)},
}
_SECONDS: Final = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
QUANTITY_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
DURATION_PATTERN: Final = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kMGTP]i?|Ki)?")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")


def parse_quantity(text: str) -> int:
    """Return the bytes in `text`, such as `512Mi` (1024-based) or `2G` (1000-based); parts of a byte are cut off."""
    match = _QUANTITY.fullmatch(text)
    if match is None or (unit := match[2] or "") not in _BYTES:
        raise QuantityError(f"{text!r} is no quantity; write a number with Ki, Mi, Gi, Ti, k, M, G or T, such as 512Mi")
    return int(Decimal(match[1]) * _BYTES[unit])


def parse_duration(text: str) -> float:
    """Return the seconds in `text`, such as `500ms`, `30s` or `1m30s`."""
    if re.fullmatch(DURATION_PATTERN, text) is None:
        raise QuantityError(f"{text!r} is no duration; write numbers with ms, s, m or h, such as 500ms or 1m30s")
    return float(sum(Decimal(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text)))


def _spell(value: object) -> object:
    """Return a bare YAML number as text: `memory: 1048576` is a quantity too."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _check(text: str) -> str:
    parse_quantity(text)
    return text


Quantity = Annotated[
    str,
    BeforeValidator(_spell),
    AfterValidator(_check),
    Field(json_schema_extra={"pattern": QUANTITY_PATTERN, "x-kubernetes-int-or-string": True}),
]
"""Bytes as a user writes them; the spelling is kept, `parse_quantity` gives the number."""
