"""What refusals have in common: values shown short, the nearest known name, fields that are known and not served."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from headrace_worker.errors import RequestError

_SHOWN_CHARACTERS: Final = 80


def clipped(text: str) -> str:
    """Return the text, or its beginning when it is long."""
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def shown(value: object) -> str:
    """Return how a value that was found is named."""
    return clipped(repr(value))


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a half sentence that proposes the known name most like `name`, or all of them."""
    close = difflib.get_close_matches(clipped(name), known, n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(known))}."


def refuse_unserved(struct: msgspec.Struct, neutral: Mapping[str, Sequence[object]], prefix: str = "") -> None:
    """Raise RequestError where a field that is not served asks for something; `neutral` are values that do not."""
    for field, harmless in neutral.items():
        value: Any = getattr(struct, field, None)
        if value is not None and not any(value == other for other in harmless):
            name = prefix + field
            raise RequestError(f"{name} = {shown(value)} is not supported yet; leave it out.", param=name)
