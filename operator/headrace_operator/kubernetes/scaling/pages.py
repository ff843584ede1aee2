"""Reads the pages of workers, a few at once, each by a deadline."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from headrace_operator.kubernetes.scaling.visits import Visits
from headrace_operator.scaling.page import Page, read

AT_ONCE: Final = 32
PACE_S: Final = 0.001
"""Between the beginnings of two questions: a thousand at once would keep whoever asks meanwhile waiting."""
DEADLINE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Read:
    """A page, and when it was read."""

    page: Page
    at: float


class Pages:
    """The last page of each worker, by its URL.

    Args:
        visits: asks the workers.
        deadline_s: for one page.
    """

    def __init__(self, visits: Visits, *, deadline_s: float = DEADLINE_S) -> None:
        self._visits = visits
        self._deadline_s = deadline_s
        self._read: dict[str, Read] = {}

    async def look(self, urls: Collection[str]) -> None:
        """Read these pages; what does not answer keeps the page that it had."""
        began, left = asyncio.get_running_loop().time(), iter(enumerate(urls))

        async def read_on() -> None:
            for number, url in left:
                await asyncio.sleep(began + number * PACE_S - asyncio.get_running_loop().time())
                body = await self._visits.get(url, "/metrics", self._deadline_s)
                page = None if body is None else read(body)
                if page is not None:
                    self._read[url] = Read(page, asyncio.get_running_loop().time())

        await asyncio.gather(*(read_on() for _ in range(min(AT_ONCE, len(urls)))))

    def of(self, url: str) -> Read | None:
        """Return what a worker said last; None where it never said anything."""
        return self._read.get(url)

    def keep(self, urls: Collection[str]) -> None:
        """Forget all others: their workers have gone."""
        self._read = {url: one for url, one in self._read.items() if url in urls}
        self._visits.keep(urls)

    def close(self) -> None:
        """End all connections and forget everything."""
        self.keep(())
