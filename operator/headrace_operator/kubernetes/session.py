"""Calls to the API server.

The official client serves where speed does not matter: it reads the configuration (`credentials`). The hot path has
this session of its own, because the client builds a model of each whole answer, with a class for every field: for a
hundred deployments that took more than a second of processor time and 100 MB beyond what is needed here, where an
answer is mostly skipped and a few fields are decoded by msgspec. Its connections are `http.connection`'s.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar
from urllib.parse import urlencode

import msgspec

from headrace_api.names import MANAGER
from headrace_operator.http.connection import ExchangeError
from headrace_operator.http.pool import Pool
from headrace_operator.kubernetes import wire
from headrace_operator.kubernetes.credentials import Credentials
from headrace_operator.kubernetes.errors import (
    ClusterError,
    ConflictError,
    NotFoundError,
    NotLeadingError,
    UnauthorizedError,
    UnavailableError,
    from_answer,
)
from headrace_operator.kubernetes.kinds import Kind
from headrace_operator.kubernetes.objects import Item
from headrace_operator.kubernetes.retry import pause_s

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=Item)

_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_STRATEGIC: Final = "application/strategic-merge-patch+json"
_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_PAGE: Final = 500
_GATHER_S: Final = 0.1
"""News of a watch that come this close together are taken together: reading them one by one was a third of the
operator's processor time while many objects were made."""
_MARGIN_S: Final = 0.5
"""A write must have been answered this long before leadership ends."""

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Request:
    """One call, ready to be sent any number of times."""

    method: str
    target: str
    kind: str
    """Plural of the kind, for the count."""
    verb: str
    """What the call does, for the count: `apply` and `list` beside the methods."""
    headers: dict[str, str]
    body: bytes | None


