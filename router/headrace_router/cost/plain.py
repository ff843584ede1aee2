"""The counts of an answer that is not in frames, read from its end (pure): other engines state them there."""

import json
from typing import Any

from headrace_api.frames import Usage

TAIL_BYTES = 16 * 1024
"""So much of the end is kept: `usage` stands last, or in the last event."""
_MARK = b'"usage":'
_decoder = json.JSONDecoder()


def read_usage(tail: bytes) -> Usage | None:
    """Return the last `usage` object in the end of an answer; None where it states none."""
    at = tail.rfind(_MARK)
    while at >= 0:
        found = _object(tail[at + len(_MARK) :])
        if found is not None:
            return _usage(found)
        at = tail.rfind(_MARK, 0, at)
    return None


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        value, _ = _decoder.raw_decode(text.decode("utf-8", "replace").lstrip())
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _usage(found: dict[str, Any]) -> Usage:
    details = found.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(_count(found.get("prompt_tokens")), _count(found.get("completion_tokens")), _count(cached))


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
