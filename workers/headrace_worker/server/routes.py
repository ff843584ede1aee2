"""The worker's HTTP surface beside generation, and the application that holds all routes."""

import hmac
import time
from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace_api.handoff import Dead, HandoffAddress, authorization
from headrace_worker.errors import RequestError
from headrace_worker.messages import PeerDead
from headrace_worker.server import embedding
from headrace_worker.server.fields import ChatBody, CompletionBody
from headrace_worker.server.generate import Generation
from headrace_worker.server.problems import error_body, error_headers
from headrace_worker.server.streams import ClientGoneError
from headrace_worker.server.worker import Worker

_MAX_SMALL_BODY_BYTES = 64 * 1024


class Surface:
    """The handlers; each answers from the worker's state."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._started = int(time.time())

    async def embeddings(self, request: Request) -> Response:
        """Turn texts into vectors."""
        outcome = "error"
        try:
            answer = await embedding.serve(request, self._worker.admit_texts(), self._worker.embeddings)
            outcome = "stop"
        except ClientGoneError:
            outcome = "cancelled"
            return Response(status_code=499)  # nobody reads it
        finally:
            self._worker.metrics.ended(outcome)
        return answer

    async def models(self, _: Request) -> Response:
        """List the one model."""
        settings = self._worker.settings
        model = {"id": settings.name, "object": "model", "created": self._started, "owned_by": "headrace"}
        return _json({"object": "list", "data": [model]})

    async def health(self, _: Request) -> Response:
        """Say whether both processes live."""
        return _json({"alive": True}) if self._worker.alive else _json({"alive": False}, 503)

    async def ready(self, _: Request) -> Response:
        """Say whether new requests are taken, or how far the start is."""
        worker = self._worker
        if worker.draining:
            return _json({"phase": "drain", "done": 0, "total": 0}, 503)
        if worker.serving() is None and worker.encoding() is None:
            return _json(
                {"phase": worker.progress.phase, "done": worker.progress.done, "total": worker.progress.total}, 503
            )
        return _json({"phase": "ready"})

    async def metrics(self, _: Request) -> Response:
        """Render what Prometheus reads."""
        return Response(self._worker.metrics.render(), headers={"content-type": CONTENT_TYPE_LATEST})

    async def handoff(self, _: Request) -> Response:
        """Say where the engine takes part in hand-offs; while draining nobody shall begin one."""
        worker = self._worker
        worker.admit()
        assert worker.ready is not None
        settings = worker.settings
        address = HandoffAddress(
            worker=settings.worker,
            role=settings.role,
            incarnation=settings.incarnation,
            address=worker.ready.handoff_address,
            kv_hash=worker.ready.kv_hash,
        )
        return _json(address)

    async def dead(self, request: Request) -> Response:
        """Take the backend's word that all processes of an incarnation, or of a pod, have ended."""
        self._authorize(request)
        data = await request.body()
        try:
            dead = msgspec.json.decode(data[:_MAX_SMALL_BODY_BYTES], type=Dead)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise RequestError(f'The body must be {{"incarnation": "…"}} or {{"pod": "UID"}}: {error}.') from None
        if dead.covers(self._worker.settings.incarnation):
            raise RequestError("That is the incarnation of this worker, which lives.", param="incarnation")
        self._worker.core.send(PeerDead(dead))
        return _json(dead)

    async def drain(self, request: Request) -> Response:
        """Refuse new requests from now on; those that run go on."""
        self._authorize(request)
        self._worker.draining = True
        return _json({"draining": True, "running": len(self._worker.streams)}, 202)

    def _authorize(self, request: Request) -> None:
        """Let pass who knows the deployment's secret; everybody where there is none."""
        secret = self._worker.settings.secret
        shown = request.headers.get("authorization", "")
        if secret and not hmac.compare_digest(shown.encode(), authorization(secret).encode()):
            text = "This needs the deployment's secret: send the header `authorization: Bearer SECRET`."
            raise RequestError(text, status=401)


def application(worker: Worker) -> Starlette:
    """Return the application over this worker's state."""
    surface = Surface(worker)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", Generation(worker, ChatBody), methods=["POST"]),
            Route("/v1/completions", Generation(worker, CompletionBody), methods=["POST"]),
            Route("/v1/embeddings", surface.embeddings, methods=["POST"]),
            Route("/v1/models", surface.models, methods=["GET"]),
            Route("/health", surface.health, methods=["GET"]),
            Route("/ready", surface.ready, methods=["GET"]),
            Route("/metrics", surface.metrics, methods=["GET"]),
            Route("/handoff", surface.handoff, methods=["GET"]),
            Route("/handoff/dead", surface.dead, methods=["POST"]),
            Route("/drain", surface.drain, methods=["POST"]),
        ],
        exception_handlers={RequestError: _refused, HTTPException: _not_served},
    )


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def _refused(_: Request, error: Any) -> Response:
    headers = {name.decode(): value.decode() for name, value in error_headers(error)}
    return Response(error_body(error), error.status, headers=headers)


async def _not_served(request: Request, error: Any) -> Response:
    """Turn the framework's 404 and 405 into OpenAI's shape."""
    told = f"{request.method} {request.url.path[:80]} is not served here"
    if error.status_code == 405:
        told += f"; allowed is {(error.headers or {}).get('Allow', 'another method')}"
    refusal = RequestError(f"{told}.", status=error.status_code)
    return Response(error_body(refusal), refusal.status, error.headers, media_type="application/json")
