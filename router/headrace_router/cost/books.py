"""What an exchange tells about its answer while it runs, to whoever counts, watches or pays."""

from collections.abc import Callable
from typing import Protocol

from headrace_api.frames import FrameHead
from headrace_router.cost.bill import Footer
from headrace_router.cost.meter import Meter
from headrace_router.errors import ClientError


class Books(Protocol):
    """One answer's."""

    meter: Meter

    @property
    def closed(self) -> bool:
        """Whether the end was told."""

    @property
    def refusal(self) -> ClientError | None:
        """Why the answer must end, once a frame was not taken."""

    def take(self, head: FrameHead, payload: bytes) -> bool:
        """Hear of a frame and its bytes for the client; False where the answer ends before it."""

    def close(self, status: int, told: Callable[[Footer], None]) -> None:
        """Hear of the end; `told` is called, now or later, before a whole answer's last bytes may go out."""
