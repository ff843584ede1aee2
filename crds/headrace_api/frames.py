"""Frames: how a decode worker answers the router.

A frame is a small header for the router (token ids, log-probability features, counts) and the bytes meant for the
client, which the router forwards untouched. On the wire: two little-endian unsigned 32-bit sizes (header, payload),
the header as msgpack, the payload. A replay hands the headers of all frames that were forwarded to another worker,
which rebuilds the state of the answer from them and goes on where the last forwarded byte ended.
"""

import struct
from collections.abc import Iterator

import msgspec

_SIZES = struct.Struct("<II")
MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Bound on one frame's header and payload, each; a larger size is a framing error, not an allocation."""


class FrameError(ValueError):
    """The bytes are no frames: a size out of bounds or a header that does not decode."""


class Token(msgspec.Struct, array_like=True, frozen=True):
    """One generated token and what the cascade's gate reads of it."""

    id: int
    logprob: float
    """Natural log-probability under the model's unmodified distribution (before temperature and penalties)."""
    margin: float
    """Log-probability of the best token minus that of the second best; 0 where it was not computed."""
    top: tuple[tuple[int, float], ...] = ()
    """The `top_logprobs` best (id, logprob), best first; empty where the request asks for none."""


class Usage(msgspec.Struct, array_like=True, frozen=True):
    """Counts at the end of a request, over all its choices."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    """Prompt tokens that were in some worker's prefix cache and so were not computed for this request."""


class FrameHead(msgspec.Struct, array_like=True, frozen=True):
    """The router's part of a frame.

    Frames of several choices interleave; each names its choice. `finish` closes a choice; `final` closes the request
    (its payload is the end of the body: for a non-streamed request, the whole body).
    """

    choice: int = 0
    tokens: tuple[Token, ...] = ()
    finish: str | None = None
    final: bool = False
    usage: Usage | None = None
    prefill: str | None = None
    """On the first frame: the worker that prefilled, as in the header `x-headrace-prefill`."""
    cached_tokens: int = 0
    """With a choice's first token: prompt tokens that were not computed for it. A replay states the same `usage`."""
    prompt_tokens: int = 0
    """With the first token of a prompt's first choice: how long the prompt is."""
    prefill_s: float = 0.0
    """GPU-seconds since the choice's previous frame that went into its prompt, here and at the prefill worker: its
    share of the steps that computed it. Workers that do not measure it leave 0."""
    decode_s: float = 0.0
    """The same for its generated tokens."""


class Resume(msgspec.Struct, array_like=True, frozen=True):
    """A replay: the request's own body, and the header of every frame whose payload was forwarded, in order."""

    body: bytes
    heads: tuple[bytes, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(FrameHead).decode


def encode_frame(head: FrameHead, payload: bytes = b"") -> bytes:
    """Return the frame as bytes on the wire."""
    encoded = _encode(head)
    return _SIZES.pack(len(encoded), len(payload)) + encoded + payload


def decode_head(encoded: bytes) -> FrameHead:
    """Return the header in `encoded`; raise FrameError where it is none."""
    try:
        return _decode_head(encoded)
    except msgspec.MsgspecError as error:
        raise FrameError(f"frame header of {len(encoded)} bytes does not decode: {error}") from error


class FrameReader:
    """Cuts a byte stream, fed in any pieces, into (encoded header, payload) pairs."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield each frame completed by `data`; raise FrameError on a size above `MAX_FRAME_BYTES`."""
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= _SIZES.size:
            head_size, payload_size = _SIZES.unpack_from(self._buffer, at)
            if head_size > MAX_FRAME_BYTES or payload_size > MAX_FRAME_BYTES:
                raise FrameError(f"frame sizes {head_size} and {payload_size} exceed {MAX_FRAME_BYTES} bytes")
            start = at + _SIZES.size
            end = start + head_size + payload_size
            if len(self._buffer) < end:
                break
            head = bytes(self._buffer[start : start + head_size])
            payload = bytes(self._buffer[start + head_size : end])
            at = end
            yield head, payload
        del self._buffer[:at]

    @property
    def pending(self) -> int:
        """Bytes of an unfinished frame; not zero at the end of a body means it was cut off."""
        return len(self._buffer)
