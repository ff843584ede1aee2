"""The life of process 1: listen, load, serve, and end in order for whatever reason."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import uvicorn

from headrace_worker.errors import SettingsError, WorkerError
from headrace_worker.fetch import resolve
from headrace_worker.messages import Embedded, Failed, Loading, Outputs, Ready, Stats, ToFront
from headrace_worker.models.architecture import is_encoder
from headrace_worker.server.core import ENGINE, Core
from headrace_worker.server.embedding import Embeddings
from headrace_worker.server.metrics import Metrics
from headrace_worker.server.orphans import adopt
from headrace_worker.server.peers import Peers
from headrace_worker.server.routes import application
from headrace_worker.server.streams import Streams
from headrace_worker.server.worker import Progress, Worker
from headrace_worker.settings import WorkerSettings
from headrace_worker.text import load_text
from headrace_worker.text.wordpieces import EncoderVocabulary

logger = logging.getLogger(__name__)

CLOSE_S: Final = 2
"""How long answers that were broken off may take to reach their clients."""
KEEP_ALIVE_S: Final = 300
"""Routers keep connections in a pool; closing them early would only make requests meet a closed one."""
EXIT_FAILED: Final = 1
EXIT_NEVER: Final = 2
"""Another start would fail in the same way: whoever supervises the worker need not try."""
EXIT_KILLED: Final = 128 + signal.SIGTERM

Result = TypeVar("Result")


def listen(settings: WorkerSettings) -> socket.socket:
    """Return the listening socket; raise SettingsError when the address is taken or none of this machine."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise SettingsError(
            f"The worker cannot listen on {settings.host}:{settings.port}: {error.strerror or error}. "
            "Choose another --port (0 takes a free one) or another --host."
        ) from None