class Session:
    """Calls to one API server; use as an async context.

    Every call ends by its deadline. Those that may be repeated are, a few times at once, where the server is at fault
    or asks for a pause; what fails then is raised.

    Args:
        credentials: where the server is and who calls.
        identity: of this process, for the server's audit log.
        deadline_s: for one call.
        silence_s: a watch that hears nothing for this long, not even a bookmark, is dead.
        leadership_s: Returns for how long from now writes are allowed; None allows them always.
        count: Told of each call: verb, kind, HTTP status (0: no answer), seconds.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        identity: str = "",
        deadline_s: float = 20.0,
        silence_s: float = 90.0,
        leadership_s: Callable[[], float] | None = None,
        count: Callable[[str, str, int, float], None] | None = None,
    ) -> None:
        self._credentials = credentials
        self._deadline_s = deadline_s
        self._silence_s = silence_s
        self._leadership_s = leadership_s
        self._count = count
        self._pool = Pool(
            credentials.server,
            credentials.tls,
            server_name=credentials.server_name,
            headers={"user-agent": f"headrace-operator/{identity}"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.close()

    async def read(self, kind: Kind[T], namespace: str | None, name: str) -> T:
        """Return an object; raise NotFoundError where there is none."""
        body = await self._call("GET", kind, kind.path(namespace, name), accept=_accept(kind, _METADATA))
        return msgspec.json.decode(body, type=kind.item)

    async def read_whole(self, kind: Kind[T], namespace: str | None, name: str) -> Any:
        """Return an object with all its fields, as plain data; raise NotFoundError where there is none."""
        return msgspec.json.decode(await self._call("GET", kind, kind.path(namespace, name)))

    async def apply(self, kind: Kind[T], namespace: str | None, name: str, body: bytes, *, force: bool) -> T:
        """Make an object hold the fields in `body` and return it as it is then; fields of others stay as they are.

        Args:
            kind: of the object.
            namespace: of the object.
            name: of the object.
            body: the fields, as JSON.
            force: take back fields of `body` that somebody else has changed; else that raises ConflictError.
        """
        answer = await self._call(
            "PATCH",
            kind,
            kind.path(namespace, name),
            verb="apply",
            query={"fieldManager": MANAGER, "force": "true" if force else "", "fieldValidation": "Strict"},
            body=body,
            content=_APPLY,
            accept=_accept(kind, _METADATA),
        )
        return msgspec.json.decode(answer, type=kind.item)

    async def create(self, kind: Kind[T], namespace: str | None, body: bytes) -> T:
        """Create an object and return it; raise ConflictError where it is there already.

        Not repeated here: the answer may have been lost after the object was made.
        """
        answer = await self._call(
            "POST",
            kind,
            kind.path(namespace),
            query={"fieldManager": MANAGER},
            body=body,
            content="application/json",
            accept=_accept(kind, _METADATA),
            repeatable=False,
        )
        return msgspec.json.decode(answer, type=kind.item)

    async def merge(
        self,
        kind: Kind[T],
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        subresource: Literal["status"] | None = None,
        strategic: bool = False,
    ) -> T:
        """Merge `body` into an object or into its status and return it.

        Args:
            kind: of the object.
            namespace: of the object.
            name: of the object.
            body: what to change; with `metadata.resourceVersion` it raises ConflictError where that has passed.
            subresource: what `body` is about, None for the object itself.
            strategic: lists are merged by their keys, where the kind is built in.
        """
        answer = await self._call(
            "PATCH",
            kind,
            kind.path(namespace, name, subresource),
            query={"fieldManager": MANAGER},
            body=encode(body),
            content=_STRATEGIC if strategic else _MERGE,
            accept=_accept(kind, _METADATA),
        )
        return msgspec.json.decode(answer, type=kind.item)

    async def scale(self, kind: Kind[T], namespace: str, name: str, replicas: int) -> str:
        """Write an object's number through its `scale` subresource and return the object's version then."""
        answer = await self._call(
            "PATCH",
            kind,
            kind.path(namespace, name, "scale"),
            verb="scale",
            query={"fieldManager": MANAGER},
            body=encode({"spec": {"replicas": replicas}}),
            content=_MERGE,
        )
        return msgspec.json.decode(answer, type=Item).metadata.resource_version

    async def find(self, kind: Kind[T], namespace: str, name: str) -> str | None:
        """Return the UID of an object, None where there is none; asks by a list, which needs no further right."""
        query = {"fieldSelector": f"metadata.name={name}"}
        body = await self._call("GET", kind, kind.path(namespace), verb="list", query=query, accept=_METADATA_LIST)
        page = msgspec.json.decode(body, type=wire.page_type(Item))
        return page.items[0].metadata.uid if page.items else None

    async def delete(self, kind: Kind[T], namespace: str | None, name: str, uid: str) -> None:
        """Delete this very object, and in the background what it owns; fine where it has gone already."""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        with suppress(NotFoundError):
            try:
                await self._call(
                    "DELETE", kind, kind.path(namespace, name), body=encode(options), content="application/json"
                )
            except ConflictError:
                # Fine where another object of the name has come since; else it is still to be deleted.
                if namespace is None or await self.find(kind, namespace, name) == uid:
                    raise

    async def pages(
        self, kind: Kind[T], namespace: str | None, selector: str = "", *, size: int = _PAGE
    ) -> AsyncIterator[tuple[list[T], str]]:
        """Yield all objects that the selector picks, in pages, each with the version that a watch may begin from."""
        decoder = msgspec.json.Decoder(wire.page_type(kind.item))
        token = ""
        while True:
            query = {"limit": str(size), "labelSelector": selector, "continue": token}
            body = await self._call(
                "GET", kind, kind.path(namespace), verb="list", query=query, accept=_accept(kind, _METADATA_LIST)
            )
            page = decoder.decode(body)
            token = page.metadata.token
            yield page.items or [], page.metadata.resource_version
            if not token:
                return

    async def watch(
        self, kind: Kind[T], namespace: str | None, selector: str, version: str, *, lasting_s: float
    ) -> AsyncIterator[tuple[str, T]]:
        """Yield what happens after `version`: its type (ADDED, MODIFIED, DELETED, BOOKMARK) and the object.

        Ends after about `lasting_s`, or when the server closes; the caller resumes from the last version it saw.

        Raises:
            GoneError: the server has forgotten `version`.
            UnavailableError: the stream broke, or nothing came for too long.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "labelSelector": selector,
            "resourceVersion": version,
            "timeoutSeconds": str(round(lasting_s)),
        }
        decoder, lines = msgspec.json.Decoder(kind.item), wire.Lines()
        async for piece in self._stream(kind, f"{kind.path(namespace)}?{_query(query)}", _accept(kind, _METADATA)):
            for line in lines.of(piece):
                yield wire.change(line, kind, decoder)

    async def _stream(self, kind: Kind[T], target: str, accept: str) -> AsyncIterator[bytes]:
        """Yield an answer without end, as it comes."""
        headers = await self._authorized({"accept": accept})
        began = time.monotonic()
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._deadline_s):
                    answer, stream = await stack.enter_async_context(self._pool.begin("GET", target, headers))
                self._counted("watch", kind.plural, answer.status, began)
                pieces = stream.pieces(self._silence_s, gather_s=_GATHER_S)
                if answer.status != 200:
                    body = b"".join([piece async for piece in pieces])
                    await self._fail(f"GET {target}", answer.status, body, answer.headers)
                async for piece in pieces:
                    yield piece
        except (ExchangeError, TimeoutError, OSError) as error:
            raise UnavailableError(f"the watch of {kind.plural} broke: {str(error) or type(error).__name__}") from error

    async def _call(
        self,
        method: str,
        kind: Kind[T],
        path: str,
        *,
        verb: str | None = None,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content: str | None = None,
        accept: str = "application/json",
        repeatable: bool = True,
    ) -> bytes:
        """Send one request until it is answered, repeated as often as `retry` allows; return the answer's body."""
        headers = {"accept": accept} if content is None else {"accept": accept, "content-type": content}
        target = f"{path}?{_query(query)}" if query else path
        request = Request(method, target, kind.plural, verb or method.lower(), headers, body)
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self.send(request)
            except ClusterError as error:
                pause = pause_s(error, attempt, random.random())  # noqa: S311 - spreads callers, guards nothing
                if pause is None or not (repeatable or isinstance(error, UnauthorizedError)):
                    raise
                logger.debug("trying again in %.2f s: %s", pause, error)
                await asyncio.sleep(pause)

    async def send(self, request: Request) -> bytes:
        """Send one request once and return the answer's body; raise what the answer stands for if it is no success."""
        deadline_s = self._deadline_for(request.method)
        headers = await self._authorized(request.headers)
        call = f"{request.method} {request.target.partition('?')[0]}"
        began, status = time.monotonic(), 0
        try:
            async with asyncio.timeout(deadline_s):
                # Asked again: a process may be stopped anywhere, and wake up when another one leads.
                answer = await self._pool.ask(
                    request.method,
                    request.target,
                    headers,
                    request.body,
                    permit=lambda: self._deadline_for(request.method),
                )
            status = answer.status
        except (ExchangeError, TimeoutError, OSError) as error:
            raise UnavailableError(f"{call}: {str(error) or f'no answer within {deadline_s:g} s'}") from error
        finally:
            self._counted(request.verb, request.kind, status, began)
        if status >= 400:
            await self._fail(call, status, answer.body, answer.headers)
        return answer.body

    def _deadline_for(self, method: str) -> float:
        """Return how long a call may take; a write must have ended before another operator can lead."""
        if method == "GET" or self._leadership_s is None:
            return self._deadline_s
        left = self._leadership_s() - _MARGIN_S
        if left <= 0:
            raise NotLeadingError("this operator does not lead now; the call was not made")
        return min(left, self._deadline_s)

    async def _authorized(self, headers: dict[str, str]) -> dict[str, str]:
        authorization = await self._credentials.authorization()
        return headers if authorization is None else {**headers, "authorization": authorization}

    async def _fail(self, call: str, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        error = from_answer(call, status, body, headers.get("retry-after"))
        if isinstance(error, UnauthorizedError):
            await self._credentials.refresh()
        raise error

    def _counted(self, verb: str, kind: str, status: int, began: float) -> None:
        if self._count is not None:
            self._count(verb, kind, status, time.monotonic() - began)


def _accept(kind: Kind[T], metadata: str) -> str:
    """Ask for the metadata only, where no more is read."""
    return metadata if kind.item is Item else "application/json"


def _query(query: Mapping[str, str]) -> str:
    return _encoded(tuple(query.items()))


@lru_cache(maxsize=1024)
def _encoded(query: tuple[tuple[str, str], ...]) -> str:
    """Writes say the same again and again."""
    return urlencode([(name, value) for name, value in query if value])
