"""Refusals in OpenAI's shape."""

import msgspec

from headrace_api.names import HEADER_REFUSED
from headrace_worker.errors import RequestError

_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def error_body(error: RequestError) -> bytes:
    """Return the JSON that states this error."""
    kind = _KINDS.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    problem = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    return msgspec.json.encode({"error": problem})


def error_headers(error: RequestError) -> list[tuple[bytes, bytes]]:
    """Return the headers that go with it; a worker that cannot serve now says why, and when to come again."""
    headers = [(b"content-type", b"application/json")]
    if error.status == 503:
        headers.append((b"retry-after", b"1"))
        if error.code is not None:
            headers.append((HEADER_REFUSED.encode(), error.code.encode()))
    return headers
