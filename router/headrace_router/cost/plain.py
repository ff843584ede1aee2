"""Answers that are not in frames: what they say of themselves, read as they pass (pure).

Events of a stream count as a token each, and words of a whole answer, until it states its `usage`. So an answer that
ends early has a count too, and a gate has something to look at.
"""

import json
import re
import zlib
from collections.abc import Iterator
from math import nan
from typing import Any, Final

import msgspec

from headrace_api.frames import FrameHead, Token, Usage
from headrace_router.cost.bill import Footer

TAIL_BYTES: Final = 16 * 1024
"""So much of the end of an answer is kept that is too large to be held: `usage` stands last in most of them."""
MOST_HELD_BYTES: Final = 16 * 1024 * 1024
"""A whole answer, or one event, beyond this passes unread."""
_MARK = b'"usage":'
_END = re.compile(rb"\r?\n\r?\n")
_WORD = re.compile(r"\w+|[^\w\s]")
_EMPTY = (b"", b"null", b'""', b"[]", b"{}")
_decoder = json.JSONDecoder()
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Text(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw()
    reasoning_content: msgspec.Raw = msgspec.Raw()
    refusal: msgspec.Raw = msgspec.Raw()
    tool_calls: msgspec.Raw = msgspec.Raw()

    def said(self) -> bytes:
        return next((text for part in self._parts() if (text := bytes(part)) not in _EMPTY), b"")

    def _parts(self) -> tuple[msgspec.Raw, ...]:
        return self.content, self.reasoning_content, self.refusal, self.tool_calls


class _Choice(msgspec.Struct):
    index: int = 0
    finish_reason: str | None = None
    text: msgspec.Raw = msgspec.Raw()
    delta: _Text | None = None
    message: _Text | None = None

    def said(self) -> bytes:
        """Return the JSON of what it adds to the answer; empty where it adds nothing."""
        told = self.delta or self.message
        text = bytes(self.text) if told is None else told.said()
        return b"" if text in _EMPTY else text


class _Body(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None


_body = msgspec.json.Decoder(_Body).decode


Heard = tuple[FrameHead, bytes]
"""What an answer says of one choice, as a frame would, and the bytes in which it does; once for those of several."""


class Reading:
    """One answer, fed in any pieces.

    Args:
        events: whether it is a stream of events.
        quiet: whether the client has not asked for the event that states the usage: it is left out.
    """

    __slots__ = ("_events", "_holds", "_quiet", "_rest", "_tail", "usage")

    def __init__(self, *, events: bool, quiet: bool = False) -> None:
        self._events = events
        self._quiet = quiet
        self._holds = True
        """Whether what has come is kept until more is known of it."""
        self._rest = bytearray()
        self._tail = b""
        self.usage: Usage | None = None
        """As the answer states it."""

    def feed(self, data: bytes) -> tuple[bytes, list[Heard]]:
        """Return the bytes that may go on to the client, and what they say."""
        if not self._holds:
            self._tail = (self._tail + data)[-TAIL_BYTES:]
            return data, []
        self._rest += data
        passed, heads = self._cut() if self._events else (b"", [])
        if len(self._rest) > MOST_HELD_BYTES:
            self._holds = False
            passed += bytes(self._rest)
            self._tail = bytes(self._rest[-TAIL_BYTES:])
            self._rest.clear()
        return passed, heads

    def end(self) -> tuple[bytes, list[Heard]]:
        """Return what was kept, which is all of an answer that is whole, and what it says."""
        rest = bytes(self._rest)
        self._rest.clear()
        if not self._holds:
            self.usage = read_usage(self._tail) or self.usage
            return rest, []
        body = None if self._events else _read(rest)
        if body is None:
            return rest, []
        if body.usage is not None:
            self.usage = _usage(body.usage)
        return rest, _heard(rest, [_words(choice) for choice in body.choices or ()])

    def _cut(self) -> tuple[bytes, list[Heard]]:
        """Take the events that are complete; from the one that states the usage on they wait for the bill."""
        passed, heads, at = bytearray(), list[Heard](), 0
        for event in _events(self._rest):
            body = _read(_data(event))
            stated = body is not None and body.usage is not None
            if body is not None:
                heads += _heard(event, _heads(body))
                self.usage = _usage(body.usage) if body.usage is not None else self.usage
            if stated and body is not None and not body.choices:
                if not self._quiet:
                    break
            else:
                passed += event
            at += len(event)
        del self._rest[:at]
        return bytes(passed), heads


def stamped(rest: bytes, footer: Footer, *, events: bool) -> bytes:
    """Return the end of an answer with its bill inside of its usage; as it is where it states none."""
    if footer.bill is None and not footer.degraded:
        return rest
    if not events:
        return _stamp(rest, footer) or rest
    pieces = []
    done = 0
    for event in _events(rest):
        done += len(event)
        told = _stamp(_data(event), footer)
        pieces.append(event if told is None else b"data: %b\n\n" % told)
    return b"".join(pieces) + rest[done:]


def read_usage(tail: bytes) -> Usage | None:
    """Return the last `usage` object in the end of an answer; None where it states none."""
    at = tail.rfind(_MARK)
    while at >= 0:
        found = _object(tail[at + len(_MARK) :])
        if found is not None:
            return _usage(found)
        at = tail.rfind(_MARK, 0, at)
    return None


def _events(data: bytes | bytearray) -> Iterator[bytes]:
    """Yield each event that is complete, with the empty line behind it."""
    at = 0
    for found in _END.finditer(bytes(data)):
        yield bytes(data[at : found.end()])
        at = found.end()


def _data(event: bytes) -> bytes:
    """Return what an event says."""
    return b"".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))


def _read(text: bytes) -> _Body | None:
    """Return the JSON of an answer or an event, as far as it concerns us; None where it is something else."""
    try:
        return _body(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _heard(said: bytes, heads: list[FrameHead]) -> list[Heard]:
    return [(head, b"" if place else said) for place, head in enumerate(heads)]


def _heads(body: _Body) -> list[FrameHead]:
    found = []
    for choice in body.choices or ():
        text = choice.said()
        if text or choice.finish_reason is not None:
            tokens = (_token(text),) if text else ()
            found.append(FrameHead(choice=choice.index, tokens=tokens, finish=choice.finish_reason))
    return found


def _words(choice: _Choice) -> FrameHead:
    said = choice.said()
    text = _decode(said) if said else ""
    words = _WORD.findall(text if isinstance(text, str) else said.decode())
    tokens = tuple(_token(word.encode("utf-8", "replace")) for word in words)
    return FrameHead(choice=choice.index, tokens=tokens, finish=choice.finish_reason)


def _token(text: bytes) -> Token:
    """Return a piece of text as a token: equal ones are equal, and nobody knows how likely it was."""
    return Token(zlib.crc32(text), nan, nan)


def _stamp(text: bytes, footer: Footer) -> bytes | None:
    """Return the JSON of an answer or an event with the bill; None where it states no usage."""
    try:
        fields = _fields(text)
        usage = _fields(bytes(fields["usage"]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError):
        return None
    if footer.bill is not None:
        usage["cost"] = msgspec.Raw(footer.bill.json())
    fields["usage"] = msgspec.Raw(_encode(usage))
    if footer.degraded:
        fields["degraded"] = msgspec.Raw(b"true")
    return _encode(fields)


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
