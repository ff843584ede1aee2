"""The text in an answer, out of the bytes meant for the client."""

import contextlib
from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode
_DATA = b"data: "
_DONE = b"[DONE]"


def said(payload: bytes, *, stream: bool) -> str:
    """Return what the first choice says; what cannot be read says nothing.

    Args:
        payload: a whole JSON body, or the events of a stream.
        stream: which of the two.
    """
    pieces = [line[len(_DATA) :] for line in payload.split(b"\n") if line.startswith(_DATA)] if stream else [payload]
    return "".join(_text(piece) for piece in pieces if piece != _DONE)


def _text(document: bytes) -> str:
    with contextlib.suppress(msgspec.MsgspecError, UnicodeError, LookupError, TypeError, AttributeError):
        choice: dict[str, Any] = _decode(document)["choices"][0]
        if choice.get("index", 0) == 0:
            part = choice.get("delta") or choice.get("message")
            return (choice.get("text") if part is None else part.get("content")) or ""
    return ""
