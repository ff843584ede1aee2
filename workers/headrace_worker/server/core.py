"""The engine core as the front sees it: a child process, a socket to it, and one sentence when it has ended."""

import asyncio
import contextlib
import logging
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec
import zmq
import zmq.asyncio

from headrace_worker.messages import Broken, Shutdown, ToCore, ToFront
from headrace_worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

ENGINE: Final = (sys.executable, "-m", "headrace_worker.engine")
STOP_S: Final = 10.0
"""How long a core may take to end after `Shutdown`; longer than any step, shorter than any backend's patience."""
_LAST_WORDS_S: Final = 0.25
"""How long a dead core's last message may still be on its way through the socket."""
_MAX_PATH_BYTES: Final = 100
"""A Unix socket's path is bounded (108 bytes on Linux, 104 on macOS)."""

_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[ToFront] = msgspec.msgpack.Decoder(ToFront)


class Core:
    """Process 2.

    The pipe to its standard input stays open as long as this process lives: its end tells the core to end too.

    Args:
        settings: handed on as one line of JSON.
        handle: called with each message of the core, in the event loop.
        command: what to start; `--front ADDRESS` is appended.
    """

    def __init__(
        self, settings: WorkerSettings, handle: Callable[[ToFront], None], command: Sequence[str] = ENGINE
    ) -> None:
        self._settings = settings
        self._handle = handle
        self._command = tuple(command)
        self._process: asyncio.subprocess.Process | None = None
        self._outbox: asyncio.Queue[ToCore] = asyncio.Queue()
        self._broken: asyncio.Future[Broken] = asyncio.get_running_loop().create_future()

    async def run(self) -> Broken:
        """Start the core, carry messages until it ends, and return why it did."""
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(_socket_directory())
            context = zmq.asyncio.Context()
            stack.callback(context.destroy, linger=0)
            socket = context.socket(zmq.PAIR)
            socket.set_hwm(0)
            address = f"ipc://{directory.name}/front"
            socket.bind(address)
            self._process = await self._start(address)
            receiving = self._receive(socket, directory.cleanup)
            carriers = [asyncio.create_task(receiving), asyncio.create_task(self._send(socket))]
            ended = asyncio.create_task(self._process.wait())
            try:
                await asyncio.wait([ended, *carriers], return_when=asyncio.FIRST_COMPLETED)
                if not ended.done():
                    _raise_of(carriers)
                return await self._last_words(await ended)
            finally:
                for task in (*carriers, ended):
                    task.cancel()
                await asyncio.gather(*carriers, ended, return_exceptions=True)
                self.kill()
                await self._process.wait()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """The process, once it was started."""
        return None if self._process is None else self._process.pid

    def send(self, message: ToCore) -> None:
        """Put a message on its way; never blocks."""
        self._outbox.put_nowait(message)

    async def stop(self) -> None:
        """Ask the core to end, and end it by force when it does not."""
        if self._process is None or not self.alive:
            return
        self.send(Shutdown())
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            logger.warning(
                "engine core %d did not end within %.0f s of the shutdown; killed", self._process.pid, STOP_S
            )
            self.kill()

    def kill(self) -> None:
        """End the process now."""
        if self._process is not None and self.alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _start(self, address: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *self._command, "--front", address, stdin=asyncio.subprocess.PIPE
        )
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError):
            process.stdin.write(self._settings.model_dump_json().encode() + b"\n")
            await process.stdin.drain()
        logger.info("engine core started as process %d", process.pid)
        return process

    async def _receive(self, socket: zmq.asyncio.Socket, connected: Callable[[], None]) -> None:
        """Pass messages on; with the first one the socket's file has served, and even SIGKILL leaves none behind."""
        data = await socket.recv()
        connected()
        while True:
            message = _decoder.decode(data)
            if isinstance(message, Broken) and not self._broken.done():
                self._broken.set_result(message)
            self._handle(message)
            data = await socket.recv()

    async def _send(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            await socket.send(_encode(await self._outbox.get()))

    async def _last_words(self, code: int) -> Broken:
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                return await asyncio.shield(self._broken)
        except TimeoutError:
            return Broken(f"The engine core ended {_reason(code)} without a word; its log above may say why.")


def _raise_of(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Raise what ended a carrier: a message that does not decode is our own bug, not the core's end."""
    for task in tasks:
        if task.done():
            task.result()


def _reason(code: int) -> str:
    if code < 0:
        return f"by signal {signal.Signals(-code).name}"
    return f"with exit code {code}"


@contextlib.contextmanager
def _socket_directory() -> Iterator[tempfile.TemporaryDirectory[str]]:
    """Give a private directory whose path is short enough for a socket in it."""
    directory = tempfile.TemporaryDirectory(prefix="headrace-", ignore_cleanup_errors=True)
    if len(directory.name.encode()) > _MAX_PATH_BYTES - len("/front"):
        directory.cleanup()
        directory = tempfile.TemporaryDirectory(prefix="headrace-", dir="/tmp", ignore_cleanup_errors=True)
    try:
        yield directory
    finally:
        directory.cleanup()
