"""A request as it goes to workers, or to an endpoint of others: the client's body under our own head."""

from collections.abc import Sequence

import msgspec

from headrace_api.names import (
    HEADER_CREATED,
    HEADER_FRAMES,
    HEADER_PREFILL_WORKERS,
    HEADER_REQUEST_ID,
    MEDIA_RESUME,
)
from headrace_router.endpoint import Endpoint
from headrace_router.placement import Placement

_MESSAGE = (
    b"POST %b%b HTTP/1.1\r\nhost: %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
    b"x-request-id: %b\r\nx-headrace-created: %d\r\nx-headrace-frames: 1\r\n%b%b\r\n%b"
)
assert all(name.encode() in _MESSAGE for name in (HEADER_REQUEST_ID, HEADER_CREATED, HEADER_FRAMES))
_JSON_TYPE = b"application/json"
_RESUME_TYPE = MEDIA_RESUME.encode()


class Call(msgspec.Struct, frozen=True):
    """A request as it goes to workers."""

    path: bytes
    model: str
    stream: bool
    body: bytes
    """With a seed."""
    forwarded: bytes
    """The client's header lines that go along."""
    request_id: bytes
    entry_id: bytes
    """What it is counted under."""
    created: int
    """Unix seconds."""
    hashes: Sequence[int]
    """Chain of the prompt's text."""
    prompt_bytes: int
    told: bytes = b""
    """Header lines of the answer that are known before it."""
    endpoint: Endpoint | None = None
    """Whose the answer is, where it is no worker's."""
    quiet: bool = False
    """Whether a stream states usage for the books alone: the client has not asked for it."""

    def message(self, placement: Placement, resume: bytes | None) -> bytes:
        """Return the request to the decode worker of `placement`; `resume` is the body of a replay."""
        worker = placement.decode.worker
        if self.endpoint is not None:
            return self.endpoint.message(self.path, self.body)
        kind, body = (_JSON_TYPE, self.body) if resume is None else (_RESUME_TYPE, resume)
        prefills = b""
        if placement.prefills:
            urls = ",".join([member.worker.url for member in placement.prefills])
            prefills = f"{HEADER_PREFILL_WORKERS}: {urls}\r\n".encode()
        return _MESSAGE % (
            worker.path,
            self.path,
            worker.authority,
            kind,
            len(body),
            self.request_id,
            self.created,
            self.forwarded,
            prefills,
            body,
        )
