"""Stop strings in a stream of text: what may be shown now, and where the text ends."""

from collections.abc import Sequence


class StopMatcher:
    """Finds the stop string that completes first, however the text is cut into pieces.

    Of several strings that complete at the same character the longest wins. Text that may still become a stop string
    is held back; the stop string itself is never released.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    @property
    def held(self) -> int:
        """Characters that are held back now."""
        return len(self._held)

    def feed(self, text: str) -> tuple[str, bool]:
        """Return what `text` makes safe to show, and whether a stop string has completed."""
        if not self._stops:
            return text, False
        buffer = self._held + text
        hits = [(at + len(stop), at) for stop in self._stops if (at := buffer.find(stop)) >= 0]
        if hits:
            self._held = ""
            return buffer[: min(hits)[1]], True
        keep = max(_overlap(buffer, stop) for stop in self._stops)
        safe = len(buffer) - keep
        self._held = buffer[safe:]
        return buffer[:safe], False

    def flush(self) -> str:
        """Return the held text: nothing more will come."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that begins `stop` without completing it."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
