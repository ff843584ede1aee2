"""The two calls to an API server that discovery needs: list pods, watch pods.

On aiohttp: it brings TLS, chunked bodies and deadlines, and the operator has it anyway. The official client's typed
objects would cost the router more memory than all of its own code. Nobody who reads state files loads any of this.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
import msgspec

from headrace_router.discovery.access import Access
from headrace_router.discovery.pods import Event, Failure, Pod, PodList
from headrace_router.errors import DiscoveryError

PAGE = 500
CONNECT_S = 5.0
LIST_S = 30.0
SLACK_S = 15.0
"""How much later than asked the server may end a watch; one that is silent for longer is given up."""

_Object = TypeVar("_Object")

_page = msgspec.json.Decoder(PodList).decode
_event = msgspec.json.Decoder(Event).decode
_pod = msgspec.json.Decoder(Pod).decode
_failure = msgspec.json.Decoder(Failure).decode


class ApiError(DiscoveryError):
    """The API server cannot be asked, or did not answer as asked."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class GoneError(ApiError):
    """The version to go on from is too old: list again."""


class PodsApi:
    """Lists and watches pods.

    Args:
        access: to the cluster.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close connections; the next call opens new ones, with authorities and certificates read anew."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
            await asyncio.sleep(0)  # aborted connections end in the loop's next turn

    async def pods(self, namespace: str, selector: str) -> tuple[list[Pod], str]:
        """Return all pods that the selector names, and the version to watch from; raise ApiError."""
        found: list[Pod] = []
        parameters = {"labelSelector": selector, "limit": str(PAGE)}
        while True:
            async with self._ask(namespace, parameters, LIST_S) as response:
                page = _decoded(_page, await response.read())
            found += page.items
            if not page.metadata.continue_:
                return found, page.metadata.resource_version
            parameters["continue"] = page.metadata.continue_

    async def changes(
        self, namespace: str, selector: str, version: str, timeout_s: int
    ) -> AsyncGenerator[list[tuple[str, Pod]], None]:
        """Yield what changed since `version`, as (kind of event, pod), all of one read together.

        Ends when the server ends the watch, which it does after `timeout_s`.

        Raises:
            GoneError: `version` is too old.
            ApiError: the watch could not be had, or broke.
        """
        parameters = {
            "labelSelector": selector,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(timeout_s),
        }
        rest = b""
        async with self._ask(namespace, parameters, timeout_s + SLACK_S) as response:
            async for data in response.content.iter_any():
                *lines, rest = (rest + data).split(b"\n")
                events = [_change(line) for line in lines if line]
                if events:
                    yield events

    @asynccontextmanager
    async def _ask(
        self, namespace: str, parameters: dict[str, str], deadline_s: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give a good answer; every other end, also of reading it, becomes an ApiError."""
        url = f"{self._access.server}/api/v1/namespaces/{namespace}/pods"
        timeout = aiohttp.ClientTimeout(total=deadline_s, connect=CONNECT_S)
        try:
            headers = self._access.headers()
            async with self._connections().get(url, params=parameters, headers=headers, timeout=timeout) as response:
                if response.status != 200:
                    raise _refusal(response, await response.read(), namespace)
                connection = response.connection
                try:
                    yield response
                finally:
                    # Farewells over TLS would wait for the server's, long after the loop has ended.
                    if not response.content.at_eof() and connection is not None and connection.transport is not None:
                        connection.transport.abort()
        except TimeoutError as error:
            raise ApiError(f"the API server at {self._access.server} did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(f"the API server at {self._access.server} cannot be asked: {error}") from error

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Watches last: one connection for each, and no wait for a free one.
            connector = aiohttp.TCPConnector(ssl=self._access.context(), limit=0)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session


def _change(line: bytes) -> tuple[str, Pod]:
    event = _decoded(_event, line)
    if event.type == "ERROR":
        failure = _decoded(_failure, event.object)
        kind = GoneError if failure.code == 410 else ApiError
        raise kind(f"the watch ended with {failure.code}: {failure.message}")
    return event.type, _decoded(_pod, event.object)


def _decoded(decode: Callable[[bytes], _Object], data: bytes | msgspec.Raw) -> _Object:
    try:
        return decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ApiError(f"the API server's answer does not read as pods: {error}") from error


def _refusal(response: aiohttp.ClientResponse, body: bytes, namespace: str) -> ApiError:
    """Return what a status other than 200 means."""
    try:
        message = _failure(body).message
    except (msgspec.MsgspecError, UnicodeDecodeError):
        message = ""
    text = f"the API server answered {response.status}: {message or response.reason}"
    if response.status == 410:
        return GoneError(text)
    if response.status == 403:
        text += f"; the router's service account needs list and watch on pods in namespace {namespace!r}"
    after = response.headers.get("retry-after", "")
    return ApiError(text, float(after) if after.isdecimal() else 0.0)
