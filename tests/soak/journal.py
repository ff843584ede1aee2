"""What happened last to each worker and to the whole, kept short: what one wants to read when a soak has failed."""

import threading
import time
from collections import defaultdict, deque

LAST = 12


class Journal:
    """Rings of lines by name. Any thread may write."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._rings: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=LAST))
        self._lock = threading.Lock()

    @property
    def now_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began_s

    def note(self, name: str, what: str) -> None:
        """Write a line about a worker, or about `soak`."""
        with self._lock:
            self._rings[name].append(f"{self.now_s:8.2f} s  {what}")

    def told(self) -> str:
        """Return all rings, each in order of time."""
        with self._lock:
            return "\n".join(f"{name}\n  " + "\n  ".join(lines) for name, lines in sorted(self._rings.items()))
