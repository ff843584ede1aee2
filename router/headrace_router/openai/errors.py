"""The shape of errors that OpenAI clients read."""

import msgspec

from headrace_router.errors import ClientError

_encode = msgspec.json.Encoder().encode

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def error_body(error: ClientError) -> bytes:
    """Return the error as the JSON body of an answer."""
    kind = _TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    return _encode({"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}})


def error_event(error: ClientError) -> bytes:
    """Return the error as a server-sent event: the only place left for it once a stream has begun."""
    return b"data: " + error_body(error) + b"\n\n"
