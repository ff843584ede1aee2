"""A short hash of plain values, equal on every machine and in every run."""

import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """Return the first 8 hex digits of the sha256 over the canonical JSON of `value`."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
