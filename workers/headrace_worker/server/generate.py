"""`POST /v1/chat/completions` and `/v1/completions`: from the body to the last byte, or to the client's leaving."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from headrace_api.frames import FrameError, FrameHead, Resume, decode_head
from headrace_api.names import REFUSED_DRAINING
from headrace_worker.errors import RequestError
from headrace_worker.messages import Generate, Output
from headrace_worker.server.answer import Answer, read_body
from headrace_worker.server.ask import Ask, check
from headrace_worker.server.fields import Body
from headrace_worker.server.formatter import Formatter, Frame
from headrace_worker.server.pace import Pace
from headrace_worker.server.parse import parse
from headrace_worker.server.served import ServedModel
from headrace_worker.server.shapes import Identity
from headrace_worker.server.streams import ClientGoneError, CoreLostError, Stream
from headrace_worker.server.terms import Terms, read_terms
from headrace_worker.server.worker import Worker

logger = logging.getLogger(__name__)

INLINE_BYTES: Final = 16 * 1024
"""Larger bodies are tokenized in a thread: they would hold up other requests' tokens for milliseconds."""


def prepare(kind: type[Body], data: bytes, terms: Terms, model: ServedModel) -> tuple[Ask, Formatter]:
    """Return the checked request and the state of its answer."""
    heads: list[FrameHead] = []
    if terms.resume:
        data, heads = _resumed(data)
    ask = check(parse(kind, data), model)
    identity = Identity(terms.request_id, terms.created, model.name, model.fingerprint)
    formatter = Formatter(ask, identity, model.vocabulary)
    if heads:
        if not ask.seeded:
            raise RequestError("A request to resume must carry the seed it began with.", param="seed")
        formatter.resume(heads)
    return ask, formatter


def _resumed(data: bytes) -> tuple[bytes, list[FrameHead]]:
    try:
        resume = msgspec.msgpack.decode(data, type=Resume)
        return resume.body, [decode_head(head) for head in resume.heads]
    except (msgspec.MsgspecError, FrameError) as error:
        raise RequestError(f"The body is no resume message: {error}.") from None


class Generation:
    """The ASGI application of one of the two routes."""

    def __init__(self, worker: Worker, kind: type[Body]) -> None:
        self._worker = worker
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        arrived_s = time.monotonic()
        outcome = "error"
        answer = Answer(send)
        try:
            outcome = await self._serve(Headers(scope=scope), receive, answer, arrived_s)
        except ClientGoneError:
            outcome = "cancelled"
        except CoreLostError:
            text = "The engine of this worker has ended; try again."
            await answer.abandon(RequestError(text, status=503, code=REFUSED_DRAINING))
        except RequestError as error:
            await answer.break_off(error)
        except Exception:
            logger.exception("a request failed for a reason that is this worker's own fault")
            await answer.break_off(RequestError("This worker failed for a reason of its own.", status=500))
        finally:
            self._worker.metrics.ended(outcome)

    async def _serve(self, headers: Headers, receive: Receive, answer: Answer, arrived_s: float) -> str:
        model = self._worker.admit()
        settings = self._worker.settings
        default = "never" if settings.role != "decode" else settings.disaggregation
        terms = read_terms(headers, default, time.time())
        answer.begin_as(terms, settings.worker)
        data = await read_body(receive)
        if len(data) > INLINE_BYTES:
            ask, formatter = await asyncio.to_thread(prepare, self._kind, data, terms, model)
        else:
            ask, formatter = prepare(self._kind, data, terms, model)
        answer.stream = ask.stream
        generates = await self._generates(ask, formatter, terms)
        self._worker.admit()  # the drain may have begun while the body came or a peer was asked
        return await self._run(generates, formatter, receive, answer, Pace(self._worker.metrics, arrived_s))

    async def _generates(self, ask: Ask, formatter: Formatter, terms: Terms) -> list[Generate]:
        peers = () if terms.disaggregate == "never" else await self._worker.peers.resolve(terms.prefill_urls)
        keys = self._worker.streams.new_keys(terms.request_id, len(ask.runs))
        return [
            Generate(
                request=key,
                prompt_ids=run.prompt_ids,
                sampling=run.sampling,
                choices=choices,
                peers=peers,
                disaggregate=terms.disaggregate,
            )
            for index, (key, run) in enumerate(zip(keys, ask.runs, strict=True))
            if (choices := formatter.unfinished(index))
        ]

    async def _run(
        self, generates: Sequence[Generate], formatter: Formatter, receive: Receive, answer: Answer, pace: Pace
    ) -> str:
        streams = self._worker.streams
        stream = streams.open(generates)
        watcher = asyncio.create_task(_watch(receive, stream))
        try:
            async for outputs in _portions(stream, formatter):
                pace.outputs(outputs)
                frames = [frame for output in outputs if (frame := self._feed(formatter, output)) is not None]
                if frames:
                    await answer.write(frames, done=formatter.done)
        except RequestError:
            self._worker.peers.forget([peer.worker for peer in generates[0].peers])
            raise
        finally:
            watcher.cancel()
            streams.close(stream, done=formatter.done)
        pace.end()
        return formatter.outcome

    def _feed(self, formatter: Formatter, output: Output) -> Frame | None:
        frame = formatter.feed(output)
        if frame is not None and frame.cut:
            self._worker.streams.finish(output.request, output.choice)
        return frame


async def _portions(stream: Stream, formatter: Formatter) -> AsyncIterator[list[Output]]:
    while not formatter.done:
        yield await stream.take()


async def _watch(receive: Receive, stream: Stream) -> None:
    """End the stream when the client closes its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.fail(ClientGoneError())
