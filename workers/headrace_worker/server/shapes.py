"""The JSON of OpenAI answers, byte for byte: chat and text completions, whole and in server-sent events."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from headrace_api.frames import Token, Usage
from headrace_worker.server.transcript import Entry
from headrace_worker.text import Vocabulary

DONE: Final = b"data: [DONE]\n\n"
_LEAST_LOGPROB: Final = -9999.0
"""OpenAI's word for `impossible`; JSON knows no infinity."""
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Identity:
    """What all parts of one answer state about it."""

    request_id: str
    created: int
    """Unix seconds."""
    model: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Whole:
    """One finished answer."""

    index: int
    text: str
    entries: tuple[Entry, ...]
    finish: str


class Shape(Protocol):
    """How one kind of answer is written; methods that make events return whole `data:` lines."""

    def begin(self, index: int) -> bytes:
        """Return the events that open a choice."""

    def delta(self, index: int, text: str, entries: Sequence[Entry]) -> bytes:
        """Return the event that adds to a choice."""

    def end(self, index: int, finish: str) -> bytes:
        """Return the event that closes a choice."""

    def usage(self, usage: Usage) -> bytes:
        """Return the event with the counts, after all choices."""

    def body(self, choices: Sequence[Whole], usage: Usage) -> bytes:
        """Return the whole answer that is not streamed."""


class _Events:
    """Writes chunks around choices; what never changes within a request is encoded once."""

    def __init__(self, identity: Identity, prefix: str, kind: str, *, usage: bool) -> None:
        self._head = _head(identity, prefix, kind)
        self._tail = b'],"usage":null}\n\n' if usage else b"]}\n\n"

    def chunk(self, choice: dict[str, Any]) -> bytes:
        return b"data: " + self._head + _encode(choice) + self._tail

    def usage(self, usage: Usage) -> bytes:
        return b"data: " + self._head + b'],"usage":' + _encode(_usage(usage)) + b"}\n\n"


def _head(identity: Identity, prefix: str, kind: str) -> bytes:
    fields = {
        "id": f"{prefix}-{identity.request_id}",
        "object": kind,
        "created": identity.created,
        "model": identity.model,
        "system_fingerprint": identity.fingerprint,
    }
    return _encode(fields)[:-1] + b',"choices":['


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


class ChatShape:
    """`chat.completion` and its chunks."""

    def __init__(self, identity: Identity, vocabulary: Vocabulary, *, logprobs: bool, usage: bool) -> None:
        self._vocabulary = vocabulary
        self._logprobs = logprobs
        self._body = _head(identity, "chatcmpl", "chat.completion")
        self._events = _Events(identity, "chatcmpl", "chat.completion.chunk", usage=usage)

    def begin(self, index: int) -> bytes:
        """Return the chunk that names the role."""
        return self._chunk(index, {"role": "assistant", "content": "", "refusal": None}, None, None)

    def delta(self, index: int, text: str, entries: Sequence[Entry]) -> bytes:
        """Return a chunk with text and the log-probabilities of its tokens."""
        return self._chunk(index, {"content": text}, self._told(entries), None)

    def end(self, index: int, finish: str) -> bytes:
        """Return the chunk with the reason of the end."""
        return self._chunk(index, {}, None, finish)

    def usage(self, usage: Usage) -> bytes:
        """Return the chunk with the counts, which has no choices."""
        return self._events.usage(usage)

    def body(self, choices: Sequence[Whole], usage: Usage) -> bytes:
        """Return the whole `chat.completion`."""
        made = [
            {
                "index": choice.index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": self._told(choice.entries),
                "finish_reason": choice.finish,
            }
            for choice in choices
        ]
        return self._body + b",".join(map(_encode, made)) + b'],"usage":' + _encode(_usage(usage)) + b"}"

    def _chunk(self, index: int, delta: dict[str, Any], logprobs: Any, finish: str | None) -> bytes:
        return self._events.chunk({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish})

    def _told(self, entries: Sequence[Entry]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        return {"content": [self._entry(entry.token) for entry in entries], "refusal": None}

    def _entry(self, token: Token) -> dict[str, Any]:
        best = [self._token(token_id, logprob) for token_id, logprob in token.top]
        return {**self._token(token.id, token.logprob), "top_logprobs": best}

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        shown = spell(token_id, self._vocabulary)
        return {"token": shown, "logprob": bounded(logprob), "bytes": list(self._vocabulary.piece(token_id))}


class CompletionShape:
    """`text_completion`, whose chunks have the shape of the whole."""

    def __init__(
        self, identity: Identity, vocabulary: Vocabulary, *, logprobs: int | None, usage: bool, echoes: Sequence[str]
    ) -> None:
        self._vocabulary = vocabulary
        self._logprobs = logprobs
        self._echoes = echoes
        self._body = _head(identity, "cmpl", "text_completion")
        self._events = _Events(identity, "cmpl", "text_completion", usage=usage)

    def begin(self, index: int) -> bytes:
        """Return the chunk that repeats the prompt, when that was asked for."""
        echo = self._echoes[index]
        return self._events.chunk(self._choice(Whole(index, echo, (), ""))) if echo else b""

    def delta(self, index: int, text: str, entries: Sequence[Entry]) -> bytes:
        """Return a chunk with text and the log-probabilities of its tokens."""
        return self._events.chunk(self._choice(Whole(index, text, tuple(entries), "")))

    def end(self, index: int, finish: str) -> bytes:
        """Return the chunk with the reason of the end."""
        return self._events.chunk({"index": index, "text": "", "logprobs": None, "finish_reason": finish})

    def usage(self, usage: Usage) -> bytes:
        """Return the chunk with the counts, which has no choices."""
        return self._events.usage(usage)

    def body(self, choices: Sequence[Whole], usage: Usage) -> bytes:
        """Return the whole `text_completion`."""
        made = []
        for choice in choices:
            echoed = Whole(choice.index, self._echoes[choice.index] + choice.text, choice.entries, choice.finish)
            made.append(_encode(self._choice(echoed)))
        return self._body + b",".join(made) + b'],"usage":' + _encode(_usage(usage)) + b"}"

    def _choice(self, choice: Whole) -> dict[str, Any]:
        return {
            "index": choice.index,
            "text": choice.text,
            "logprobs": self._told(choice.entries),
            "finish_reason": choice.finish or None,
        }

    def _told(self, entries: Sequence[Entry]) -> dict[str, Any] | None:
        if self._logprobs is None:
            return None
        return {
            "tokens": [spell(entry.token.id, self._vocabulary) for entry in entries],
            "token_logprobs": [bounded(entry.token.logprob) for entry in entries],
            "top_logprobs": [self._best(entry.token) for entry in entries] if self._logprobs else None,
            "text_offset": [entry.offset for entry in entries],
        }

    def _best(self, token: Token) -> dict[str, float]:
        """Return the best tokens, and the chosen one when it is not among them."""
        best: dict[str, float] = {}
        for token_id, logprob in (*token.top, (token.id, token.logprob)):
            best.setdefault(spell(token_id, self._vocabulary), bounded(logprob))
        return best


def spell(token_id: int, vocabulary: Vocabulary) -> str:
    """Return a token as text; bytes that are no text alone, and control tokens, get a name."""
    piece = vocabulary.piece(token_id)
    if not piece:
        return f"token_id:{token_id}"
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def bounded(logprob: float) -> float:
    """Return a log-probability that JSON can hold."""
    return max(_LEAST_LOGPROB, logprob)
