"""The API server's own shapes around objects: lists in pages, and the lines of a watch."""

from typing import Any, TypeVar

import msgspec

from headrace_operator.kubernetes.errors import GoneError, UnavailableError
from headrace_operator.kubernetes.kinds import Kind
from headrace_operator.kubernetes.objects import Item

T = TypeVar("T", bound=Item)


class _ListMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    token: str = msgspec.field(default="", name="continue")


class _Change(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _ErrorObject(msgspec.Struct):
    code: int = 0
    message: str = ""


_change_decoder = msgspec.json.Decoder(_Change)
_item_decoder = msgspec.json.Decoder(Item)
_error_decoder = msgspec.json.Decoder(_ErrorObject)


def change(line: bytes, kind: Kind[T], decoder: msgspec.json.Decoder[T]) -> tuple[str, T]:
    """Return what a line of a watch tells: its type and the object.

    Args:
        line: one JSON object.
        kind: of what is watched.
        decoder: of its objects.

    Raises:
        GoneError: the version to begin from is forgotten.
        UnavailableError: the server ends the watch for another reason.
    """
    told = _change_decoder.decode(line)
    if told.type == "ERROR":
        failure = _error_decoder.decode(told.object)
        text = f"the watch of {kind.plural} ended: {failure.message}"
        raise GoneError(text) if failure.code == 410 else UnavailableError(text)
    if told.type == "BOOKMARK":
        # It has a version and is no object: what is required of one is null.
        return told.type, kind.item(metadata=_item_decoder.decode(told.object).metadata)
    return told.type, decoder.decode(told.object)


class Lines:
    """The lines in a stream, of any length, out of pieces of any length."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, piece: bytes) -> list[bytes]:
        """Return the lines that end in the next piece."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return lines


def page_type(item: type[T]) -> Any:
    """Return the type of a page of such objects."""
    return msgspec.defstruct("Page", [("metadata", _ListMetadata), ("items", list[item] | None, None)])  # type: ignore[valid-type]
