"""What a replay needs: the heads of everything that was forwarded, and the body that continues from there."""

import msgspec

from headrace_api.frames import FrameHead, FrameReader, Resume, decode_head
from headrace_router.cost.books import Books

_encode = msgspec.msgpack.Encoder().encode


class Transcript:
    """Reads frames of one answer, over several workers if need be, and remembers what a replay needs.

    Args:
        books: told of each frame, where somebody counts; they may end the answer.
    """

    __slots__ = ("_books", "_reader", "final", "heads", "prefill")

    def __init__(self, books: Books | None = None) -> None:
        self._books = books
        self._reader = FrameReader()
        self.heads: list[bytes] = []
        self.final: FrameHead | None = None
        self.prefill: str | None = None
        """Who prefilled, as the frames say it."""

    def feed(self, data: bytes) -> bytes:
        """Return the payload bytes of the frames completed by `data`, up to one that nobody can pay.

        Raises:
            FrameError: some of it is no frame; then none of it counts as forwarded.
        """
        heads, payloads = [], []
        for encoded, payload in self._reader.feed(data):
            head = decode_head(encoded)
            if self._books is not None and not self._books.take(head, payload):
                break
            heads.append(encoded)
            payloads.append(payload)
            if head.prefill is not None and self.prefill is None:
                self.prefill = head.prefill
            if head.final:
                self.final = head
                break
        self.heads += heads
        return payloads[0] if len(payloads) == 1 else b"".join(payloads)

    def cut(self) -> None:
        """Drop the unfinished frame of a worker that died; the next one starts with a whole frame."""
        self._reader = FrameReader()
        if self._books is not None and self.heads:
            self._books.meter.replaying = True

    def resume(self, body: bytes) -> bytes:
        """Return the body of a request of type `MEDIA_RESUME` that goes on where this answer was cut."""
        return _encode(Resume(body, tuple(self.heads)))
