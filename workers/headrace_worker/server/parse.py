"""Bytes of a request become a typed body, or a sentence that names field, value, bound and the nearest known name."""

import re
from typing import Any, TypeVar

import msgspec

from headrace_worker.errors import RequestError
from headrace_worker.server.fields import Message, StreamOptions
from headrace_worker.server.refusal import clipped, nearest, shown

AnyBody = TypeVar("AnyBody", bound=msgspec.Struct)

_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<name>[^`]*)`$")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def parse(kind: type[AnyBody], data: bytes) -> AnyBody:
    """Return `data` as a body of this kind; raise RequestError (400) where it is none."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise _explain(kind, data, str(error)) from None
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise RequestError(f"The body is not valid JSON: {error}. Send one JSON object in UTF-8.") from None


def _explain(kind: type[msgspec.Struct], data: bytes, text: str) -> RequestError:
    match = _AT.match(text)
    what, path = (match["what"], match["path"] or "") if match else (text, "")
    unknown = _UNKNOWN.search(what)
    if unknown is not None:
        known = [field.encode_name for field in msgspec.structs.fields(_struct_at(kind, path))]
        name = _shown_path(path, unknown["name"])
        return RequestError(f"{name!r} is not a known field{nearest(unknown['name'], known)}", param=name)
    missing = _MISSING.search(what)
    if missing is not None:
        name = _shown_path(path, missing["name"])
        return RequestError(f"The field {name!r} is missing; it is required.", param=name)
    if not path:
        return RequestError(f"The body is wrong: {what[:1].lower()}{what[1:]}. Send one JSON object.")
    return RequestError(f"{path} is wrong{_found(data, path)}: {what[:1].lower()}{what[1:]}.", param=path)


def _struct_at(kind: type[msgspec.Struct], path: str) -> type[msgspec.Struct]:
    if path.startswith("messages"):
        return Message
    return StreamOptions if path.startswith("stream_options") else kind


def _shown_path(path: str, name: str) -> str:
    return f"{path}.{clipped(name)}" if path else clipped(name)


def _found(data: bytes, path: str) -> str:
    """Return `" (found 3)"` when the path leads to a plain value."""
    value: Any = msgspec.json.decode(data)
    for key, index in _STEP.findall(path):
        try:
            value = value[key] if key else value[int(index)]
        except (LookupError, TypeError):
            return ""
    if isinstance(value, dict | list):
        return ""
    return f" (found {shown(value)})"
