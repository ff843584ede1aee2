"""The question to an encoder, and the vector in its answer."""

import msgspec
import numpy as np

from headrace_router.cascade.linear import Floats
from headrace_router.server.http import Request

_PATH = b"/v1/embeddings"
_encode = msgspec.json.Encoder().encode


class _Row(msgspec.Struct):
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Row]


_decode = msgspec.json.Decoder(_Answer).decode


def embedding_of(text: str) -> Request:
    """Return the request for the embedding of a text, cut where it is too long; its model is left open."""
    body = _encode({"model": "", "input": text, "truncate_prompt_tokens": -1})
    return Request(b"POST", _PATH, {}, [], http10=False, keep_alive=True, body=body)


def read_vector(body: bytes) -> Floats | None:
    """Return the vector in an answer, (1, size) and of length 1; None where there is none."""
    try:
        values = np.array([_decode(body).data[0].embedding], dtype=np.float64)
    except (msgspec.MsgspecError, IndexError):
        return None
    length = float(np.linalg.norm(values))
    return values / length if np.isfinite(length) and length > 0 else None
