"""HTTP/1.1 in values: a parsed request, and the bytes of heads and chunks (pure)."""

from http import HTTPStatus

import msgspec

_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
NOT_FORWARDED = HOP_BY_HOP | {
    b"accept-encoding",  # frames are read here, and a worker next door gains nothing from compression
    b"content-length",
    b"content-type",
    b"expect",
    b"host",
    b"http2-settings",
    b"idempotency-key",
    b"x-headrace-deadline",
    b"x-headrace-max-cost",
    b"x-headrace-min-quality",
    b"x-headrace-task",
    b"x-request-id",
}
NOT_RETURNED = HOP_BY_HOP | {
    b"content-length",
    b"date",
    b"x-request-id",
    b"x-headrace-prefill",
    b"x-headrace-decode",
    b"x-headrace-refused",
    b"x-headrace-tier",
    b"x-headrace-degraded",
    b"x-headrace-cost",
}

Headers = list[tuple[bytes, bytes]]
"""Names in lower case."""


class Request(msgspec.Struct):
    """One request as it was read."""

    method: bytes
    path: bytes
    own: dict[bytes, bytes]
    """Headers of this hop, by lower-case name (`NOT_FORWARDED`)."""
    others: Headers
    """Headers that go on to the worker."""
    http10: bool
    keep_alive: bool
    body: bytes = b""
    query: bytes = b""
    """Behind the path's `?`."""


def status_line(status: int) -> bytes:
    """Return the first line of an answer; statuses that no standard names have no phrase."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Return path and query of a request target, in origin or absolute form."""
    if target.startswith((b"http://", b"https://")):
        slash = target.find(b"/", 8)
        target = target[slash:] if slash >= 0 else b"/"
    path, _, query = target.partition(b"?")
    return path, query


def forwarded(request: Request, hide: bytes | None = None) -> bytes:
    """Return the client's header lines that go on to the worker: all but `hide` and those that Connection names."""
    others = request.others if hide is None else [pair for pair in request.others if pair[0] != hide]
    connection = request.own.get(b"connection")
    if connection is not None:
        named = {token.strip().lower() for token in connection.split(b",")}
        others = [pair for pair in others if pair[0] not in named]
    return b"".join([b"%b: %b\r\n" % pair for pair in others])


def chunk(data: bytes) -> bytes:
    """Return `data` as one chunk of a chunked body; nothing for nothing (an empty chunk would end the body)."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
