"""What a request may ask of the cascade: a bound on its cost, a quality to keep, a deadline; and what it is for."""

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from headrace_api.names import HEADER_DEADLINE, HEADER_MAX_COST, HEADER_MIN_QUALITY, HEADER_TASK
from headrace_router.errors import ClientError

_HEADERS: Final = {
    "max_cost": HEADER_MAX_COST.encode(),
    "min_quality": HEADER_MIN_QUALITY.encode(),
    "deadline": HEADER_DEADLINE.encode(),
}
_TASK: Final = "task"
_TASK_HEADER: Final = HEADER_TASK.encode()
_FIELDS: Final = (*_HEADERS, _TASK)
_MOST: Final = {"max_cost": 1e9, "min_quality": 1.0, "deadline": 86_400.0}
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_number = msgspec.json.Decoder(float | None).decode
_text = msgspec.json.Decoder(str | None).decode
_encode = msgspec.json.Encoder().encode


class Wishes(msgspec.Struct, frozen=True):
    """What one request asks for; None where it does not."""

    max_cost: float | None = None
    """In the router's currency."""
    min_quality: float | None = None
    """Share of the quality gap between the cheapest and the best tier."""
    deadline: float | None = None
    """Seconds."""
    task: str | None = None
    """What it is for."""


def take_wishes(headers: Mapping[bytes, bytes], body: bytes) -> tuple[Wishes, bytes]:
    """Return what a request wishes, and its body without that: workers do not know these fields.

    Args:
        headers: of the request, by lower-case name; the body's fields come before them.
        body: a JSON object.

    Raises:
        ClientError: a wish is no number, or out of bounds.
    """
    found = {name: _read(name, headers[header]) for name, header in _HEADERS.items() if header in headers}
    task = headers[_TASK_HEADER].decode("utf-8", "replace") if _TASK_HEADER in headers else None
    # Inside of a string the quotes would be escaped, so this looks at names alone.
    if any(b'"%b"' % name.encode() in body for name in _FIELDS):
        fields = _decode(body)
        found |= {name: _read(name, bytes(fields.pop(name))) for name in _HEADERS if name in fields}
        if _TASK in fields:
            task = _read_task(bytes(fields.pop(_TASK)))
        body = _encode(fields)
    return Wishes(**found, task=task), body


def _read_task(text: bytes) -> str | None:
    try:
        name: str | None = _text(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        sentence = "task is no text; write its name, or leave it out."
        raise ClientError(sentence, param=_TASK, code="invalid_wish") from error
    return name


def _read(name: str, text: bytes) -> float | None:
    try:
        value: float | None = _number(text)
    except (msgspec.MsgspecError, UnicodeError):
        value = math.nan
    if value is not None and not 0 < value <= _MOST[name]:
        said = text[:40].decode("utf-8", "replace")
        most = f"{_MOST[name]:g}"
        sentence = f"{name} is {said}; write a number above 0, at most {most}, or leave it out."
        raise ClientError(sentence, param=name, code="invalid_wish")
    return value
