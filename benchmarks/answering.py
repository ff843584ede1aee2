"""Stands in for the workers of simulated pods: whoever tries a hand-off between two of them finds that it worked.

All addresses of the pod network are routed to this machine for as long as the context lasts, which takes root. One
server listens for all of them and tells the pods apart by the address that was called.
"""

import contextlib
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import urlsplit

from aiohttp import web

from headrace_api.names import HEADER_PREFILL, HEADER_PREFILL_WORKERS, KV_TRANSFER_BYTES

POD_NETWORK = "10.244.0.0/16"
HTTP_PORT = 8000
_BYTES = 4096


class Workers:
    """The answers of all workers.

    Args:
        name_of: returns the name of the pod that has an address.
    """

    def __init__(self, name_of: Callable[[str], str]) -> None:
        self._name_of = name_of
        self._sent: Counter[str] = Counter()
        self._received: Counter[str] = Counter()

    def application(self) -> web.Application:
        """Return the server's routes."""
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        application.router.add_post("/v1/completions", self._complete)
        application.router.add_post("/handoff/dead", self._dead)
        return application

    async def _metrics(self, request: web.Request) -> web.Response:
        address = _called(request)
        counts = {"sent": self._sent[address], "received": self._received[address]}
        return web.Response(
            text="".join(
                f'{KV_TRANSFER_BYTES}_total{{direction="{side}"}} {count}.0\n' for side, count in counts.items()
            )
        )

    async def _complete(self, request: web.Request) -> web.Response:
        prefill = urlsplit(request.headers[HEADER_PREFILL_WORKERS]).hostname or ""
        self._sent[prefill] += _BYTES
        self._received[_called(request)] += _BYTES
        return web.json_response({"choices": []}, headers={HEADER_PREFILL: self._name_of(prefill)})

    async def _dead(self, _: web.Request) -> web.Response:
        return web.json_response({})


def _called(request: web.Request) -> str:
    assert request.transport is not None
    return str(request.transport.get_extra_info("sockname")[0])


@contextlib.asynccontextmanager
async def answering(name_of: Callable[[str], str]) -> AsyncIterator[None]:
    """Answer in the name of every pod."""
    runner = web.AppRunner(Workers(name_of).application(), access_log=None)
    await runner.setup()
    try:
        with _routed():
            await web.TCPSite(runner, "0.0.0.0", HTTP_PORT).start()
            yield
    finally:
        await runner.cleanup()


@contextlib.contextmanager
def _routed() -> Iterator[None]:
    """Have the pod network's addresses belong to this machine."""
    route = ("local", POD_NETWORK, "dev", "lo")
    subprocess.run(["ip", "route", "replace", *route], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "route", "del", *route], check=False)
