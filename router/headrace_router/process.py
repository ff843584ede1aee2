"""The router's process: its socket, its clock and its signals."""

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Iterable
from pathlib import Path

import msgspec

from headrace_router.discovery.pick import pick
from headrace_router.errors import SettingsError
from headrace_router.router import Router
from headrace_router.server.client import Client
from headrace_router.settings import RouterSettings
from headrace_router.ticking import every
from headrace_router.unused import Surveyor

logger = logging.getLogger(__name__)

SWEEP_S = 0.25
POLL_S = 1.0
"""Between two looks at the key file and the model files."""
WAKE_S = 0.05
BACKLOG = 4096


class RouterProcess:
    """Runs one router from listening to the end of its drain; `stop` is what a signal does."""

    def __init__(self, settings: RouterSettings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._ending = asyncio.Event()
        self.listening = asyncio.Event()
        self.url = ""
        """Known once `listening` is set."""
        self.router = Router(settings, asyncio.get_running_loop())
        self.discovery = pick(settings, self.router.update)

    def stop(self) -> None:
        """First call: finish what runs, then end. Second call: end now."""
        if self._stopping.is_set():
            self._ending.set()
        self._stopping.set()

    async def run(self) -> None:
        """Serve until stopped; raise SettingsError where the address cannot be had."""
        loop = asyncio.get_running_loop()
        router, settings = self.router, self._settings
        self.discovery.start()
        try:
            server = await loop.create_server(
                lambda: Client(router, settings), settings.host, settings.port, backlog=BACKLOG
            )
        except OSError as error:
            text = f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}; choose another --port"
            raise SettingsError(text) from error
        host, port = server.sockets[0].getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        if settings.ready_file is not None:
            _write_ready(Path(settings.ready_file), self.url)
        logger.info("listening on %s", self.url)
        self.listening.set()
        async with asyncio.TaskGroup() as tasks:
            ticking = [
                tasks.create_task(self.discovery.run()),
                tasks.create_task(every(WAKE_S, router.wake)),
                tasks.create_task(every(SWEEP_S, router.sweep)),
                *(tasks.create_task(work) for work in self._bookkeeping()),
            ]
            await self._stopping.wait()
            server.close()
            await self._drain()
            for task in ticking:
                task.cancel()
        await router.pool.close()
        if router.book is not None:
            router.book.close()

    def _bookkeeping(self) -> Iterable[Coroutine[None, None, None]]:
        """Return what a router does now and then that keeps books, or has model files."""
        router, book = self.router, self.router.book
        if router.endpoints:
            yield every(POLL_S, router.endpoints.poll)
        if router.cascading is not None:
            yield every(POLL_S, router.cascading.poll)
        if book is None:
            return
        yield every(POLL_S, book.poll)
        if book.place is not None:
            yield Surveyor(book, router.listed, self._settings.unused_portion_s).run()

    async def _drain(self) -> None:
        """Let running requests finish, up to the deadline or a second stop."""
        router = self.router
        router.drain()
        logger.info("draining %d connections", len(router.clients))
        try:
            async with asyncio.timeout(self._settings.drain_deadline_s):
                while router.clients and not self._ending.is_set():
                    await _first(self._ending, WAKE_S)
        except TimeoutError:
            logger.warning("%d connections did not finish in time", len(router.clients))
        for client in list(router.clients):
            client.abort()


async def _first(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _write_ready(path: Path, url: str) -> None:
    """Write the ready file whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(msgspec.json.encode({"url": url, "pid": os.getpid()}))
    partial.replace(path)


async def serve(settings: RouterSettings) -> None:
    """Run a router until SIGTERM or SIGINT; the second signal ends it at once."""
    process = RouterProcess(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.stop)
    await process.run()
