"""`POST /v1/embeddings`: texts or ids to vectors, as numbers or as base64 of little-endian float32."""

import asyncio
import base64
import itertools
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from headrace_api.names import HEADER_REQUEST_ID, REFUSED_DRAINING
from headrace_worker.errors import RequestError
from headrace_worker.messages import Cancel, Embed, Embedded, Failed, ToCore
from headrace_worker.server.answer import read_body
from headrace_worker.server.parse import parse
from headrace_worker.server.refusal import shown
from headrace_worker.server.streams import STATUS, ClientGoneError
from headrace_worker.text.wordpieces import EncoderVocabulary, cut

MOST_INPUTS: Final = 2048
"""As OpenAI's bound on one request."""
MOST_ENCODED_S: Final = 600.0
"""Bound on the wait for the vectors of one request."""
INLINE_BYTES: Final = 16 * 1024
"""Larger bodies are tokenized in a thread: they would hold up other requests for milliseconds."""


class EmbeddingBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The fields of an embedding request."""

    model: str
    input: str | list[str | int | list[int]]
    """A text, its ids, or a list of either."""
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    """Keep so many numbers of each vector, which is scaled to length 1 again."""
    truncate_prompt_tokens: Annotated[int, Meta(ge=-1)] | None = None
    """Cut longer texts to so many tokens; -1: to what the model takes. Without it a longer text is refused."""
    user: str | None = None


class Embeddings:
    """The requests that the core encodes now."""

    def __init__(self, send: Callable[[ToCore], None]) -> None:
        self._send = send
        self._waiting: dict[str, asyncio.Future[tuple[bytes, ...]]] = {}
        self._numbers = itertools.count()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._waiting)

    async def encode(self, texts: Sequence[Sequence[int]]) -> tuple[bytes, ...]:
        """Return the vectors of texts; raise RequestError where the core fails, or takes too long."""
        key = f"embed.{next(self._numbers)}"
        future = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        self._idle.clear()
        self._send(Embed(key, tuple(tuple(ids) for ids in texts)))
        try:
            async with asyncio.timeout(MOST_ENCODED_S):
                vectors: tuple[bytes, ...] = await future
                return vectors
        except TimeoutError:
            raise RequestError(f"No vectors came within {MOST_ENCODED_S:.0f} s; send less.", status=503) from None
        finally:
            del self._waiting[key]
            if not (future.done() and not future.cancelled() and future.exception() is None):
                self._send(Cancel(key))
            if not self._waiting:
                self._idle.set()

    def take(self, message: Embedded) -> None:
        """Give vectors to who waits for them."""
        future = self._waiting.get(message.request)
        if future is not None and not future.done():
            future.set_result(message.vectors)

    def fail(self, message: Failed) -> None:
        """End the request that the core gave up."""
        future = self._waiting.get(message.request)
        if future is not None and not future.done():
            future.set_exception(RequestError(message.message, status=STATUS.get(message.kind, 500)))

    def fail_all(self) -> None:
        """End every request: the core is gone."""
        for future in self._waiting.values():
            if not future.done():
                text = "The engine of this worker has ended; try again."
                future.set_exception(RequestError(text, status=503, code=REFUSED_DRAINING))

    async def wait_idle(self) -> None:
        """Return once no request runs."""
        await self._idle.wait()


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """The facts of a loaded encoder."""

    name: str
    vocabulary: EncoderVocabulary
    max_model_len: int


async def serve(request: Request, model: EmbeddingModel, embeddings: Embeddings) -> Response:
    """Answer one request; raise RequestError where it cannot be served as asked, ClientGoneError when nobody waits."""
    data = await read_body(request.receive)
    if len(data) > INLINE_BYTES:
        body, texts = await asyncio.to_thread(check, data, model)
    else:
        body, texts = check(data, model)
    vectors = await _unless_gone(request.receive, embeddings.encode(texts))
    answer = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": place, "embedding": _told(vector, body)}
            for place, vector in enumerate(vectors)
        ],
        "model": model.name,
        "usage": {"prompt_tokens": sum(map(len, texts)), "total_tokens": sum(map(len, texts))},
    }
    headers = {}
    if HEADER_REQUEST_ID in request.headers:
        headers[HEADER_REQUEST_ID] = request.headers[HEADER_REQUEST_ID]
    return Response(msgspec.json.encode(answer), headers=headers, media_type="application/json")


def check(data: bytes, model: EmbeddingModel) -> tuple[EmbeddingBody, list[list[int]]]:
    """Return the body and the ids of its texts; raise RequestError where it cannot be served as asked."""
    body = parse(EmbeddingBody, data)
    if body.model != model.name:
        text = f"The model {shown(body.model)} does not exist here; this worker serves {model.name!r}."
        raise RequestError(text, status=404, param="model", code="model_not_found")
    inputs = _inputs(body)
    if not 1 <= len(inputs) <= MOST_INPUTS:
        raise RequestError(f"input holds {len(inputs)} texts; 1 to {MOST_INPUTS} are taken.", param="input")
    spelled = iter(model.vocabulary.ids([one for one in inputs if isinstance(one, str)]))
    texts = [next(spelled) if isinstance(one, str) else _known(one, model) for one in inputs]
    wanted = body.truncate_prompt_tokens
    bound = model.max_model_len
    if wanted is not None:
        kept = bound if wanted == -1 else min(max(wanted, 2), bound)
        return body, [cut(ids, kept) for ids in texts]
    longest = max(map(len, texts))
    if longest > bound:
        raise RequestError(
            f"A text of {longest} tokens is longer than the {bound} that this model takes; shorten it, or send "
            "truncate_prompt_tokens: -1 to have it cut.",
            param="input",
        )
    return body, texts


def _inputs(body: EmbeddingBody) -> list[str | list[int]]:
    if isinstance(body.input, str):
        return [body.input]
    if body.input and isinstance(body.input[0], int):
        return [[one for one in body.input if isinstance(one, int)]]
    return [one for one in body.input if not isinstance(one, int)]


def _known(ids: list[int], model: EmbeddingModel) -> list[int]:
    """Return ids as they are: who sends ids has added the special ones."""
    size = model.vocabulary.size
    if not ids or not all(0 <= one < size for one in ids):
        raise RequestError(f"Token ids must be from 0 to {size - 1}, at least one per text.", param="input")
    return ids


def _told(vector: bytes, body: EmbeddingBody) -> str | list[float]:
    values = np.frombuffer(vector, dtype="<f4")
    if body.dimensions is not None and body.dimensions != len(values):
        if body.dimensions > len(values):
            text = f"dimensions is {body.dimensions}; the vectors of this model have {len(values)} numbers."
            raise RequestError(text, param="dimensions")
        values = values[: body.dimensions]
        values = (values / max(float(np.linalg.norm(values)), 1e-12)).astype("<f4")
    if body.encoding_format == "base64":
        return base64.b64encode(values.tobytes()).decode()
    return [float(value) for value in values]


async def _unless_gone(receive: Receive, work: Coroutine[None, None, tuple[bytes, ...]]) -> tuple[bytes, ...]:
    """Return what the work returns; end it and raise ClientGoneError when the client closes its connection."""
    encoding, leaving = asyncio.create_task(work), asyncio.create_task(_left(receive))
    try:
        await asyncio.wait((encoding, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not encoding.done():
            raise ClientGoneError
        return encoding.result()
    finally:
        for task in (encoding, leaving):
            task.cancel()
        await asyncio.gather(encoding, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
