"""Reading of a request what routing needs: model, stream, seed and the text that the prefix index hashes."""

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import msgspec

from headrace_router.errors import ClientError

_PARAM = re.compile(r"`\$\.([A-Za-z_]+)|field `([A-Za-z_]+)`")


_NOTHING = msgspec.Raw()
_EMPTY = (b"", b"null", b"[]")


class _Message(msgspec.Struct):
    role: str = ""
    content: msgspec.Raw = _NOTHING


class Peek(msgspec.Struct, kw_only=True):
    """What the router reads of a request."""

    model: str | None = None
    stream: bool | None = None
    seed: msgspec.Raw = _NOTHING

    @property
    def seeded(self) -> bool:
        """Whether the request states a seed."""
        return bytes(self.seed) not in (b"", b"null")

    def text(self) -> bytes:
        """Return a rendering of the prompt that begins as another one's exactly as far as the prompts do."""
        raise NotImplementedError

    def question(self) -> str:
        """Return what the user asks, for a judgement of its difficulty; empty where that is no text."""
        return ""


class Sizes(msgspec.Struct):
    """What a request says about its answer; read only where somebody counts the cost, or chooses among tiers."""

    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None

    tools: msgspec.Raw = _NOTHING
    response_format: msgspec.Raw = _NOTHING

    @property
    def indivisible(self) -> bool:
        """Whether half of the answer is of no use to anybody: it calls tools, or keeps to a schema."""
        return bytes(self.tools) not in _EMPTY or bytes(self.response_format) not in _EMPTY

    @property
    def limit(self) -> int | None:
        """Most tokens of one choice; None where the request does not say."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class _Chat(Peek, kw_only=True):
    messages: list[_Message]
    tools: msgspec.Raw = _NOTHING

    def text(self) -> bytes:
        # Tools come first: chat templates render them in the system turn.
        parts = [bytes(self.tools)]
        for message in self.messages:
            parts += (b"\x1e", message.role.encode(), b"\x1f", bytes(message.content))
        return b"".join(parts)

    def question(self) -> str:
        content = next((bytes(one.content) for one in reversed(self.messages) if one.role == "user"), b"")
        return _plain(content)


class _Completion(Peek, kw_only=True):
    prompt: msgspec.Raw

    def text(self) -> bytes:
        return bytes(self.prompt)

    def question(self) -> str:
        return _plain(bytes(self.prompt))


class _Embedding(Peek, kw_only=True):
    input: msgspec.Raw

    @property
    def seeded(self) -> bool:
        # Nothing is drawn, and the field is not one of this request's.
        return True

    def text(self) -> bytes:
        return bytes(self.input)


_Request = TypeVar("_Request", _Chat, _Completion, _Embedding, Sizes)

_decode_chat = msgspec.json.Decoder(_Chat).decode
_decode_embedding = msgspec.json.Decoder(_Embedding).decode
_decode_sizes = msgspec.json.Decoder(Sizes).decode
_decode_completion = msgspec.json.Decoder(_Completion).decode


def peek_chat(body: bytes) -> Peek:
    """Read a chat request; raise ClientError where a field that the router needs is missing or of a wrong type."""
    return _decode(_decode_chat, body)


def peek_completion(body: bytes) -> Peek:
    """Read a completion request; raise ClientError where a field that the router needs is missing or wrong."""
    return _decode(_decode_completion, body)


def peek_embedding(body: bytes) -> Peek:
    """Read an embedding request; raise ClientError where a field that the router needs is missing or wrong."""
    return _decode(_decode_embedding, body)


def peek_sizes(body: bytes) -> Sizes:
    """Read how long the answer may be; raise ClientError where a field of that is of a wrong type."""
    return _decode(_decode_sizes, body)


def splice(body: bytes, *, seed: int | None = None, model: str | None = None) -> bytes:
    """Return the JSON object `body` with a seed, a model or both as its last fields; as it is without either.

    Last, because readers take the last of equal names: a `"seed": null` in front is overruled.
    """
    if seed is None and model is None:
        return body
    named = b"" if model is None else b',"model":%b' % msgspec.json.encode(model)
    seeded = b"" if seed is None else b',"seed":%d' % seed
    return b"%b%b%b}" % (body.rstrip(b" \t\r\n")[:-1], named, seeded)


def _plain(content: bytes) -> str:
    """Return the text in the JSON of a message's content, or of a prompt."""
    if not content:
        return ""
    found = msgspec.json.decode(content)
    if isinstance(found, list):
        return "\n".join(str(part["text"]) for part in found if isinstance(part, dict) and "text" in part)
    return found if isinstance(found, str) else ""


def unstreamed(body: bytes) -> bytes:
    """Return the JSON object `body` with the wish for a whole answer as its last fields."""
    return b'%b,"stream":false,"stream_options":null}' % body.rstrip(b" \t\r\n")[:-1]


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


PEEKS: Final[Mapping[bytes, Callable[[bytes], Peek]]] = {
    b"/v1/chat/completions": peek_chat,
    b"/v1/completions": peek_completion,
    b"/v1/embeddings": peek_embedding,
}
"""How a request is read, by its path."""
