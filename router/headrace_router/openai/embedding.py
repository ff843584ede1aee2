"""The question to an encoder, and the vectors in its answer."""

from collections.abc import Sequence

import msgspec
import numpy as np

from headrace_router.cascade.linear import Floats
from headrace_router.server.http import Request

_PATH = b"/v1/embeddings"
_encode = msgspec.json.Encoder().encode


class _Row(msgspec.Struct):
    embedding: list[float]
    index: int = 0


class _Answer(msgspec.Struct):
    data: list[_Row]


_decode = msgspec.json.Decoder(_Answer).decode


def embeddings_of(texts: Sequence[str]) -> Request:
    """Return the request for the embeddings of texts, cut where they are too long; its model is left open."""
    body = _encode({"model": "", "input": texts, "truncate_prompt_tokens": -1})
    return Request(b"POST", _PATH, {}, [], http10=False, keep_alive=True, body=body)


def read_vectors(body: bytes) -> Floats | None:
    """Return the vectors in an answer, (texts, size), each of length 1; None where there are none."""
    try:
        rows = sorted(_decode(body).data, key=lambda row: row.index)
        values = np.array([row.embedding for row in rows], dtype=np.float64)
    except (msgspec.MsgspecError, ValueError):
        return None
    if values.ndim != 2 or not values.size:
        return None
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return values / lengths if np.isfinite(lengths).all() and (lengths > 0).all() else None