async def serve(settings: WorkerSettings, listener: socket.socket, engine: Sequence[str] = ENGINE) -> int:
    """Run the worker until it ends; return the exit code."""
    return await Front(settings, listener, engine).run()


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handlers: a signal means a drain here."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class Front:
    """Process 1."""

    def __init__(self, settings: WorkerSettings, listener: socket.socket, engine: Sequence[str]) -> None:
        self._settings = settings
        self._listener = listener
        self._client = httpx.AsyncClient(trust_env=False)
        metrics = Metrics(settings.name, settings.worker)
        core = Core(settings, self._handle, engine)
        self._worker = Worker(settings, metrics, core, Streams(core.send), Peers(self._client), Embeddings(core.send))
        self._server = _Server(_http_config(self._worker))
        self._outcome: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._drain: asyncio.Task[None] | None = None
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def run(self) -> int:
        """Serve until a signal, the core's end or a failed start; return the exit code."""
        self._take_signals()
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        life = asyncio.create_task(self._live())
        reaping = asyncio.create_task(adopt(lambda: self._worker.core.pid))
        self._write_ready_file()
        try:
            ends: list[asyncio.Future[Any]] = [serving, life, self._outcome]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            if life.done():
                self._end(life.result())
            return self._outcome.result() if self._outcome.done() else EXIT_FAILED
        finally:
            reaping.cancel()
            await self._close(serving, life)

    def _end(self, code: int) -> None:
        if not self._outcome.done():
            self._outcome.set_result(code)

    async def _close(self, *tasks: asyncio.Task[None] | asyncio.Task[int]) -> None:
        """End what still runs; answers that were broken off get a moment to reach their clients."""
        serving, life = tasks
        self._worker.draining = True  # what comes now would wait for a core that has gone
        self._worker.streams.fail_all()
        self._worker.embeddings.fail_all()
        self._server.should_exit = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S + 1):
                await asyncio.wait([serving])
        for task in (self._drain, life, serving):
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in (self._drain, life, serving) if task), return_exceptions=True)
        await self._worker.peers.close()
        await self._client.aclose()

    async def _live(self) -> int:
        """Load the model, run the core until it ends, and return the exit code that this means."""
        try:
            resolved = await _detached(partial(resolve, self._settings.model, progress=self._downloaded))
        except WorkerError as error:
            logger.error("the model could not be had: %s", error)  # noqa: TRY400  # a sentence for the user, no traceback
            return _exit_code(permanent=error.permanent)
        self._worker.progress = Progress(phase="load")
        async with asyncio.TaskGroup() as group:
            core = group.create_task(self._worker.core.run())
            group.create_task(self._load_text(resolved.path))
            ended = await core
        if self._worker.stopping:
            return 0
        logger.error("the worker ends: %s", ended.message)
        return _exit_code(permanent=ended.permanent)

    async def _load_text(self, path: Path) -> None:
        try:
            if is_encoder(path):
                self._worker.encoder_text = await _detached(partial(EncoderVocabulary, path))
            else:
                self._worker.text = await _detached(partial(load_text, path, self._worker.settings.chat_template))
        except WorkerError as error:
            logger.error("the tokenizer could not be loaded: %s", error)  # noqa: TRY400  # a sentence for the user, no traceback
            self._end(_exit_code(permanent=error.permanent))

    def _downloaded(self, done: int, total: int) -> None:
        self._worker.progress.done, self._worker.progress.total = done, total

    def _handle(self, message: ToFront) -> None:
        """Take one message of the core."""
        worker = self._worker
        match message:
            case Outputs():
                worker.streams.route(message.outputs)
            case Stats():
                worker.metrics.take(message)
                self._note_load(message)
            case Failed():
                worker.streams.fail(message)
                worker.embeddings.fail(message)
            case Embedded():
                worker.embeddings.take(message)
            case Loading():
                worker.progress.loading(message)
            case Ready():
                worker.ready = message
                worker.metrics.ready(message)
                logger.info("ready: %d KV blocks of %d tokens", message.num_blocks, message.block_size)

    def _note_load(self, stats: Stats) -> None:
        """Know whether the core is idle: hand-offs for other workers run there without any request here."""
        if stats.running or stats.waiting:
            self._quiet.clear()
        else:
            self._quiet.set()

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if self._drain is not None:
            logger.warning("second signal: ending at once")
            self._worker.core.kill()
            self._server.force_exit = True
            self._end(EXIT_KILLED)
            return
        self._worker.draining = True
        self._drain = asyncio.create_task(self._drain_and_stop())

    async def _drain_and_stop(self) -> None:
        """Let running requests finish, then end the core; the deadline cuts what takes longer."""
        logger.info("draining: %d requests run", len(self._worker.streams) + len(self._worker.embeddings))
        try:
            async with asyncio.timeout(self._settings.drain_s):
                await self._worker.streams.wait_idle()
                await self._worker.embeddings.wait_idle()
                await self._quiet.wait()
        except TimeoutError:
            logger.warning("drain took longer than %.0f s; running requests are cut", self._settings.drain_s)
        self._worker.stopping = True
        if self._worker.ready is None:
            self._worker.core.kill()  # while it loads it reads no messages
        await self._worker.core.stop()
        logger.info("drained")
        self._end(0)

    def _write_ready_file(self) -> None:
        if self._settings.ready_file is None:
            return
        host, port = self._listener.getsockname()[:2]
        host = self._settings.advertise or host
        shown = f"[{host}]" if ":" in host else host
        path = Path(self._settings.ready_file)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.write_text(json.dumps({"url": f"http://{shown}:{port}", "pid": os.getpid()}))
        part.replace(path)


def _exit_code(*, permanent: bool) -> int:
    return EXIT_NEVER if permanent else EXIT_FAILED


def _http_config(worker: Worker) -> uvicorn.Config:
    return uvicorn.Config(
        application(worker),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=CLOSE_S,
    )


async def _detached(work: Callable[[], Result]) -> Result:
    """Return what `work` returns in a thread of its own, which does not hold up the end of the process.

    The loop's executor would: it joins its threads, and a download may take an hour.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def tell(result: Result | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # no error means that there is a result

    def run() -> None:
        result, problem = None, None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  # raised again where it is awaited
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
            loop.call_soon_threadsafe(tell, result, problem)

    threading.Thread(target=run, name="headrace-load", daemon=True).start()
    return await done
