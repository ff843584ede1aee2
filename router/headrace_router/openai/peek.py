"""Reading of a request what routing needs: model, stream, seed and the text that the prefix index hashes."""

import dataclasses
import random
import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from headrace_router.errors import ClientError

_random = random.SystemRandom()
_PARAM = re.compile(r"`\$\.([A-Za-z_]+)|field `([A-Za-z_]+)`")


class _Message(msgspec.Struct):
    role: str = ""
    content: msgspec.Raw = msgspec.Raw()


class _Common(msgspec.Struct):
    model: str | msgspec.UnsetType = msgspec.UNSET
    stream: bool | None = None
    seed: msgspec.Raw = msgspec.Raw()


class _Chat(_Common, kw_only=True):
    messages: list[_Message]
    tools: msgspec.Raw = msgspec.Raw()


class _Completion(_Common, kw_only=True):
    prompt: msgspec.Raw


_Request = TypeVar("_Request", _Chat, _Completion)

_decode_chat = msgspec.json.Decoder(_Chat).decode
_decode_completion = msgspec.json.Decoder(_Completion).decode


@dataclasses.dataclass(frozen=True, slots=True)
class Peek:
    """What the router knows of a request."""

    model: str | None
    stream: bool
    seeded: bool
    text: bytes
    """Rendering of the prompt whose beginnings equal those of other prompts exactly where the prompts' do."""


def peek_chat(body: bytes) -> Peek:
    """Read a chat request; raise ClientError where a field that the router needs is missing or of a wrong type."""
    request = _decode(_decode_chat, body)
    # Tools come first: chat templates render them in the system turn.
    parts = [bytes(request.tools)]
    for message in request.messages:
        parts += (b"\x1e", message.role.encode(), b"\x1f", bytes(message.content))
    return _peek(request, b"".join(parts))


def peek_completion(body: bytes) -> Peek:
    """Read a completion request; raise ClientError where a field that the router needs is missing or wrong."""
    request = _decode(_decode_completion, body)
    return _peek(request, bytes(request.prompt))


def splice_seed(body: bytes, seed: int | None = None) -> bytes:
    """Return the JSON object `body` with a seed as its last field, 63 random bits unless given.

    Last, because readers take the last of equal names: a `"seed": null` in front is overruled.
    """
    chosen = _random.getrandbits(63) if seed is None else seed
    return b'%b,"seed":%d}' % (body.rstrip(b" \t\r\n")[:-1], chosen)


def _peek(request: _Common, text: bytes) -> Peek:
    model = None if isinstance(request.model, msgspec.UnsetType) else request.model
    return Peek(model, request.stream is True, bytes(request.seed) not in (b"", b"null"), text)


def _decode(decoder: Callable[[bytes], _Request], body: bytes) -> _Request:
    try:
        return decoder(body)
    except msgspec.ValidationError as error:
        found = _PARAM.search(str(error))
        param = (found[1] or found[2]) if found else None
        raise ClientError(f"The request is not valid: {error}.", param=param) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ClientError(f"The request body is not valid JSON: {error}.", code="invalid_json") from error
    except RecursionError as error:
        raise ClientError("The request body is nested too deeply.", code="invalid_json") from error
